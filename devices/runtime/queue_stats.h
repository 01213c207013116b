#ifndef HOLDFAST_DEVICES_RUNTIME_QUEUE_STATS_H_
#define HOLDFAST_DEVICES_RUNTIME_QUEUE_STATS_H_

#include <cstdint>

namespace holdfast {

// Counters of one queue, in the segment, so that they go on over restarts and
// can be read from outside. Written by the queue's workers with relaxed
// atomics. A crash may lose the last increment: figures, not state.
struct QueueStats {
  uint64_t requests;     // Answered.
  uint64_t errors;       // Broken chains and failed handlers among them.
  uint64_t interrupts;   // Signals to the driver.
  uint64_t kicks;        // Times the leader was woken.
  uint64_t resubmitted;  // Executed again after a crash.
  uint64_t poisoned;     // Answered with an error for having killed twice.
  uint64_t broken;       // Times the driver broke the ring.
  uint64_t reserved;
};
static_assert(sizeof(QueueStats) == 64);

inline void Count(uint64_t& counter, uint64_t n = 1) {
  __atomic_fetch_add(&counter, n, __ATOMIC_RELAXED);
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_QUEUE_STATS_H_

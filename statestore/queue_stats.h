#ifndef HOLDFAST_STATESTORE_QUEUE_STATS_H_
#define HOLDFAST_STATESTORE_QUEUE_STATS_H_

// What a device's queues say of themselves in the sections kStats and kStamps,
// so that it goes on over restarts and can be read from outside (figures.h).
// Written with relaxed atomics. A crash may lose the last change: figures, not
// state.

#include <cstdint>

#include "base/shared_access.h"
#include "statestore/format.h"

namespace holdfast {

// Counters of one queue.
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
static_assert(kMaxQueues * sizeof(QueueStats) <= kStatsSize);

// Where one queue is.
struct QueueStamp {
  uint64_t progress_ns;      // CLOCK_MONOTONIC of the last answer; 0: none.
  uint64_t poisoned_ns;      // Of the last poisoned request; 0: none.
  uint32_t in_flight;        // Taken and not answered.
  uint16_t poisoned_head;    // First descriptor of its chain.
  uint16_t poisoned_deaths;  // So many processes died of it.
  uint64_t reserved[5];
};
static_assert(sizeof(QueueStamp) == kStampSize);

inline void Count(uint64_t& counter, uint64_t n = 1) {
  __atomic_fetch_add(&counter, n, __ATOMIC_RELAXED);
}

// Notes which request was answered with an error, its time last.
inline void StampPoisoned(QueueStamp& stamp, uint16_t head, uint16_t deaths,
                          uint64_t now_ns) {
  SharedAccess::Store(&stamp.poisoned_head, head);
  SharedAccess::Store(&stamp.poisoned_deaths, deaths);
  SharedAccess::StoreRelease(&stamp.poisoned_ns, now_ns);
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_QUEUE_STATS_H_

#ifndef HOLDFAST_DEVICES_VIRTQUEUE_SPLIT_RING_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_SPLIT_RING_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "base/shared_access.h"
#include "devices/bus/guest_memory.h"
#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/vring_layout.h"
#include "statestore/inflight.h"

namespace holdfast {

// Where a ring lies and what was negotiated for it.
struct SplitRingConfig {
  uint16_t size = 0;  // Entries: a power of two, at most vring::kMaxSize.
  // Mapped here, with the sizes and alignments of vring_layout.h.
  uint8_t* descriptors = nullptr;
  uint8_t* available = nullptr;
  uint8_t* used = nullptr;
  bool event_idx = false;  // VIRTIO_F_EVENT_IDX
  bool indirect = false;   // VIRTIO_F_INDIRECT_DESC
};

// An answer: `written` bytes of the writable buffers of request `head`.
struct Completion {
  uint16_t head;
  uint32_t written;
};

enum class PopResult {
  kRequest,  // `head` is ours now, and recorded as in flight.
  kEmpty,    // Nothing to do.
  kBroken,   // The driver broke the ring; only a new life of the queue helps.
};

struct Popped {
  PopResult result;
  uint16_t head;  // With kRequest: less than the ring's size.
};

// The device's side of a split virtqueue (VIRTIO 1.2, 2.7) whose process may be
// killed after any instruction. Every request is answered exactly once as far
// as the driver can see; a request that was not answered when the process died
// is executed again by the next one.
//
//   Recover -> resubmit -> signal once -> { Pop, ReadChain, execute, Publish,
//   signal if NeedsInterrupt } ... -> EnableKicks, wait for a kick -> ...
//
// A first start is the same as a restart. `used->idx` in guest memory and the
// in-flight table are the only state; there is no stored index of the available
// ring. Whatever the driver writes into the rings ends in kBroken or in wrong
// answers to itself, never out of bounds or in an unbounded loop.
//
// Owns neither rings, memory nor the table's region: they outlive it.
// Threads: none of its own. All calls under one lock of the caller, except that
// ReadChain and MarkDirty may run beside them. Nothing allocates after Create,
// except for the message of an error.
template <typename Access>
class BasicSplitRing {
 public:
  using Table = BasicInflightTable<typename Access::Own>;

  // Whether a ring can be there: INVALID_ARGUMENT.
  static absl::Status Check(const SplitRingConfig& config);

  // `table` has room for at least config.size requests. Without one the queue
  // does not survive its process: what was in flight is lost.
  // Errors: INVALID_ARGUMENT.
  static absl::StatusOr<BasicSplitRing> Create(const SplitRingConfig& config,
                                               const GuestMemory* memory,
                                               absl::optional<Table> table);

  // Begins or goes on with the queue's life and returns what is to be executed
  // again, in the order in which it was taken; the span is valid until the next
  // call. The caller then signals the driver once, needed or not, and pops
  // without waiting for a kick: either may have died with the last process.
  // `base` is the first index to fetch as the front-end says; it counts only
  // when the in-flight table is new (or absent), as in other back-ends.
  // Errors: those of BasicInflightTable::Recover, and DATA_LOSS if the table
  // names requests that the ring does not have. The queue must not run then.
  absl::StatusOr<absl::Span<const InflightRequest>> Recover(uint16_t base);

  // Takes the next request.
  Popped Pop();

  // Finds the buffers of `head`, which Pop or Recover returned. Errors:
  // INVALID_ARGUMENT: the driver built a bad chain; `head` is still in flight.
  absl::Status ReadChain(uint16_t head, Chain& chain) const {
    return holdfast::ReadChain(
        {config_.descriptors, config_.size, config_.indirect}, head, *memory_,
        chain);
  }

  // Tells the dirty log that the writable buffers of `chain` were written.
  // Before Publish, also if the request failed half way.
  void MarkDirty(const Chain& chain) const;

  // Answers requests in flight, all of them at once for the driver, whose data
  // is already in guest memory.
  // Errors: INVALID_ARGUMENT if one is not in flight or is named twice: a bug
  // of the device; nothing is answered then.
  absl::Status Publish(absl::Span<const Completion> batch);

  // Whether to signal the driver for what was published since the last call.
  bool NeedsInterrupt();

  // Asks the driver not to kick: the caller is going to look anyway.
  void DisableKicks();
  // Asks for a kick with the next request. True: there is one already, and the
  // kick for it may never come, so go on with Pop.
  bool EnableKicks();

  // Where the ring is logged, if it is (VHOST_VRING_F_LOG). While it is set
  // and the memory has a log, every write to the used ring is logged.
  void SetUsedLog(absl::optional<GuestAddress> used) { used_log_ = used; }
  // Replaces the memory and where the ring lies in it. While no request runs.
  absl::Status SetMemory(const GuestMemory* memory,
                         const SplitRingConfig& config);

  // The first index not fetched (GET_VRING_BASE).
  uint16_t next_avail() const { return next_avail_; }
  uint16_t in_flight() const { return in_flight_; }
  const SplitRingConfig& config() const { return config_; }
  // Says which rule the driver broke after Pop returned kBroken, else nullptr.
  const char* broken() const { return broken_; }
  // The in-flight table, or nullptr; for MarkStarted.
  Table* table() { return table_ ? &*table_ : nullptr; }

 private:
  BasicSplitRing(const SplitRingConfig& config, const GuestMemory* memory,
                 absl::optional<Table> table);

  vring::Available* available() const {
    return reinterpret_cast<vring::Available*>(config_.available);
  }
  vring::Used* used() const {
    return reinterpret_cast<vring::Used*>(config_.used);
  }
  uint16_t* available_slot(uint16_t i) const {
    return reinterpret_cast<uint16_t*>(available() + 1) + i;
  }
  vring::UsedElement* used_slot(uint16_t i) const {
    return reinterpret_cast<vring::UsedElement*>(used() + 1) + i;
  }
  uint16_t* used_event() const { return available_slot(config_.size); }
  uint16_t* avail_event() const {
    return reinterpret_cast<uint16_t*>(used_slot(config_.size));
  }

  Popped Break(const char* why);
  bool Claim(absl::Span<const Completion> batch);
  absl::Status AdoptRecovered(size_t count);
  void LogUsed(const void* at, size_t size) const;

  SplitRingConfig config_;
  const GuestMemory* memory_;
  absl::optional<Table> table_;
  absl::optional<GuestAddress> used_log_;
  const char* broken_ = "not started";
  // By head: 1 while in flight. Ours, so that no scribble upsets the counts.
  std::vector<uint8_t> taken_;
  std::vector<InflightRequest> recovered_;
  uint16_t in_flight_ = 0;
  uint16_t next_avail_ = 0;
  uint16_t seen_avail_ = 0;  // Fetch up to here without looking again.
  uint16_t used_idx_ = 0;
  uint16_t signalled_ = 0;  // used_idx_ at the last NeedsInterrupt.
  bool must_signal_ = true;
};

extern template class BasicSplitRing<SharedAccess>;
using SplitRing = BasicSplitRing<SharedAccess>;

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_SPLIT_RING_H_

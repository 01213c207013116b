#ifndef HOLDFAST_STATESTORE_INFLIGHT_H_
#define HOLDFAST_STATESTORE_INFLIGHT_H_

// The table of requests that a queue's device has taken and not yet answered:
// the orders in which its region (inflight_format.h) is written.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/shared_access.h"
#include "statestore/inflight_format.h"

namespace holdfast {

// A request that the dead process left behind.
struct InflightRequest {
  uint64_t counter;  // Order of fetching.
  uint16_t head;     // < num().
  // How many processes died while this request's handler ran, see MarkStarted.
  uint16_t deaths;
};

// The table over a region, which this class neither owns nor trusts: every
// value is read once and checked, and a scribbled region leads to an error or
// to a wrong set of requests, never out of bounds or to an unbounded loop.
//
// The order of calls is the proof (design: "Virtqueues"):
//   take:    Fetch
//   answer:  used->ring[]; RecordBatchEntry for each; used->idx;
//            Clear for each; FinishBatch
//   restart: Recover
// Each may be cut after any store. Fetch and `used->idx` are the two commits.
//
// Threads: none of its own; the queue's owner serialises all calls. No call
// allocates, except for the message of an error.
template <typename Access>
class BasicInflightTable {
 public:
  // Looks at a region for `num` entries, a power of two; touches nothing yet.
  // `region` outlives the table and is aligned to 8 bytes.
  static absl::StatusOr<BasicInflightTable> Attach(absl::Span<uint8_t> region,
                                                   uint16_t num) {
    if (num == 0 || num > kMaxInflightEntries || (num & (num - 1)) != 0) {
      return absl::InvalidArgumentError(
          "in-flight table: the number of entries is not a power of two");
    }
    if (region.size() < InflightRegionSize(num)) {
      return absl::InvalidArgumentError("in-flight table: region too small");
    }
    if (reinterpret_cast<uintptr_t>(region.data()) % alignof(InflightEntry)) {
      return absl::InvalidArgumentError("in-flight table: region not aligned");
    }
    return BasicInflightTable(region.data(), num);
  }

  uint16_t num() const { return num_; }

  // Whether a queue has used the region since it was made or Reset was cut.
  bool InUse() const {
    return Access::Load(&header()->version) == kInflightVersion;
  }

  // Starts a new life of the queue: no request in flight. `used_idx` is what
  // the used ring says now; a zero there instead would make the first restart
  // of a queue with history clear an entry that is in flight.
  // `avail_offset` is the first index to fetch minus `used_idx`, which is 0
  // unless requests were lost before; it stays constant as long as the queue
  // runs and is kept in the region's unused tail.
  void Reset(uint16_t used_idx, uint16_t avail_offset) {
    Access::Store(&header()->version, uint16_t{0});
    for (uint16_t i = 0; i < num_; ++i) {
      Access::Store(&entry(i)->inflight, uint8_t{0});
    }
    Access::Store(&header()->features, uint64_t{0});
    Access::Store(&header()->desc_num, num_);
    Access::Store(&header()->last_batch_head, uint16_t{0});
    Access::Store(&header()->used_idx, used_idx);
    Access::Store(tail(), avail_offset);
    Access::StoreRelease(&header()->version, kInflightVersion);
    last_batch_head_ = 0;
    next_counter_ = 1;
  }

  // Ends the queue's life: whoever attaches next starts a new one. Only when no
  // request is in flight, or none of them matters any more (device reset).
  void Forget() { Access::StoreRelease(&header()->version, uint16_t{0}); }

  // When `head` (< num()), in flight, was fetched: a name that no other request
  // of this life of the queue has.
  uint64_t counter(uint16_t head) const {
    return Access::Load(&entry(head)->counter);
  }

  uint16_t avail_offset() const { return Access::Load(tail()); }

  // Commits that `head` (< num()) is in flight; the last store does it.
  void Fetch(uint16_t head) {
    InflightEntry* e = entry(head);
    Access::Store(&e->counter, next_counter_++);
    Access::Store(&e->blame, uint16_t{0});
    Access::StoreRelease(&e->inflight, uint8_t{1});
  }

  // Says that the handler of `head`, in flight, runs from here on. If the
  // process dies before the request is cleared, Recover counts it against the
  // request. Without a call nothing is ever counted.
  void MarkStarted(uint16_t head) {
    InflightEntry* e = entry(head);
    const uint16_t blame = Access::Load(&e->blame);
    Access::Store(&e->blame, static_cast<uint16_t>(blame | 1));
  }

  // Adds `head` (< num()) to the batch that the next store of used->idx
  // publishes.
  void RecordBatchEntry(uint16_t head) {
    Access::Store(&entry(head)->next, last_batch_head_);
    Access::Store(&header()->last_batch_head, head);
    last_batch_head_ = head;
  }

  // `head` (< num()) has been published.
  void Clear(uint16_t head) {
    Access::StoreRelease(&entry(head)->inflight, uint8_t{0});
  }

  // All of the batch is cleared; `used_idx` is what was published.
  void FinishBatch(uint16_t used_idx) {
    Access::StoreRelease(&header()->used_idx, used_idx);
  }

  // Finishes the batch that the last process published, `used_idx` being the
  // used ring's index now, and writes what is to be resubmitted, in the order
  // of fetching, to `out`, which has room for num() elements. Returns how many.
  // Idempotent: may be cut after any store and called again.
  // Errors: FAILED_PRECONDITION if the region is not in use or was made for
  // another ring size; DATA_LOSS if it contradicts itself or `used_idx`.
  absl::StatusOr<size_t> Recover(uint16_t used_idx,
                                 absl::Span<InflightRequest> out) {
    if (!InUse() || Access::Load(&header()->desc_num) != num_) {
      return absl::FailedPreconditionError(
          "in-flight table: not in use by a queue of this size");
    }
    if (out.size() < num_) {
      return absl::InvalidArgumentError("in-flight table: no room for result");
    }
    absl::Status resolved = ResolveLastBatch(used_idx);
    if (!resolved.ok()) return resolved;
    return Collect(out);
  }

 private:
  BasicInflightTable(uint8_t* region, uint16_t num)
      : region_(region), num_(num) {}

  InflightHeader* header() const {
    return reinterpret_cast<InflightHeader*>(region_);
  }
  InflightEntry* entry(uint16_t head) const {
    return reinterpret_cast<InflightEntry*>(region_ + sizeof(InflightHeader)) +
           head;
  }
  // A power of two of entries never fills the region up to the alignment.
  uint16_t* tail() const { return reinterpret_cast<uint16_t*>(entry(num_)); }

  absl::Status ResolveLastBatch(uint16_t used_idx) {
    const uint16_t published = used_idx - Access::Load(&header()->used_idx);
    if (published > num_) {
      return absl::DataLossError("in-flight table: used index went astray");
    }
    last_batch_head_ = Access::Load(&header()->last_batch_head);
    uint16_t head = last_batch_head_;
    for (uint16_t i = 0; i < published; ++i) {
      if (head >= num_) {
        return absl::DataLossError("in-flight table: batch leaves the table");
      }
      Clear(head);
      head = Access::Load(&entry(head)->next);
    }
    FinishBatch(used_idx);
    return absl::OkStatus();
  }

  size_t Collect(absl::Span<InflightRequest> out) {
    size_t count = 0;
    uint64_t newest = 0;
    for (uint16_t i = 0; i < num_; ++i) {
      InflightEntry* e = entry(i);
      const uint64_t counter = Access::Load(&e->counter);
      // The last request of all still has its entry, answered or not, so no
      // number is given out twice.
      newest = std::max(newest, counter);
      if (Access::Load(&e->inflight) != 1) continue;
      out[count++] = {counter, i, CountDeath(e)};
    }
    // On the copies: the region may change while we sort.
    std::sort(out.begin(), out.begin() + count,
              [](const InflightRequest& a, const InflightRequest& b) {
                return a.counter != b.counter ? a.counter < b.counter
                                              : a.head < b.head;
              });
    next_counter_ = newest + 1;
    return count;
  }

  // One store, so that a restart of the restart does not count twice.
  static uint16_t CountDeath(InflightEntry* e) {
    const uint16_t blame = Access::Load(&e->blame);
    uint16_t deaths = blame >> 1;
    if ((blame & 1) != 0) {
      if (deaths < 0x7fff) ++deaths;
      Access::Store(&e->blame, static_cast<uint16_t>(deaths << 1));
    }
    return deaths;
  }

  uint8_t* region_;
  uint16_t num_;
  uint16_t last_batch_head_ = 0;  // As in the region, but ours.
  uint64_t next_counter_ = 1;
};

extern template class BasicInflightTable<SharedAccess>;
using InflightTable = BasicInflightTable<SharedAccess>;

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_INFLIGHT_H_

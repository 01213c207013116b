#ifndef HOLDFAST_DEVICES_PCI_NVME_COMPLETION_QUEUE_H_
#define HOLDFAST_DEVICES_PCI_NVME_COMPLETION_QUEUE_H_

// What the segment holds of a completion queue, and in which order a completion
// becomes true: journal, guest's memory, table of commands, journal.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/shared_access.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/submission_queue.h"

namespace holdfast::nvme {

struct CompletionConfig {
  uint64_t base = 0;  // Where the guest has it.
  uint32_t size = 0;  // Entries, from 2 on.
  uint16_t vector = 0;
  bool interrupts = false;
};

// What the commands did that a queue has completed, in all its lives.
struct Traffic {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t sectors_read = 0;  // Of 512 bytes.
  uint64_t sectors_written = 0;

  // What one command adds, in a word.
  static constexpr uint32_t kWrite = 1u << 31;
  static constexpr uint32_t OfRead(uint64_t bytes) {
    return static_cast<uint32_t>(bytes / 512) & ~kWrite;
  }
  static constexpr uint32_t OfWrite(uint64_t bytes) {
    return OfRead(bytes) | kWrite;
  }
  Traffic Plus(uint32_t one) const {
    Traffic sum = *this;
    if (one == 0) return sum;
    ++((one & kWrite) != 0 ? sum.writes : sum.reads);
    ((one & kWrite) != 0 ? sum.sectors_written : sum.sectors_read) +=
        one & ~kWrite;
    return sum;
  }
};
static_assert(sizeof(Traffic) == 32);

// A completion on its way, and whose it is.
struct CompletionRecord {
  Completion completion;
  uint64_t counter;  // Of the command; its queue is completion.sq_id.
  uint32_t slot;     // Its entry in that queue's table.
  uint32_t traffic;  // What it adds.
};
static_assert(sizeof(CompletionRecord) == 32);

// An area, on four cache lines.
struct CompletionArea {
  uint32_t generation;  // Which life of the queue; 0: none.
  uint32_t size;
  uint64_t base;
  uint16_t vector;
  uint16_t interrupts;
  uint8_t reserved0[44];
  uint32_t head;  // As the doorbell said.
  uint8_t reserved1[60];
  uint64_t journaled;  // Completions, the one of `record` included.
  uint64_t posted;     // Completions; never less than journaled - 1.
  CompletionRecord record;
  uint8_t reserved2[16];
  Traffic traffic[2];  // That of posted % 2 counts.
};
static_assert(sizeof(CompletionArea) == 256);

// The queue over its area, which this class neither owns nor trusts.
//
// A completion is posted thus:
//   (1) the record: what is written, where it counts, whose it is
//   (2) journaled + 1, which commits it: the command is never executed again
//   (3) the entry in the guest's memory, its phase last
//   (4) the command's entry in its queue's table is free
//   (5) the other traffic is this one and what the command adds
//   (6) posted + 1
// Cut before (2), the command is executed again. Cut after it, Resolve does (3)
// to (6) again, with the same bytes: the guest may have seen them, but nobody
// else writes that slot before (6), nor the traffic that counts.
//
// Threads: none of its own; the caller serialises all but the statics. No call
// allocates.
template <typename Access>
class BasicCompletionQueue {
 public:
  // Writes an entry to the guest's memory, the last four bytes last.
  using Write =
      absl::FunctionRef<absl::Status(uint64_t address, const Completion&)>;
  // Frees the command's entry.
  using Clear = absl::FunctionRef<void(const CompletionRecord&)>;

  BasicCompletionQueue() = default;
  // Over sizeof(CompletionArea) bytes, aligned to 64, that outlive it.
  explicit BasicCompletionQueue(absl::Span<uint8_t> area)
      : area_(AreaIn(area)) {}

  // Begins life `generation`, not 0. While it is cut the area belongs to none.
  void Format(uint32_t generation, const CompletionConfig& config) {
    Access::Store(&area_->generation, uint32_t{0});
    Access::Store(&area_->size, config.size);
    Access::Store(&area_->base, config.base);
    Access::Store(&area_->vector, config.vector);
    Access::Store(&area_->interrupts, uint16_t{config.interrupts});
    Access::Store(&area_->head, uint32_t{0});
    // Both, so that it does not matter which one counts.
    const uint64_t posted = Access::Load(&area_->posted);
    Access::Copy(&area_->traffic[(posted + 1) % 2], &area_->traffic[posted % 2],
                 sizeof(Traffic));
    Access::Store(&area_->journaled, uint64_t{0});
    Access::Store(&area_->posted, uint64_t{0});
    Access::StoreRelease(&area_->generation, generation);
  }

  // Takes over life `generation`. False: the area is of another one, or says
  // what cannot be.
  bool Attach(uint32_t generation) {
    if (Access::LoadAcquire(&area_->generation) != generation) return false;
    config_.size = Access::Load(&area_->size);
    config_.base = Access::Load(&area_->base);
    config_.vector = Access::Load(&area_->vector);
    config_.interrupts = Access::Load(&area_->interrupts) != 0;
    posted_ = Access::Load(&area_->posted);
    const uint64_t journaled = Access::Load(&area_->journaled);
    unresolved_ = journaled != posted_;
    return config_.size >= 2 && config_.size <= kMaxQueueSize &&
           (journaled == posted_ || journaled == posted_ + 1);
  }

  // Ends what a predecessor began. To be called before any command is executed
  // again. Idempotent. Errors: those of `write`.
  absl::Status Resolve(Write write, Clear clear) {
    if (!unresolved_) return absl::OkStatus();
    CompletionRecord record;
    Access::Copy(&record, &area_->record, sizeof(record));
    return Finish(record, write, clear);
  }

  const CompletionConfig& config() const { return config_; }

  // How many more completions the guest has room for.
  uint32_t Room() const { return config_.size - 1 - Unseen(); }
  // Whether there are completions that the guest has not taken.
  bool HasUnseen() const { return Unseen() != 0; }

  // Posts `completion`, for the command `counter` in entry `slot` of the queue
  // that it names and adds `traffic`; the phase is filled in. Precondition:
  // Room() > 0. Errors: those of `write`; then the queue cannot be used any
  // more in this process.
  absl::Status Post(Completion completion, uint64_t counter, size_t slot,
                    uint32_t traffic, Write write, Clear clear) {
    const bool phase = (posted_ / config_.size) % 2 == 0;
    completion.status =
        static_cast<uint16_t>((completion.status & ~1u) | (phase ? 1u : 0u));
    const CompletionRecord record = {completion, counter,
                                     static_cast<uint32_t>(slot), traffic};
    Access::Copy(&area_->record, &record, sizeof(record));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    Access::StoreRelease(&area_->journaled, posted_ + 1);
    return Finish(record, write, clear);
  }

  // ---- The doorbell's thread, of a queue that lives ----

  static uint32_t SizeIn(absl::Span<uint8_t> area) {
    return Access::Load(&AreaIn(area)->size);
  }
  // Of all lives; by the caller's serialisation no completion is on its way.
  static Traffic TrafficIn(absl::Span<uint8_t> area) {
    const CompletionArea* const a = AreaIn(area);
    Traffic traffic;
    Access::Copy(&traffic, &a->traffic[Access::Load(&a->posted) % 2],
                 sizeof(traffic));
    return traffic;
  }
  static uint32_t HeadIn(absl::Span<uint8_t> area) {
    return Access::LoadAcquire(&AreaIn(area)->head);
  }
  // A fence follows: then see which submission queues are stalled.
  static void StoreHead(absl::Span<uint8_t> area, uint32_t head) {
    Access::StoreRelease(&AreaIn(area)->head, head);
    Access::Fence();
  }
  // As HasUnseen, for the vector of a queue that interrupts; nullopt otherwise.
  static std::optional<uint16_t> InterruptsIn(absl::Span<uint8_t> area) {
    const CompletionArea* const a = AreaIn(area);
    const uint32_t size = Access::Load(&a->size);
    if (size == 0 || Access::Load(&a->interrupts) == 0 ||
        Access::LoadAcquire(&a->posted) % size == Access::Load(&a->head)) {
      return std::nullopt;
    }
    return Access::Load(&a->vector);
  }

 private:
  static CompletionArea* AreaIn(absl::Span<uint8_t> area) {
    return reinterpret_cast<CompletionArea*>(area.data());
  }

  uint32_t Unseen() const {
    const uint32_t head = Access::LoadAcquire(&area_->head);
    const uint32_t tail = static_cast<uint32_t>(posted_ % config_.size);
    return (tail + config_.size - head % config_.size) % config_.size;
  }

  absl::Status Finish(const CompletionRecord& record, Write write,
                      Clear clear) {
    const uint64_t slot = posted_ % config_.size;
    absl::Status written =
        write(config_.base + slot * sizeof(Completion), record.completion);
    if (!written.ok()) return written;
    clear(record);
    Traffic sum;
    Access::Copy(&sum, &area_->traffic[posted_ % 2], sizeof(sum));
    sum = sum.Plus(record.traffic);
    ++posted_;
    Access::Copy(&area_->traffic[posted_ % 2], &sum, sizeof(sum));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    unresolved_ = false;
    Access::StoreRelease(&area_->posted, posted_);
    return absl::OkStatus();
  }

  CompletionArea* area_ = nullptr;
  CompletionConfig config_;
  uint64_t posted_ = 0;
  bool unresolved_ = false;
};

using CompletionQueue = BasicCompletionQueue<SharedAccess>;

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_COMPLETION_QUEUE_H_

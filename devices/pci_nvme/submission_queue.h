#ifndef HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_QUEUE_H_
#define HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_QUEUE_H_

// What the segment holds of a submission queue, and in which order it changes:
// the commands that were fetched and not yet completed, so that a command is
// known before its slot in the guest's memory is given back.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "base/shared_access.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/submission_area.h"
#include "devices/pci_nvme/submission_doorbell.h"

namespace holdfast::nvme {

// The queue over its area, which this class neither owns nor trusts: a
// scribbled area leads to a wrong set of commands or to none, never out of
// bounds. Commands are counted from 1; number n was in the guest's slot
// (n - 1) % size.
//
// The order of calls is the proof:
//   take:    Fetch, and only then may a completion say that the slot is free
//   answer:  see completion_queue.h, which calls Clear
//   restart: Attach; what it lists is executed again in that order, before
//            anything new is fetched
//
// Threads: none of its own; the caller serialises all but the statics. No call
// allocates.
template <typename Access>
class BasicSubmissionQueue : public SubmissionDoorbell<Access> {
 public:
  static constexpr size_t kMaxInFlight = 64;

  static constexpr uint32_t AreaSize(size_t in_flight) {
    return static_cast<uint32_t>(sizeof(SubmissionHeader) +
                                 in_flight * sizeof(SubmissionEntry));
  }

  BasicSubmissionQueue() = default;
  // Over at least AreaSize(1) bytes, aligned to 64, that outlive it.
  explicit BasicSubmissionQueue(absl::Span<uint8_t> area)
      : area_(area.data()),
        slots_(std::min(
            (area.size() - sizeof(SubmissionHeader)) / sizeof(SubmissionEntry),
            kMaxInFlight)) {}

  // Begins life `generation`, not 0, with nothing in flight. While it is cut
  // the area belongs to no life.
  void Format(uint32_t generation, const SubmissionConfig& config) {
    Access::Store(&header()->generation, uint32_t{0});
    Access::Store(&header()->size, config.size);
    Access::Store(&header()->base, config.base);
    Access::Store(&header()->cq, config.cq);
    Access::Store(&header()->identity, config.identity);
    Access::Store(&header()->stalled, uint32_t{0});
    Access::Store(&header()->tail, uint32_t{0});
    Access::Store(&header()->shadows, uint64_t{0});
    Access::Store(&header()->events, uint64_t{0});
    for (size_t i = 0; i < slots_; ++i) {
      Access::Store(&entry(i)->word, uint64_t{0});
      Access::Store(&entry(i)->blame, uint64_t{0});
      Access::Store(&entry(i)->aborted, uint64_t{0});
    }
    Access::StoreRelease(&header()->generation, generation);
  }

  // Takes over what a predecessor left of life `generation`. False: the area is
  // of another life, or says what cannot be.
  bool Attach(uint32_t generation) {
    if (Access::LoadAcquire(&header()->generation) != generation) return false;
    config_.size = Access::Load(&header()->size);
    config_.base = Access::Load(&header()->base);
    config_.cq = Access::Load(&header()->cq);
    config_.identity = Access::Load(&header()->identity);
    if (config_.size < 2 || config_.size > kMaxQueueSize ||
        config_.cq >= kMaxQueues) {
      return false;
    }
    free_ = slots_ == 64 ? ~uint64_t{0} : (uint64_t{1} << slots_) - 1;
    left_ = 0;
    fetched_ = 0;
    std::array<uint64_t, kMaxInFlight> counters;
    for (size_t i = 0; i < slots_; ++i) {
      const uint64_t word = Access::Load(&entry(i)->word);
      // The last command of all still has its entry, completed or not.
      fetched_ = std::max(fetched_, word >> 1);
      if ((word & 1) == 0) continue;
      free_ &= ~(uint64_t{1} << i);
      counters[i] = word >> 1;
      order_[left_++] = static_cast<uint8_t>(i);
    }
    std::sort(order_.begin(), order_.begin() + left_,
              [&counters](uint8_t a, uint8_t b) {
                return counters[a] != counters[b] ? counters[a] < counters[b]
                                                  : a < b;
              });
    next_left_ = 0;
    return true;
  }

  // What was in flight when Attach ran, oldest first; each once.
  std::optional<size_t> TakeLeft() {
    while (next_left_ < left_) {
      const size_t slot = order_[next_left_++];
      if ((Access::Load(&entry(slot)->word) & 1) != 0) return slot;
    }
    return std::nullopt;
  }

  const SubmissionConfig& config() const { return config_; }
  // The guest's slot after the last one that was fetched: what completions
  // report.
  uint16_t head() const {
    return static_cast<uint16_t>(fetched_ % config_.size);
  }
  // Where the next command is.
  uint64_t next_address() const {
    return config_.base + uint64_t{head()} * sizeof(Command);
  }
  // Whether the guest has submitted more than was fetched.
  bool HasNew() const {
    const uint32_t tail = Access::LoadAcquire(&header()->tail);
    return tail < config_.size && tail != head();
  }
  // Whether TakeLeft or Fetch has more to give.
  bool HasMore() const { return next_left_ < left_ || HasNew(); }
  bool HasRoom() const { return free_ != 0; }
  size_t in_flight() const { return slots_ - __builtin_popcountll(free_); }

  // Commits that the next command, `command`, is in flight; the last store does
  // it. Returns its entry. Precondition: HasNew(), HasRoom().
  size_t Fetch(const Command& command) {
    const size_t slot = __builtin_ctzll(free_);
    SubmissionEntry* const e = entry(slot);
    Access::Copy(&e->command, &command, sizeof(command));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    ++fetched_;
    Access::StoreRelease(&e->word, fetched_ << 1 | 1);
    free_ &= ~(uint64_t{1} << slot);
    return slot;
  }

  // Of an entry in flight.
  Command command(size_t slot) const {
    Command command;
    Access::Copy(&command, &entry(slot)->command, sizeof(command));
    return command;
  }
  uint64_t counter(size_t slot) const {
    return Access::Load(&entry(slot)->word) >> 1;
  }

  // How many processes the command in `slot` has crashed; one more. Blame is
  // for the handler of the crash, on the thread that executes the command.
  uint32_t crashes(size_t slot) const {
    return CrashesIn(Access::Load(&entry(slot)->blame), counter(slot));
  }
  void Blame(size_t slot) {
    uint64_t* const blame = &entry(slot)->blame;
    Access::Store(blame, BlameAgain(Access::Load(blame), counter(slot)));
  }

  // Command `by` aborts the one in `slot`, which is older. Whether somebody
  // has; whether `by` has aborted any.
  void MarkAborted(size_t slot, uint64_t by) {
    Access::StoreRelease(&entry(slot)->aborted, by);
  }
  bool IsAborted(size_t slot) const {
    return Access::Load(&entry(slot)->aborted) > counter(slot);
  }
  bool HasAborted(uint64_t by) const {
    for (size_t i = 0; i < slots_; ++i) {
      if (Access::Load(&entry(i)->aborted) == by) return true;
    }
    return false;
  }
  uint32_t life() const { return Access::Load(&header()->generation); }

  // The guest can see, or has a journal that makes it see, the completion of
  // command `counter` in `slot`. Nothing happens if that is not in flight.
  void Clear(size_t slot, uint64_t counter) {
    if (slot >= slots_) return;
    SubmissionEntry* const e = entry(slot);
    if (Access::Load(&e->word) != (counter << 1 | 1)) return;
    Access::StoreRelease(&e->word, counter << 1);
    free_ |= uint64_t{1} << slot;
  }

  // Where the guest has its shadow doorbells and what it compares them with.
  // Storing the same again changes nothing.
  void SetShadows(uint64_t shadows, uint64_t events) {
    Access::Store(&header()->events, events);
    Access::StoreRelease(&header()->shadows, shadows);
  }
  uint64_t shadows() const { return Access::LoadAcquire(&header()->shadows); }
  uint64_t events() const { return Access::Load(&header()->events); }

  // Asks to be called when its completion queue has room. Look once more after
  // it, and take it back when served again.
  void Stall() {
    Access::Store(&header()->stalled, uint32_t{1});
    Access::Fence();
  }
  void Unstall() {
    if (Access::Load(&header()->stalled) == 0) return;
    Access::Store(&header()->stalled, uint32_t{0});
  }

 private:
  SubmissionHeader* header() const {
    return reinterpret_cast<SubmissionHeader*>(area_);
  }
  SubmissionEntry* entry(size_t slot) const {
    return reinterpret_cast<SubmissionEntry*>(area_ +
                                              sizeof(SubmissionHeader)) +
           slot;
  }

  uint8_t* area_ = nullptr;
  size_t slots_ = 0;
  SubmissionConfig config_;
  uint64_t fetched_ = 0;  // How many.
  uint64_t free_ = 0;     // A bit for each entry.
  std::array<uint8_t, kMaxInFlight> order_{};
  size_t left_ = 0;
  size_t next_left_ = 0;
};

using SubmissionQueue = BasicSubmissionQueue<SharedAccess>;

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_SUBMISSION_QUEUE_H_

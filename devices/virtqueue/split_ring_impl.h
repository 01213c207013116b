#ifndef HOLDFAST_DEVICES_VIRTQUEUE_SPLIT_RING_IMPL_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_SPLIT_RING_IMPL_H_

// The members of BasicSplitRing, for split_ring.cc and for tests that bring an
// Access of their own.

#include <algorithm>
#include <utility>

#include "devices/virtqueue/split_ring.h"

namespace holdfast {

template <typename Access>
BasicSplitRing<Access>::BasicSplitRing(const SplitRingConfig& config,
                                       const GuestMemory* memory,
                                       absl::optional<Table> table)
    : config_(config),
      memory_(memory),
      table_(std::move(table)),
      taken_(config.size),
      recovered_(table_ ? table_->num() : 0) {}

template <typename Access>
absl::Status BasicSplitRing<Access>::Check(const SplitRingConfig& config) {
  const auto aligned = [](const uint8_t* area, size_t alignment) {
    return area != nullptr &&
           reinterpret_cast<uintptr_t>(area) % alignment == 0;
  };
  if (config.size == 0 || config.size > vring::kMaxSize ||
      (config.size & (config.size - 1)) != 0) {
    return absl::InvalidArgumentError("split ring: size not a power of two");
  }
  if (!aligned(config.descriptors, vring::kDescriptorAlignment) ||
      !aligned(config.available, vring::kAvailableAlignment) ||
      !aligned(config.used, vring::kUsedAlignment)) {
    return absl::InvalidArgumentError("split ring: area unmapped or unaligned");
  }
  return absl::OkStatus();
}

template <typename Access>
absl::StatusOr<BasicSplitRing<Access>> BasicSplitRing<Access>::Create(
    const SplitRingConfig& config, const GuestMemory* memory,
    absl::optional<Table> table) {
  absl::Status checked = Check(config);
  if (!checked.ok()) return checked;
  if (table && table->num() < config.size) {
    return absl::InvalidArgumentError(
        "split ring: in-flight table smaller than the ring");
  }
  return BasicSplitRing(config, memory, std::move(table));
}

template <typename Access>
absl::Status BasicSplitRing<Access>::SetMemory(const GuestMemory* memory,
                                               const SplitRingConfig& config) {
  absl::Status checked = Check(config);
  if (!checked.ok()) return checked;
  if (config.size != config_.size) {
    return absl::InvalidArgumentError("split ring: a running ring was resized");
  }
  config_ = config;
  memory_ = memory;
  return absl::OkStatus();
}

template <typename Access>
absl::StatusOr<absl::Span<const InflightRequest>>
BasicSplitRing<Access>::Recover(uint16_t base) {
  broken_ = "recovery failed";
  std::fill(taken_.begin(), taken_.end(), uint8_t{0});
  in_flight_ = 0;
  // From here on the index is ours: what the driver scribbles over it does not
  // come back to us.
  used_idx_ = Access::LoadAcquire(&used()->idx);
  if (table_ && table_->InUse()) {
    absl::StatusOr<size_t> count =
        table_->Recover(used_idx_, absl::MakeSpan(recovered_));
    if (!count.ok()) return count.status();
    absl::Status adopted = AdoptRecovered(*count);
    if (!adopted.ok()) return adopted;
    next_avail_ = used_idx_ + in_flight_ + table_->avail_offset();
  } else {
    if (table_) table_->Reset(used_idx_, base - used_idx_);
    next_avail_ = base;
  }
  seen_avail_ = next_avail_;
  must_signal_ = true;
  broken_ = nullptr;
  // The last process may have died with kicks off, and between a write to the
  // used ring and its mark in the log.
  DisableKicks();
  LogUsed(used(), vring::UsedBytes(config_.size, config_.event_idx));
  return absl::MakeConstSpan(recovered_).first(in_flight_);
}

template <typename Access>
absl::Status BasicSplitRing<Access>::AdoptRecovered(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t head = recovered_[i].head;
    if (head >= config_.size) {
      return absl::DataLossError("split ring: unknown request in flight");
    }
    taken_[head] = 1;
  }
  in_flight_ = count;
  return absl::OkStatus();
}

template <typename Access>
Popped BasicSplitRing<Access>::Break(const char* why) {
  broken_ = why;
  return {PopResult::kBroken, 0};
}

template <typename Access>
Popped BasicSplitRing<Access>::Pop() {
  if (broken_ != nullptr) return {PopResult::kBroken, 0};
  if (seen_avail_ == next_avail_) {
    const uint16_t avail = Access::LoadAcquire(&available()->idx);
    if (avail == next_avail_) return {PopResult::kEmpty, 0};
    if (static_cast<uint16_t>(avail - next_avail_) > config_.size) {
      return Break("available index jumped");
    }
    seen_avail_ = avail;
  }
  const uint16_t head =
      Access::Load(available_slot(next_avail_ & (config_.size - 1)));
  if (head >= config_.size) return Break("head outside the table");
  if (taken_[head] != 0) return Break("head made available twice");
  if (table_) table_->Fetch(head);
  taken_[head] = 1;
  ++in_flight_;
  ++next_avail_;
  return {PopResult::kRequest, head};
}

// Takes the batch out of taken_, or nothing of it.
template <typename Access>
bool BasicSplitRing<Access>::Claim(absl::Span<const Completion> batch) {
  for (size_t i = 0; i < batch.size(); ++i) {
    const uint16_t head = batch[i].head;
    if (head < config_.size && taken_[head] != 0) {
      taken_[head] = 0;
      continue;
    }
    while (i-- > 0) taken_[batch[i].head] = 1;
    return false;
  }
  in_flight_ -= batch.size();
  return true;
}

// The order of stores is the proof (design: "Virtqueues"); crash_model_test
// cuts after every one of them. (1), the data, is the caller's.
template <typename Access>
absl::Status BasicSplitRing<Access>::Publish(
    absl::Span<const Completion> batch) {
  if (batch.empty()) return absl::OkStatus();
  if (!Claim(batch)) {
    return absl::InvalidArgumentError(
        "split ring: completion of a request that is not in flight");
  }
  uint16_t index = used_idx_;
  for (const Completion& done : batch) {  // (2)
    vring::UsedElement* slot = used_slot(index++ & (config_.size - 1));
    Access::Store(&slot->id, uint32_t{done.head});
    Access::Store(&slot->size, done.written);
    LogUsed(slot, sizeof(*slot));
  }
  if (table_) {  // (3)
    for (const Completion& done : batch) table_->RecordBatchEntry(done.head);
  }
  used_idx_ = index;
  Access::StoreRelease(&used()->idx, used_idx_);  // (4) The commit.
  if (table_) {
    for (const Completion& done : batch) table_->Clear(done.head);  // (5)
    table_->FinishBatch(used_idx_);                                 // (6)
  }
  LogUsed(&used()->idx, sizeof(used()->idx));
  return absl::OkStatus();
}

template <typename Access>
bool BasicSplitRing<Access>::NeedsInterrupt() {
  Access::Fence();  // used->idx is out before we look whether anyone waits.
  const uint16_t before = signalled_;
  signalled_ = used_idx_;
  if (must_signal_) {
    must_signal_ = false;
    return true;
  }
  if (before == used_idx_) return false;
  if (config_.event_idx) {
    return vring::NeedsEvent(Access::Load(used_event()), used_idx_, before);
  }
  return (Access::Load(&available()->flags) & vring::kNoInterrupt) == 0;
}

template <typename Access>
void BasicSplitRing<Access>::DisableKicks() {
  // With the event index the flag stays 0, and an event index that is not moved
  // on lies behind, where the driver passes it once in 65536 requests.
  Access::Store(&used()->flags,
                config_.event_idx ? uint16_t{0} : vring::kNoNotify);
  LogUsed(&used()->flags, sizeof(used()->flags));
}

template <typename Access>
bool BasicSplitRing<Access>::EnableKicks() {
  if (broken_ != nullptr) return false;
  if (config_.event_idx) {
    Access::Store(avail_event(), next_avail_);
    LogUsed(avail_event(), sizeof(*avail_event()));
  } else {
    Access::Store(&used()->flags, uint16_t{0});
    LogUsed(&used()->flags, sizeof(used()->flags));
  }
  Access::Fence();  // The driver sees the wish, or we see its request.
  return Access::LoadAcquire(&available()->idx) != next_avail_;
}

template <typename Access>
void BasicSplitRing<Access>::MarkDirty(const Chain& chain) const {
  if (!memory_->logging()) return;
  for (const ChainSegment& segment : chain.writable()) {
    memory_->MarkDirty(segment.address, segment.size);
  }
}

template <typename Access>
void BasicSplitRing<Access>::LogUsed(const void* at, size_t size) const {
  if (!used_log_ || !memory_->logging()) return;
  const uint64_t offset = static_cast<const uint8_t*>(at) - config_.used;
  memory_->MarkDirty(GuestAddress{ToInt(*used_log_) + offset}, size);
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_SPLIT_RING_IMPL_H_

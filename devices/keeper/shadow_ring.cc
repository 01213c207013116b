#include "devices/keeper/shadow_ring.h"

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/shared_access.h"

namespace holdfast::keeper {

ShadowRing::ShadowRing(uint8_t* available, uint8_t* used, uint16_t size,
                       bool event_idx)
    : available_(available),
      used_(used),
      size_(size),
      event_idx_(event_idx),
      given_(size),
      answers_(size) {
  std::memset(available_, 0, vring::AvailableBytes(size, event_idx));
  std::memset(used_, 0, vring::UsedBytes(size, event_idx));
}

void ShadowRing::Push(uint16_t head) {
  SharedAccess::Store(available_slot(next_available_++ & (size_ - 1)), head);
  given_[head] = 1;
  ++outstanding_;
}

bool ShadowRing::Expose() {
  if (exposed_ == next_available_) return false;
  const uint16_t before = exposed_;
  exposed_ = next_available_;
  SharedAccess::StoreRelease(&available()->idx, exposed_);
  SharedAccess::Fence();  // It is out before we look whether anyone waits.
  if (event_idx_) {
    const auto* const event =
        reinterpret_cast<const uint16_t*>(used_slot(size_));
    return vring::NeedsEvent(SharedAccess::Load(event), exposed_, before);
  }
  return (SharedAccess::Load(&used()->flags) & vring::kNoNotify) == 0;
}

absl::StatusOr<absl::Span<const Completion>> ShadowRing::Take() {
  const auto count = static_cast<uint16_t>(
      SharedAccess::LoadAcquire(&used()->idx) - next_used_);
  if (count > outstanding_) {
    return absl::DataLossError(
        absl::StrCat("it answers ", count, " requests and has ", outstanding_));
  }
  for (uint16_t i = 0; i < count; ++i) {
    const vring::UsedElement* const slot =
        used_slot(static_cast<uint16_t>(next_used_ + i) & (size_ - 1));
    const uint32_t id = SharedAccess::Load(&slot->id);
    if (id >= size_ || given_[id] == 0) {
      return absl::DataLossError(
          absl::StrCat("it answers request ", id, ", which it does not have"));
    }
    given_[id] = 0;
    answers_[i] = {static_cast<uint16_t>(id), SharedAccess::Load(&slot->size)};
  }
  next_used_ += count;
  outstanding_ -= count;
  return absl::MakeConstSpan(answers_).first(count);
}

bool ShadowRing::HasAnswer() const {
  return SharedAccess::LoadAcquire(&used()->idx) != next_used_;
}

void ShadowRing::DisableCalls() {
  // With the event index one that is not moved on lies behind.
  SharedAccess::Store(&available()->flags,
                      event_idx_ ? uint16_t{0} : vring::kNoInterrupt);
}

bool ShadowRing::EnableCalls() {
  if (event_idx_) {
    SharedAccess::Store(available_slot(size_), next_used_);
  } else {
    SharedAccess::Store(&available()->flags, uint16_t{0});
  }
  SharedAccess::Fence();  // It sees the wish, or we see its answer.
  return HasAnswer();
}

}  // namespace holdfast::keeper

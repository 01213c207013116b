#ifndef HOLDFAST_DEVICES_RUNTIME_DESCRIPTORS_H_
#define HOLDFAST_DEVICES_RUNTIME_DESCRIPTORS_H_

#include <array>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/store/protocol.h"

namespace holdfast {

// Told of descriptors while they are still open.
class ClosingObserver {
 public:
  virtual ~ClosingObserver() = default;
  virtual void BeforeClose(BorrowedFd fd) = 0;
};

// The descriptors of an instance as one process has them, by slot. Owns them.
// Used by the control thread alone.
class DescriptorSlots {
 public:
  // Replaces what `slot` holds; an invalid descriptor empties it. Slots out of
  // range are ignored: they come from a peer.
  void Set(store::Slot slot, UniqueFd fd) {
    if (slot >= fds_.size()) return;
    Close(slot);
    fds_[slot] = std::move(fd);
    ++generations_[slot];
  }
  BorrowedFd Get(store::Slot slot) const {
    return BorrowedFd(slot < fds_.size() ? fds_[slot].get() : -1);
  }
  // Another number after every change of what `slot` holds: what was made of a
  // descriptor is told by it from what would be made of the present one.
  uint64_t generation(store::Slot slot) const {
    return slot < generations_.size() ? generations_[slot] : 0;
  }
  // The store's number of the VMM's connection; 0: there is none.
  uint64_t connection() const { return connection_; }
  void SetConnection(UniqueFd fd, uint64_t number) {
    connection_ = fd.valid() ? number : 0;
    Set(store::kSlotConnection, std::move(fd));
  }
  // Empties every session slot that is not in `bitmap`.
  void RetainSession(absl::Span<const uint64_t> bitmap) {
    for (store::Slot slot = store::kSlotFirstSession;
         slot < store::kSlotEndSession; ++slot) {
      if ((bitmap[slot / 64] >> (slot % 64) & 1) == 0) Close(slot);
    }
  }
  // Of all that is closed here. Outlives this object.
  void SetObserver(ClosingObserver& observer) { observer_ = &observer; }

 private:
  void Close(store::Slot slot) {
    if (!fds_[slot].valid()) return;
    if (observer_ != nullptr) observer_->BeforeClose(fds_[slot]);
    fds_[slot].Reset();
    ++generations_[slot];
  }

  std::array<UniqueFd, store::kSlotCount> fds_;
  std::array<uint64_t, store::kSlotCount> generations_{};
  uint64_t connection_ = 0;
  ClosingObserver* observer_ = nullptr;
};

// Keeps descriptors outside the process, so that they outlive it. Implemented
// by the store's channel for a managed device, by nothing for one that runs
// stand-alone.
class DescriptorKeeper {
 public:
  virtual ~DescriptorKeeper() = default;

  // Returns when `fd` is held for `slot`, or an error when it never will be.
  virtual absl::Status Escrow(store::Slot slot, BorrowedFd fd) = 0;

  // Only these session slots are still needed.
  virtual void Retain(absl::Span<const uint64_t> bitmap) = 0;

  // This connection of the VMM is over: forget it and all session slots.
  virtual void VmmClosed(uint64_t connection) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_DESCRIPTORS_H_

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

// The descriptors of an instance as one process has them, by slot. Owns them.
// Used by the control thread alone.
class DescriptorSlots {
 public:
  // Replaces what `slot` holds; an invalid descriptor empties it. Slots out of
  // range are ignored: they come from a peer.
  void Set(store::Slot slot, UniqueFd fd) {
    if (slot < fds_.size()) fds_[slot] = std::move(fd);
  }
  BorrowedFd Get(store::Slot slot) const {
    return BorrowedFd(slot < fds_.size() ? fds_[slot].get() : -1);
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
      if ((bitmap[slot / 64] >> (slot % 64) & 1) == 0) fds_[slot].Reset();
    }
  }

 private:
  std::array<UniqueFd, store::kSlotCount> fds_;
  uint64_t connection_ = 0;
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

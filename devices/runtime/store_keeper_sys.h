#ifndef HOLDFAST_DEVICES_RUNTIME_STORE_KEEPER_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_STORE_KEEPER_SYS_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/handoff.h"
#include "base/unique_fd.h"
#include "devices/runtime/descriptors.h"
#include "statestore/store/child_channel.h"

namespace holdfast {

// Keeps the descriptors of a managed device in holdfast-store, and finds its
// way to a new store when the old one dies. Control thread only.
class StoreKeeper final : public DescriptorKeeper {
 public:
  // `descriptors` is what this process holds: what a new store is given.
  StoreKeeper(UniqueFd store, UniqueFd control, DescriptorSlots& descriptors);

  // Of channel() and control(). Outlives this object.
  void SetObserver(ClosingObserver& observer) { observer_ = &observer; }

  store::ChildChannel& channel() { return channel_; }
  BorrowedFd control() const { return control_; }

  // The next message of the launcher, if there is one. Does not block.
  // kNewStore: the caller reads what the old store had sent to its end, for
  // that may be newer than `descriptors`, and calls Reattach().
  enum class Control {
    kNone,
    kStop,
    kResourceChanged,
    kLauncherGone,
    kNewStore
  };
  Control ReceiveControl();
  // Whether ReceiveControl() has something that came while this object waited
  // for a store: the channel is not readable for that any more.
  bool HasControl() const { return stop_seen_ || change_seen_; }

  // Goes on with the new store, if there is one. An error leaves this process
  // unable to take over or to deposit; OK also when that store is gone again:
  // there will be another.
  absl::Status Reattach();

  absl::Status Escrow(store::Slot slot, BorrowedFd fd) override;
  void Retain(absl::Span<const uint64_t> bitmap) override;
  void VmmClosed(uint64_t connection) override;

 private:
  // Waits until the launcher has given us a channel to a new store.
  void AwaitStore();

  store::ChildChannel channel_;
  UniqueFd control_;
  UniqueFd next_store_;
  DescriptorSlots& descriptors_;
  ClosingObserver* observer_ = nullptr;
  // Heard while it waited for a store.
  bool stop_seen_ = false;
  bool change_seen_ = false;
};

// For a device that runs stand-alone: nothing is kept.
class NoKeeper final : public DescriptorKeeper {
 public:
  absl::Status Escrow(store::Slot, BorrowedFd) override {
    return absl::OkStatus();
  }
  void Retain(absl::Span<const uint64_t>) override {}
  void VmmClosed(uint64_t) override {}
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_STORE_KEEPER_SYS_H_

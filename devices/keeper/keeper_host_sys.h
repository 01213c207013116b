#ifndef HOLDFAST_DEVICES_KEEPER_KEEPER_HOST_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_KEEPER_HOST_SYS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "devices/keeper/handshake.h"
#include "devices/keeper/keeper_session_sys.h"
#include "devices/keeper/shadow_pump_sys.h"
#include "devices/runtime/device_host.h"

namespace holdfast::keeper {

// The device of every wrapped back-end: a session keeper under the runtime's
// rules. What it has of its back-end comes in resources that are replaced with
// each life of it; see statestore/store/backend_resources.h.
class KeeperHost final : public DeviceHost {
 public:
  // The in-flight region that back-ends are given.
  static constexpr store::Slot kInflightSlot = store::kSlotFirstDevice;
  // The memory of shadow rings, if there are any.
  static constexpr store::Slot kShadowSlot = kInflightSlot + 1;

  explicit KeeperHost(const BackendTraits& traits);

  // DeviceHost.
  uint32_t compat_version() const override { return 1; }
  const std::vector<ResourceSpec>& resources() const override {
    return resources_;
  }
  absl::Status AddTo(SegmentSpec& spec) const override;
  LaneSizes lane_sizes() const override { return SessionHost::Sizes(); }
  absl::Status Build(const HostServices& services) override;
  void MapAhead() override;
  bool TouchSome() override { return session_->TouchSome(); }
  absl::Status Resume(Lane& lane, StateBank& state) override;
  absl::StatusOr<Served> Serve(Lane::Waiting waiting) override;
  int pause_ms() const override { return session_->PauseMs(); }
  // The back-end's socket: it says when a life has ended.
  BorrowedFd event() const override { return session_->backend(); }
  // What the back-end asks for by itself.
  BorrowedFd other_event() const override {
    return session_->backend_requests();
  }
  BorrowedFd third_event() const override { return session_->shadow_news(); }
  // No thread of the current life runs any more.
  BorrowedFd fourth_event() const override { return session_->fence(); }
  void OnEvent() override;
  void ResourceChanged() override {}
  bool IsReplaceable(absl::string_view resource) const override;
  void ResourceReplaced() override { session_->OnBackend(); }
  // The queues are the back-end's, which goes on.
  void Quiesce() override {}

 private:
  // Deposits memory of its own that an instance has for life.
  absl::Status ProvideMemory(store::Slot slot, const char* name, size_t bytes);

  const BackendTraits traits_;
  const std::vector<ResourceSpec> resources_;
  HostServices services_;
  std::optional<KeeperSession> session_;
  std::optional<ShadowPump> pump_;  // Ends before what the session maps.
  Lane* lane_ = nullptr;            // Since Resume.
};

// The class of the program `holdfast-keeper`.
DeviceClass KeeperClass();

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_KEEPER_HOST_SYS_H_

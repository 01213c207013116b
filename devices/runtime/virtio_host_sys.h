#ifndef HOLDFAST_DEVICES_RUNTIME_VIRTIO_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_VIRTIO_HOST_SYS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/runtime/vhost_user_host_sys.h"
#include "devices/runtime/virtio_class.h"

namespace holdfast {

// A VIRTIO device, its queues and the vhost-user host that serves it.
class VirtioHost final : public DeviceHost, private VirtioContext {
 public:
  // The slot of the in-flight region that front-ends get (GET_INFLIGHT_FD).
  static constexpr store::Slot kInflightSlot = store::kSlotFirstDevice;

  VirtioHost(const VirtioClass& device_class, VirtioSpec spec);
  ~VirtioHost() override;

  // DeviceHost.
  uint32_t compat_version() const override { return spec_.compat_version(); }
  const std::vector<ResourceSpec>& resources() const override {
    return spec_.resources();
  }
  absl::Status AddTo(SegmentSpec& spec) const override;
  LaneSizes lane_sizes() const override { return VhostUserHost::Sizes(); }
  absl::Status Build(const HostServices& services) override;
  void MapAhead() override;
  bool TouchSome() override { return host_->TouchSome(); }
  absl::Status Resume(Lane& lane, StateBank& state) override;
  absl::StatusOr<Served> Serve(Lane::Waiting waiting) override;
  // The device wants a change of its configuration told.
  BorrowedFd event() const override { return config_event_; }
  void OnEvent() override;
  void ResourceChanged() override;
  void Quiesce() override { host_->StopQueues(); }

 private:
  // VirtioContext.
  const DeviceOptions& options() const override { return *services_.options; }
  BorrowedFd Resource(absl::string_view name) const override {
    return services_.Resource(name);
  }
  uint32_t guest_version() const override {
    return services_.segment->compat_version();
  }
  void NotifyConfigChange() override;
  const Schema& schema() const override { return services_.segment->schema(); }

  uint16_t MaxQueueSize() const;
  vhost_user::BackendInfo MakeBackendInfo() const;
  absl::Status DepositInflight();

  const VirtioClass class_;
  const VirtioSpec spec_;
  HostServices services_;
  UniqueFd config_event_;
  std::unique_ptr<VirtioDevice> device_;
  std::vector<std::unique_ptr<QueueRunner>> runners_;
  std::unique_ptr<VhostUserHost> host_;
  Lane* lane_ = nullptr;  // Since Resume.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_VIRTIO_HOST_SYS_H_

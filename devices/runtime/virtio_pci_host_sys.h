#ifndef HOLDFAST_DEVICES_RUNTIME_VIRTIO_PCI_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_VIRTIO_PCI_HOST_SYS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/region_host_sys.h"
#include "devices/runtime/ring_executor_sys.h"
#include "devices/runtime/vfio_user_host_sys.h"
#include "devices/runtime/virtio_class.h"
#include "devices/virtio_pci/virtio_function.h"

namespace holdfast {

// A VIRTIO device as a PCI function, its queues, and the vfio-user host that
// serves it.
class VirtioPciHost final : public RegionHost,
                            private VirtioContext,
                            private VfioUserWatcher {
 public:
  // Errors: the description breaks a rule (VirtioFunction::StateSchema).
  static absl::StatusOr<std::unique_ptr<DeviceHost>> Create(
      const VirtioClass& device_class, VirtioSpec spec);
  ~VirtioPciHost() override;

  // DeviceHost.
  absl::Status AddTo(SegmentSpec& spec) const override;
  absl::Status Build(const HostServices& services) override;
  absl::Status Resume(Lane& lane, StateBank& state) override;
  // Queues want interrupts through registers or memory that only the VMM can
  // reach, or the device wants a change of its configuration told.
  BorrowedFd event() const override { return event_; }
  BorrowedFd other_event() const override { return host().event(); }
  void OnEvent() override;
  void ResourceChanged() override;
  void Quiesce() override;

 private:
  VirtioPciHost(const VirtioClass& device_class, VirtioSpec spec,
                Schema schema);

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

  // VfioUserWatcher.
  void BeforeMemoryChanges() override { executor_->LetGo(); }
  void MemoryChanged() override {
    executor_->SetMemory(host().windows().Mapped());
  }
  void VectorsChanged() override { executor_->SignalAll(); }

  const VirtioClass class_;
  const VirtioSpec spec_;
  std::optional<VirtioSpec> seen_;  // By the guest; since Build.
  HostServices services_;
  UniqueFd event_;
  std::atomic<bool> config_asked_{false};
  bool active_ = false;
  std::unique_ptr<VirtioDevice> device_;
  std::unique_ptr<RingExecutor> executor_;
  std::unique_ptr<virtio_pci::VirtioFunction> function_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_VIRTIO_PCI_HOST_SYS_H_

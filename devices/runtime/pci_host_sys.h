#ifndef HOLDFAST_DEVICES_RUNTIME_PCI_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_PCI_HOST_SYS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/shm_sys.h"
#include "devices/bus/pci_function.h"
#include "devices/bus/pci_state.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/pci_class.h"
#include "devices/runtime/vfio_user_host_sys.h"
#include "statestore/segment.h"

namespace holdfast {

// A PCI function and the vfio-user host that serves it.
class PciHost final : public DeviceHost {
 public:
  // The slot of the memory of BAR 0; those of the others follow.
  static constexpr store::Slot kBarSlots = store::kSlotFirstDevice + 1;

  // Errors: the description breaks a rule (PciState::Create).
  static absl::StatusOr<std::unique_ptr<DeviceHost>> Create(
      const PciClass& device_class, const PciSpec& spec);
  ~PciHost() override;

  // DeviceHost.
  uint32_t compat_version() const override { return spec_.compat_version(); }
  const std::vector<ResourceSpec>& resources() const override {
    return spec_.resources();
  }
  absl::Status AddTo(SegmentSpec& spec) const override;
  LaneSizes lane_sizes() const override { return VfioUserHost::Sizes(); }
  absl::Status Build(const HostServices& services) override;
  void MapAhead() override { host_->MapAhead(); }
  bool TouchSome() override { return host_->TouchSome(); }
  absl::Status Resume(Lane& lane, StateBank& state) override;
  Lane::Waiting waiting() const override { return Lane::Waiting::kEdge; }
  absl::StatusOr<Served> Serve(Lane::Waiting waiting) override {
    return host_->Serve(waiting);
  }
  BorrowedFd event() const override { return host_->event(); }
  BorrowedFd other_event() const override { return host_->ask_event(); }
  void OnEvent() override { host_->OnEvent(); }
  void ResourceChanged() override {}
  void Quiesce() override { host_->Quiesce(); }

 private:
  PciHost(const PciClass& device_class, PciState state);
  // Gives the instance the memory of a BAR when it has none.
  absl::StatusOr<PciServices::BarMemory> MapBar(const HostServices& services,
                                                uint32_t bar);

  const PciClass class_;
  const PciSpec spec_;  // Resolved.
  const Schema schema_;
  std::optional<PciState> state_;     // Until Build.
  const Segment* segment_ = nullptr;  // Since Build.
  std::array<Mapping, pci::kBars> bars_;
  std::unique_ptr<PciFunction> function_;
  std::unique_ptr<VfioUserHost> host_;  // Last: its thread uses the function.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PCI_HOST_SYS_H_

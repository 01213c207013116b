#ifndef HOLDFAST_DEVICES_RUNTIME_PCI_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_PCI_HOST_SYS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/shm_sys.h"
#include "devices/bus/pci_function.h"
#include "devices/bus/pci_state.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/pci_class.h"
#include "devices/runtime/region_host_sys.h"

namespace holdfast {

// A PCI function and the vfio-user host that serves it.
class PciHost final : public RegionHost {
 public:
  // The slot of the memory of BAR 0; those of the others follow.
  static constexpr store::Slot kBarSlots = store::kSlotFirstDevice + 1;

  // Errors: the description breaks a rule (PciState::Create).
  static absl::StatusOr<std::unique_ptr<DeviceHost>> Create(
      const PciClass& device_class, const PciSpec& spec);
  ~PciHost() override;

  // DeviceHost.
  absl::Status Build(const HostServices& services) override;
  absl::Status Resume(Lane& lane, StateBank& state) override;

 private:
  PciHost(const PciClass& device_class, PciState state);
  // Gives the instance the memory of a BAR when it has none.
  absl::StatusOr<PciServices::BarMemory> MapBar(const HostServices& services,
                                                uint32_t bar);

  const PciClass class_;
  const PciSpec spec_;             // Resolved.
  std::optional<PciState> state_;  // Until Build.
  std::array<Mapping, pci::kBars> bars_;
  std::unique_ptr<PciFunction> function_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PCI_HOST_SYS_H_

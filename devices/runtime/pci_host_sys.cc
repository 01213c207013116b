#include "devices/runtime/pci_host_sys.h"

#include <utility>

#include "base/status_macros.h"
#include "devices/runtime/capabilities.h"

namespace holdfast {

DeviceClass OverVfioUser(const PciClass& device_class) {
  DeviceClass result;
  result.options = device_class.options;
  result.protocol = "vfio-user";
  result.open = [device_class](const DeviceOptions& options)
      -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    ASSIGN_OR_RETURN(const PciSpec spec, device_class.spec(options));
    return PciHost::Create(device_class, spec);
  };
  result.describe =
      [device_class](
          const DeviceOptions& options) -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const PciSpec spec, device_class.spec(options));
    return CapabilitiesJson(spec);
  };
  return result;
}

absl::StatusOr<std::unique_ptr<DeviceHost>> PciHost::Create(
    const PciClass& device_class, const PciSpec& spec) {
  ASSIGN_OR_RETURN(PciState state, PciState::Create(spec));
  return std::unique_ptr<DeviceHost>(
      new PciHost(device_class, std::move(state)));
}

PciHost::PciHost(const PciClass& device_class, PciState state)
    : RegionHost(Asks::kMay, state.spec().compat_version(),
                 state.spec().resources(), state.schema(),
                 state.spec().areas().size()),
      class_(device_class),
      spec_(state.spec()),
      state_(std::move(state)) {}

PciHost::~PciHost() { EndHost(); }

absl::StatusOr<PciServices::BarMemory> PciHost::MapBar(
    const HostServices& services, uint32_t bar) {
  const uint64_t size = spec_.BarSize(bar);
  const auto slot = static_cast<store::Slot>(kBarSlots + bar);
  DescriptorSlots& descriptors = *services.descriptors;
  if (!descriptors.Get(slot).valid()) {
    ASSIGN_OR_RETURN(UniqueFd memory, CreateSealedMemfd("holdfast-bar", size));
    RETURN_IF_ERROR(services.keeper->Escrow(slot, memory));
    descriptors.Set(slot, std::move(memory));
  }
  ASSIGN_OR_RETURN(bars_[bar], MapShared(descriptors.Get(slot), 0, size,
                                         MapAccess::kReadWrite));
  return PciServices::BarMemory{bars_[bar].span(), descriptors.Get(slot)};
}

absl::Status PciHost::Build(const HostServices& services) {
  MakeHost(services);
  PciServices pci;
  pci.irqs = &host().irqs();
  pci.dma = &host().dma();
  pci.options = *services.options;
  pci.resources = services.AllResources();
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    if (spec_.bar(bar).kind != BarSpec::Kind::kMemory) continue;
    ASSIGN_OR_RETURN(pci.memory[bar], MapBar(services, bar));
  }
  ASSIGN_OR_RETURN(function_, PciFunction::Create(*std::move(state_),
                                                  services.segment->schema(),
                                                  std::move(pci), class_.make));
  return host().SetDevice(*function_);
}

absl::Status PciHost::Resume(Lane& lane, StateBank& state) {
  RETURN_IF_ERROR(function_->Start(state, areas()));
  return host().Resume(lane);
}

}  // namespace holdfast

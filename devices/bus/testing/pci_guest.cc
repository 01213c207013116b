#include "devices/bus/testing/pci_guest.h"

#include <utility>

#include "devices/bus/pci_registers.h"
#include "devices/bus/pci_state.h"

namespace holdfast::testing {
namespace {

uint64_t MemoryOf(const PciSpec& spec, uint32_t bar) {
  return spec.bar(bar).kind == BarSpec::Kind::kMemory ? spec.bar(bar).size : 0;
}

RegionGuest::Layout LayoutOf(const PciClass& device) {
  RegionGuest::Layout layout;
  layout.schema = Need(PciState::Create(device.spec)).schema();
  layout.areas_size = device.spec.areas().size();
  layout.vectors = PciGuest::kMaxVectors;
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    layout.shared_size += MemoryOf(device.spec, bar);
  }
  return layout;
}

}  // namespace

PciGuest::PciGuest(const PciClass& device, Options options)
    : PciGuest(device, options, Detached()) {
  Begin();
}

PciGuest::PciGuest(const PciClass& device, Options options, Detached)
    : FunctionGuest(device, LayoutOf(device), options) {
  if (layout().shared_size == 0) Make({});
}

PciGuest::~PciGuest() = default;

absl::StatusOr<std::unique_ptr<PciFunction>> PciGuest::MakeFunction(
    absl::Span<uint8_t> shared) {
  PciState state = Need(PciState::Create(device_class().spec));
  PciServices services;
  services.irqs = this;
  services.dma = &windows();
  services.options = device_class().options;
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    const uint64_t size = MemoryOf(state.spec(), bar);
    services.memory[bar].bytes = shared.first(size);
    shared.remove_prefix(size);
  }
  return PciFunction::Create(std::move(state), layout().schema,
                             std::move(services), device_class().make);
}

void PciGuest::EnableMaster() {
  WriteConfig(pci::kCommand.offset(), pci::kCommandMemory | pci::kCommandMaster,
              2);
}

void PciGuest::EnableMsix() {
  WriteConfig(pci::kMsixControl.offset(), pci::kMsixEnable, 2);
}

void PciGuest::UnmaskMsix(uint32_t vector) {
  Write32(Need(device_class().spec.Resolve()).msix_bar(), 16 * vector + 12, 0);
}

}  // namespace holdfast::testing

#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_PROBER_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_PROBER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "devices/bus/pci_state.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/bus/testing/region_prober.h"

namespace holdfast::testing {

// A prober of a PCI function, and of its configuration space.
class PciProber final : public RegionProber {
 public:
  explicit PciProber(const PciClass& device)
      : spec_(*device.spec.Resolve()), guest_(device) {}

  const PciSpec& spec() const { return spec_; }
  PciGuest& guest() override { return guest_; }

  std::vector<Register> RegistersOf(uint32_t region) const override {
    if (region == kPciConfigRegion) return spec_.ConfigFile().registers();
    if (region >= pci::kBars) return {};
    switch (spec_.bar(region).kind) {
      case BarSpec::Kind::kRegisters:
        return spec_.bar(region).file.registers();
      case BarSpec::Kind::kMsix:
        return spec_.MsixFile().registers();
      default:
        return {};
    }
  }
  bool IsGuests(const std::string& field) const override {
    return absl::StartsWith(field, "bar") || absl::StartsWith(field, "pci.") ||
           absl::StartsWith(field, "msix.");
  }
  bool Resets(const Register& reg) const override {
    return reg == pci::kExpressControl;
  }
  bool TakesMore(uint32_t region) const override {
    return region >= pci::kBars || RegistersOf(region).empty();
  }

  // Of configuration space; ones if it fails.
  uint64_t Config(uint64_t offset, size_t size) {
    uint64_t value = 0;
    const absl::Status status = Read(
        kPciConfigRegion, offset, {reinterpret_cast<uint8_t*>(&value), size});
    return status.ok() ? value : ~uint64_t{0} >> (8 * (8 - size));
  }
  void SetConfig(uint64_t offset, uint64_t value, size_t size) {
    (void)Write(kPciConfigRegion, offset,
                {reinterpret_cast<const uint8_t*>(&value), size});
  }
  std::vector<uint8_t> AllConfig() {
    std::vector<uint8_t> all(RegionSize(kPciConfigRegion));
    Expect(Read(kPciConfigRegion, 0, absl::MakeSpan(all)).ok(),
           "configuration space cannot be read at once");
    return all;
  }

 private:
  const PciSpec spec_;
  PciGuest guest_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_PROBER_H_

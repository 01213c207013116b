#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_PROBER_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_PROBER_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "devices/bus/pci_state.h"
#include "devices/bus/testing/pci_conformance.h"
#include "devices/bus/testing/pci_guest.h"

namespace holdfast::testing {

// A guest that makes accesses of any size under names of its own, and writes
// down what it finds wrong.
class PciProber {
 public:
  explicit PciProber(const PciClass& device)
      : spec_(*device.spec.Resolve()),
        schema_(PciState::Create(device.spec)->schema()),
        guest_(device) {}

  const PciSpec& spec() const { return spec_; }
  const Schema& schema() const { return schema_; }
  PciGuest& guest() { return guest_; }
  uint64_t RegionSize(uint32_t region) {
    return guest_.device().regions()[region].size;
  }

  // One access; then all work that it ordered.
  absl::Status Read(uint32_t region, uint64_t offset, absl::Span<uint8_t> out) {
    ++name_;
    return ReadAgain(region, offset, out);
  }
  absl::Status Write(uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) {
    ++name_;
    return WriteAgain(region, offset, bytes);
  }
  // The last one once more, under its name.
  absl::Status ReadAgain(uint32_t region, uint64_t offset,
                         absl::Span<uint8_t> out) {
    const absl::Status status =
        guest_.device().Read(AccessId{name_}, region, offset, out);
    guest_.Work();
    return status;
  }
  absl::Status WriteAgain(uint32_t region, uint64_t offset,
                          absl::Span<const uint8_t> bytes) {
    const absl::Status status =
        guest_.device().Write(AccessId{name_}, region, offset, bytes);
    guest_.Work();
    return status;
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

  // The last committed values of all fields.
  std::vector<uint8_t> Fields() {
    const auto fields = CommittedFields(guest_.state(), schema_);
    return std::vector<uint8_t>(fields.begin(), fields.end());
  }
  // What is different now, besides what the framework does for a carrier.
  std::string CompareFieldsWith(absl::Span<const uint8_t> want) {
    static const auto* const kCarriers =
        new std::set<std::string>{"function.access_id", "function.access_data",
                                  "function.unsent", "function.resets"};
    return CompareFields(schema_, want,
                         CommittedFields(guest_.state(), schema_), *kCarriers);
  }

  // The registers of a region; none for memory and what is not there.
  std::vector<Register> RegistersOf(uint32_t region) const {
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

  // Writes `what` down unless `right`.
  template <typename... Parts>
  bool Expect(bool right, const Parts&... what) {
    // Reason: one broken register is found at each of its accesses.
    constexpr size_t kMost = 24;
    if (!right && found_.size() < kMost)
      found_.push_back(absl::StrCat(what...));
    return right;
  }
  Violations found() const { return found_; }

 private:
  const PciSpec spec_;
  const Schema schema_;
  PciGuest guest_;
  uint64_t name_ = uint64_t{1} << 40;  // Beyond those that the guest gives.
  Violations found_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_PROBER_H_

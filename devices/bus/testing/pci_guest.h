#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_GUEST_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/pci_function.h"
#include "devices/bus/region_device.h"
#include "devices/bus/testing/function_guest.h"

namespace holdfast::testing {

using PciClass = DeviceUnderTest<PciSpec, PciFunction>;
template <typename D>
PciClass PciClassOf() {
  return {D::Spec(), PciDeviceMaker<D>(), {}, {}};
}

// A guest of a PCI function.
class PciGuest final : public FunctionGuest<PciClass, PciFunction> {
 public:
  static constexpr uint32_t kMaxVectors = 64;  // That are counted.

  // Started in memory of its own.
  explicit PciGuest(const PciClass& device) : PciGuest(device, Options()) {}
  PciGuest(const PciClass& device, Options options);
  // To be attached.
  PciGuest(const PciClass& device, Options options, Detached);
  ~PciGuest() override;

  uint32_t ReadConfig(uint64_t offset, size_t size) {
    return static_cast<uint32_t>(Read(kPciConfigRegion, offset, size));
  }
  void WriteConfig(uint64_t offset, uint32_t value, size_t size) {
    Write(kPciConfigRegion, offset, value, size);
  }

  // What drivers do first.
  void EnableMaster();
  void EnableMsix();
  void UnmaskMsix(uint32_t vector);  // In the device's table.

  uint64_t msix_count(uint32_t vector) const {
    return signals(kPciMsixIrq, vector);
  }

 private:
  absl::StatusOr<std::unique_ptr<PciFunction>> MakeFunction(
      absl::Span<uint8_t> shared) override;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_GUEST_H_

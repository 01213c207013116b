#ifndef HOLDFAST_DEVICES_RUNTIME_PCI_CLASS_H_
#define HOLDFAST_DEVICES_RUNTIME_PCI_CLASS_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/pci_device.h"
#include "devices/runtime/device_class.h"
#include "devices/runtime/device_host.h"

namespace holdfast {

// A class of PCI functions with its type erased.
struct PciClass {
  std::vector<OptionSpec> options;
  std::function<absl::StatusOr<PciSpec>(const DeviceOptions&)> spec;
  std::function<absl::StatusOr<std::unique_ptr<PciDevice>>(PciContext&)> make;
};

// Served over vfio-user.
DeviceClass OverVfioUser(const PciClass& device_class);

// The description of D, which has
//   static PciSpec Spec();  or  static StatusOr<PciSpec>
//                                   Spec(const DeviceOptions&);
//   explicit D(PciContext&);  or  static StatusOr<unique_ptr<PciDevice>>
//                                     Make(PciContext&);
//   optionally  static std::vector<OptionSpec> Options();
template <typename D>
PciClass PciClassOf() {
  PciClass device_class;
  device_class.options = internal::OptionsOf<D>();
  device_class.spec = &internal::SpecOf<D, PciSpec>;
  device_class.make = &internal::Make<D, PciDevice, PciContext>;
  return device_class;
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PCI_CLASS_H_

#ifndef HOLDFAST_DEVICES_RUNTIME_PLATFORM_CLASS_H_
#define HOLDFAST_DEVICES_RUNTIME_PLATFORM_CLASS_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/platform_device.h"
#include "devices/runtime/device_class.h"
#include "devices/runtime/device_host.h"

namespace holdfast {

// A class of platform devices with its type erased.
struct PlatformClass {
  std::vector<OptionSpec> options;
  std::function<absl::StatusOr<PlatformSpec>(const DeviceOptions&)> spec;
  std::function<absl::StatusOr<std::unique_ptr<PlatformDevice>>(
      PlatformContext&)>
      make;
};

// Served over vfio-user.
DeviceClass OverVfioUser(const PlatformClass& device_class);

// The description of D, which has Spec, a constructor or Make, and perhaps
// Options, as the classes of other devices (virtio_class.h) have them.
template <typename D>
PlatformClass PlatformClassOf() {
  PlatformClass device_class;
  device_class.options = internal::OptionsOf<D>();
  device_class.spec = &internal::SpecOf<D, PlatformSpec>;
  device_class.make = &internal::Make<D, PlatformDevice, PlatformContext>;
  return device_class;
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PLATFORM_CLASS_H_

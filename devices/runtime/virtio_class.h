#ifndef HOLDFAST_DEVICES_RUNTIME_VIRTIO_CLASS_H_
#define HOLDFAST_DEVICES_RUNTIME_VIRTIO_CLASS_H_

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/device_class.h"
#include "devices/runtime/device_host.h"

namespace holdfast {

// What becomes of requests that a queue has taken and not yet answered when its
// process dies. All but kTracked loses some.
enum class InFlight {
  kTracked,
  // For negative controls: a queue that starts believes used->idx, as
  // front-ends do that know of no in-flight table.
  kForgotten,
  // For measurements: the same, and there is no table, so nothing is recorded.
  kUntracked,
};

// A class of VIRTIO devices with its type erased, so that the runtime is not a
// template.
struct VirtioClass {
  std::vector<OptionSpec> options;
  absl::StatusOr<VirtioSpec> (*spec)(const DeviceOptions&) = nullptr;
  absl::StatusOr<std::unique_ptr<VirtioDevice>> (*make)(VirtioContext&) =
      nullptr;
  // Never set it.
  InFlight in_flight = InFlight::kTracked;
};

// Served over vhost-user.
DeviceClass OverVhostUser(const VirtioClass& device_class);
// Served over vfio-user, as a PCI function.
DeviceClass OverVfioUser(const VirtioClass& device_class);

// The description of D, which has
//   static VirtioSpec Spec();  or  static StatusOr<VirtioSpec>
//                                      Spec(const DeviceOptions&);
//   explicit D(VirtioContext&);  or  static StatusOr<unique_ptr<VirtioDevice>>
//                                        Make(VirtioContext&);
//   optionally  static std::vector<OptionSpec> Options();
template <typename D>
VirtioClass VirtioClassOf() {
  VirtioClass device_class;
  device_class.options = internal::OptionsOf<D>();
  device_class.spec = &internal::SpecOf<D, VirtioSpec>;
  device_class.make = &internal::Make<D, VirtioDevice, VirtioContext>;
  return device_class;
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_VIRTIO_CLASS_H_

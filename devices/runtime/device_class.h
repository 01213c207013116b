#ifndef HOLDFAST_DEVICES_RUNTIME_DEVICE_CLASS_H_
#define HOLDFAST_DEVICES_RUNTIME_DEVICE_CLASS_H_

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/virtio_device.h"

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

// A device class with its type erased, so that the runtime is not a template.
struct DeviceClass {
  std::vector<OptionSpec> options;
  absl::StatusOr<VirtioSpec> (*spec)(const DeviceOptions&);
  absl::StatusOr<std::unique_ptr<VirtioDevice>> (*make)(VirtioContext&);
  // Never set it.
  InFlight in_flight = InFlight::kTracked;
};

namespace internal {

template <typename D, typename = void>
struct HasOptions : std::false_type {};
template <typename D>
struct HasOptions<D, std::void_t<decltype(D::Options())>> : std::true_type {};

template <typename D, typename = void>
struct HasMake : std::false_type {};
template <typename D>
struct HasMake<D,
               std::void_t<decltype(D::Make(std::declval<VirtioContext&>()))>>
    : std::true_type {};

template <typename D>
absl::StatusOr<VirtioSpec> SpecOf(const DeviceOptions& options) {
  if constexpr (std::is_invocable_v<decltype(D::Spec), const DeviceOptions&>) {
    return D::Spec(options);
  } else {
    return D::Spec();
  }
}

template <typename D>
absl::StatusOr<std::unique_ptr<VirtioDevice>> Make(VirtioContext& context) {
  if constexpr (HasMake<D>::value) {
    return D::Make(context);
  } else {
    return std::unique_ptr<VirtioDevice>(std::make_unique<D>(context));
  }
}

}  // namespace internal

// The description of D, which has
//   static VirtioSpec Spec();  or  static StatusOr<VirtioSpec>
//                                      Spec(const DeviceOptions&);
//   explicit D(VirtioContext&);  or  static StatusOr<unique_ptr<VirtioDevice>>
//                                        Make(VirtioContext&);
//   optionally  static std::vector<OptionSpec> Options();
template <typename D>
DeviceClass DeviceClassOf() {
  DeviceClass device_class;
  if constexpr (internal::HasOptions<D>::value) {
    device_class.options = D::Options();
  }
  device_class.spec = &internal::SpecOf<D>;
  device_class.make = &internal::Make<D>;
  return device_class;
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_DEVICE_CLASS_H_

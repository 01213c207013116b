#ifndef HOLDFAST_DEVICES_RUNTIME_DEVICE_CLASS_H_
#define HOLDFAST_DEVICES_RUNTIME_DEVICE_CLASS_H_

// What the classes of devices have in common, whatever their bus: how their
// types are erased.

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/options.h"

namespace holdfast::internal {

template <typename D, typename = void>
struct HasOptions : std::false_type {};
template <typename D>
struct HasOptions<D, std::void_t<decltype(D::Options())>> : std::true_type {};

template <typename D, typename Context, typename = void>
struct HasMake : std::false_type {};
template <typename D, typename Context>
struct HasMake<D, Context,
               std::void_t<decltype(D::Make(std::declval<Context&>()))>>
    : std::true_type {};

template <typename D>
std::vector<OptionSpec> OptionsOf() {
  if constexpr (HasOptions<D>::value) {
    return D::Options();
  } else {
    return {};
  }
}

template <typename D, typename Spec>
absl::StatusOr<Spec> SpecOf(const DeviceOptions& options) {
  if constexpr (std::is_invocable_v<decltype(D::Spec), const DeviceOptions&>) {
    return D::Spec(options);
  } else {
    return D::Spec();
  }
}

template <typename D, typename Device, typename Context>
absl::StatusOr<std::unique_ptr<Device>> Make(Context& context) {
  if constexpr (HasMake<D, Context>::value) {
    return D::Make(context);
  } else {
    return std::unique_ptr<Device>(std::make_unique<D>(context));
  }
}

}  // namespace holdfast::internal

#endif  // HOLDFAST_DEVICES_RUNTIME_DEVICE_CLASS_H_

#ifndef HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_GUEST_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_GUEST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/platform_function.h"
#include "devices/bus/testing/function_guest.h"

namespace holdfast::testing {

using PlatformClass = DeviceUnderTest<PlatformSpec, PlatformFunction>;
template <typename D>
PlatformClass PlatformClassOf() {
  return {D::Spec(), PlatformDeviceMaker<D>(), {}, {}};
}

// A guest of a platform device; its lines are signals(line).
class PlatformGuest final
    : public FunctionGuest<PlatformClass, PlatformFunction> {
 public:
  // Started in memory of its own.
  explicit PlatformGuest(const PlatformClass& device)
      : PlatformGuest(device, Options()) {}
  PlatformGuest(const PlatformClass& device, Options options);
  // To be attached.
  PlatformGuest(const PlatformClass& device, Options options, Detached);
  ~PlatformGuest() override;

 private:
  absl::StatusOr<std::unique_ptr<PlatformFunction>> MakeFunction(
      absl::Span<uint8_t> shared) override;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_GUEST_H_

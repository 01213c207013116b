#ifndef HOLDFAST_DEVICES_BUS_TESTING_FUNCTION_GUEST_H_
#define HOLDFAST_DEVICES_BUS_TESTING_FUNCTION_GUEST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/options.h"
#include "devices/bus/region_device.h"
#include "devices/bus/testing/region_guest.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

// A device class with its type erased.
template <typename Spec, typename Function>
struct DeviceUnderTest {
  Spec spec;
  typename Function::MakeDevice make;
  DeviceOptions options = {};
  // What stands between guest and function, made anew with each function; a
  // control may make mistakes there that a device cannot make.
  std::function<std::unique_ptr<RegionDevice>(RegionDevice&)> wrap = {};
};

// A guest of a function of one bus. What it derives to calls Begin, or leaves
// that, or Attach, to its user.
template <typename Device, typename Function>
class FunctionGuest : public RegionGuest {
 public:
  using Class = Device;
  // For a constructor: the guest is to be attached.
  struct Detached {};

  Function& function() { return *function_; }
  RegionDevice& device() override {
    return wrapper_ == nullptr ? *function_ : *wrapper_;
  }

 protected:
  FunctionGuest(const Device& device, Layout layout, Options options)
      : RegionGuest(std::move(layout), options), device_(device) {}

  const Device& device_class() const { return device_; }
  void Make(absl::Span<uint8_t> shared) final {
    wrapper_.reset();
    function_ = Need(MakeFunction(shared));
    if (device_.wrap) wrapper_ = device_.wrap(*function_);
  }

 private:
  virtual absl::StatusOr<std::unique_ptr<Function>> MakeFunction(
      absl::Span<uint8_t> shared) = 0;
  absl::Status Start(StateBank& bank, absl::Span<uint8_t> areas) final {
    return function_->Start(bank, areas);
  }
  RegionDevice& bare() final { return *function_; }

  const Device device_;
  std::unique_ptr<Function> function_;
  std::unique_ptr<RegionDevice> wrapper_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_FUNCTION_GUEST_H_

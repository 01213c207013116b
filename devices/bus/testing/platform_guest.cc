#include "devices/bus/testing/platform_guest.h"

#include <utility>

#include "devices/bus/platform_state.h"

namespace holdfast::testing {
namespace {

RegionGuest::Layout LayoutOf(const PlatformClass& device) {
  RegionGuest::Layout layout;
  layout.schema = Need(PlatformState::Create(device.spec)).schema();
  layout.areas_size = device.spec.areas().size();
  return layout;
}

}  // namespace

PlatformGuest::PlatformGuest(const PlatformClass& device, Options options)
    : PlatformGuest(device, options, Detached()) {
  Begin();
}

PlatformGuest::PlatformGuest(const PlatformClass& device, Options options,
                             Detached)
    : FunctionGuest(device, LayoutOf(device), options) {
  Make({});
}

PlatformGuest::~PlatformGuest() = default;

absl::StatusOr<std::unique_ptr<PlatformFunction>> PlatformGuest::MakeFunction(
    absl::Span<uint8_t>) {
  PlatformServices services;
  services.irqs = this;
  services.dma = &windows();
  services.options = device_class().options;
  return PlatformFunction::Create(
      Need(PlatformState::Create(device_class().spec)), layout().schema,
      std::move(services), device_class().make);
}

}  // namespace holdfast::testing

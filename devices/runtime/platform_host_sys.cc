#include "devices/runtime/platform_host_sys.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {

DeviceClass OverVfioUser(const PlatformClass& device_class) {
  DeviceClass result;
  result.options = device_class.options;
  result.protocol = "vfio-user";
  result.open = [device_class](const DeviceOptions& options)
      -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    ASSIGN_OR_RETURN(const PlatformSpec spec, device_class.spec(options));
    return PlatformHost::Create(device_class, spec);
  };
  result.describe =
      [device_class](
          const DeviceOptions& options) -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const PlatformSpec spec, device_class.spec(options));
    return absl::StrCat(
        "{\"type\":\"platform\",\"features\":[],\"holdfast\":{\"regions\":",
        spec.regions().size(), ",\"lines\":", spec.lines().size(),
        ",\"compat-version\":", spec.compat_version(), "}}\n");
  };
  return result;
}

absl::StatusOr<std::unique_ptr<DeviceHost>> PlatformHost::Create(
    const PlatformClass& device_class, const PlatformSpec& spec) {
  ASSIGN_OR_RETURN(PlatformState state, PlatformState::Create(spec));
  return std::unique_ptr<DeviceHost>(
      new PlatformHost(device_class, std::move(state)));
}

PlatformHost::PlatformHost(const PlatformClass& device_class,
                           PlatformState state)
    : RegionHost(Asks::kMay, state.spec().compat_version(),
                 state.spec().resources(), state.schema(),
                 state.spec().areas().size()),
      class_(device_class),
      state_(std::move(state)) {}

PlatformHost::~PlatformHost() { EndHost(); }

absl::Status PlatformHost::Build(const HostServices& services) {
  MakeHost(services);
  PlatformServices given;
  given.irqs = &host().irqs();
  given.dma = &host().dma();
  given.options = *services.options;
  given.resources = services.AllResources();
  ASSIGN_OR_RETURN(
      function_,
      PlatformFunction::Create(*std::move(state_), services.segment->schema(),
                               std::move(given), class_.make));
  return host().SetDevice(*function_);
}

absl::Status PlatformHost::Resume(Lane& lane, StateBank& state) {
  RETURN_IF_ERROR(function_->Start(state, areas()));
  return host().Resume(lane);
}

}  // namespace holdfast

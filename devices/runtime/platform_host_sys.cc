#include "devices/runtime/platform_host_sys.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {

DeviceClass OverVfioUser(const PlatformClass& device_class) {
  DeviceClass result;
  result.options = device_class.options;
  result.protocol = "vfio-user";
  result.open = [device_class](const DeviceOptions& options)
      -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    ASSIGN_OR_RETURN(PlatformSpec spec, device_class.spec(options));
    ASSIGN_OR_RETURN(Schema schema, PlatformFunction::StateSchema(spec));
    return std::unique_ptr<DeviceHost>(std::make_unique<PlatformHost>(
        device_class, std::move(spec), std::move(schema)));
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

PlatformHost::~PlatformHost() { EndHost(); }

absl::Status PlatformHost::Build(const HostServices& services) {
  MakeHost(services);
  PlatformFunction::Services given;
  given.irqs = &host().irqs();
  given.options = *services.options;
  given.resources = services.AllResources();
  ASSIGN_OR_RETURN(function_,
                   PlatformFunction::Create(spec_, services.segment->schema(),
                                            std::move(given), class_.make));
  return host().SetDevice(*function_);
}

absl::Status PlatformHost::Resume(Lane& lane, StateBank& state) {
  RETURN_IF_ERROR(function_->Start(state));
  return host().Resume(lane);
}

}  // namespace holdfast

#ifndef HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "devices/bus/platform_function.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/platform_class.h"
#include "devices/runtime/region_host_sys.h"

namespace holdfast {

// A platform device and the vfio-user host that serves it.
class PlatformHost final : public RegionHost {
 public:
  // `schema`: PlatformFunction::StateSchema(spec).
  PlatformHost(const PlatformClass& device_class, PlatformSpec spec,
               Schema schema)
      : RegionHost(Asks::kMay, spec.compat_version(), spec.resources(),
                   std::move(schema)),
        class_(device_class),
        spec_(std::move(spec)) {}
  ~PlatformHost() override;

  // DeviceHost.
  absl::Status Build(const HostServices& services) override;
  absl::Status Resume(Lane& lane, StateBank& state) override;

 private:
  const PlatformClass class_;
  const PlatformSpec spec_;
  std::unique_ptr<PlatformFunction> function_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_

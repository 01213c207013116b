#ifndef HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/bus/platform_function.h"
#include "devices/bus/platform_state.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/platform_class.h"
#include "devices/runtime/region_host_sys.h"

namespace holdfast {

// A platform device and the vfio-user host that serves it.
class PlatformHost final : public RegionHost {
 public:
  // Errors: the description breaks a rule (PlatformState::Create).
  static absl::StatusOr<std::unique_ptr<DeviceHost>> Create(
      const PlatformClass& device_class, const PlatformSpec& spec);
  ~PlatformHost() override;

  // DeviceHost.
  absl::Status Build(const HostServices& services) override;
  absl::Status Resume(Lane& lane, StateBank& state) override;

 private:
  PlatformHost(const PlatformClass& device_class, PlatformState state);

  const PlatformClass class_;
  std::optional<PlatformState> state_;  // Until Build.
  std::unique_ptr<PlatformFunction> function_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_

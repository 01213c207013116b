#ifndef HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/bus/platform_function.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/platform_class.h"
#include "devices/runtime/vfio_user_host_sys.h"

namespace holdfast {

// A platform device and the vfio-user host that serves it.
class PlatformHost final : public DeviceHost {
 public:
  // `schema`: PlatformFunction::StateSchema(spec).
  PlatformHost(const PlatformClass& device_class, PlatformSpec spec,
               Schema schema)
      : class_(device_class),
        spec_(std::move(spec)),
        schema_(std::move(schema)) {}
  ~PlatformHost() override;

  // DeviceHost.
  uint32_t compat_version() const override { return spec_.compat_version(); }
  const std::vector<ResourceSpec>& resources() const override {
    return spec_.resources();
  }
  absl::Status AddTo(SegmentSpec& spec) const override;
  LaneSizes lane_sizes() const override { return VfioUserHost::Sizes(); }
  absl::Status Build(const HostServices& services) override;
  void MapAhead() override { host_->MapAhead(); }
  bool TouchSome() override { return host_->TouchSome(); }
  absl::Status Resume(Lane& lane, StateBank& state) override;
  Lane::Waiting waiting() const override { return Lane::Waiting::kEdge; }
  absl::StatusOr<Served> Serve(Lane::Waiting waiting) override {
    return host_->Serve(waiting);
  }
  BorrowedFd event() const override { return host_->event(); }
  BorrowedFd other_event() const override { return host_->ask_event(); }
  void OnEvent() override { host_->OnEvent(); }
  void ResourceChanged() override {}
  void Quiesce() override { host_->Quiesce(); }

 private:
  const PlatformClass class_;
  const PlatformSpec spec_;
  const Schema schema_;
  std::unique_ptr<PlatformFunction> function_;
  std::unique_ptr<VfioUserHost> host_;  // Last: its thread uses the function.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PLATFORM_HOST_SYS_H_

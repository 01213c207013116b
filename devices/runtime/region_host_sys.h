#ifndef HOLDFAST_DEVICES_RUNTIME_REGION_HOST_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_REGION_HOST_SYS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/device_spec.h"
#include "devices/runtime/device_host.h"
#include "devices/runtime/vfio_user_host_sys.h"
#include "statestore/lane.h"
#include "statestore/schema.h"
#include "statestore/segment.h"

namespace holdfast {

// What devices of all buses that vfio-user carries have in common: the host
// that serves their regions.
//
// That host has a thread, which uses the device. A class whose device has work
// calls EndHost() in its destructor, before members go that the work uses.
class RegionHost : public DeviceHost {
 public:
  // DeviceHost. What a class says otherwise calls these.
  uint32_t compat_version() const override { return compat_version_; }
  const std::vector<ResourceSpec>& resources() const override {
    return resources_;
  }
  absl::Status AddTo(SegmentSpec& spec) const override;
  LaneSizes lane_sizes() const override { return VfioUserHost::Sizes(); }
  void MapAhead() override { host_->MapAhead(); }
  bool TouchSome() override { return host_->TouchSome(); }
  Lane::Waiting waiting() const override { return Lane::Waiting::kEdge; }
  absl::StatusOr<Served> Serve(Lane::Waiting waiting) override {
    return host_->Serve(waiting);
  }
  BorrowedFd event() const override { return host_->event(); }
  BorrowedFd other_event() const override {
    return asks_ == Asks::kMay ? host_->ask_event() : BorrowedFd(-1);
  }
  BorrowedFd other_stream() const override { return host_->twin(); }
  void OnEvent() override { host_->OnEvent(); }
  void ResourceChanged() override { host_->ResourceChanged(); }
  void Quiesce() override { host_->Quiesce(); }

 protected:
  // Whether the device reaches memory by asking the VMM for it (Dma), where it
  // was given no file.
  enum class Asks { kNever, kMay };
  // `schema`: of a new segment. `areas_size`: bytes of the device's areas.
  RegionHost(Asks asks, uint32_t compat_version,
             std::vector<ResourceSpec> resources, Schema schema,
             uint32_t areas_size = 0);
  ~RegionHost() override;

  // First in Build.
  void MakeHost(const HostServices& services);
  void EndHost() { host_.reset(); }
  VfioUserHost& host() const { return *host_; }
  // Of the segment; since MakeHost.
  absl::Span<uint8_t> areas() const {
    return segment_->section(SectionType::kAreas);
  }

 private:
  const Asks asks_;
  const uint32_t compat_version_;
  const std::vector<ResourceSpec> resources_;
  const Schema schema_;
  const uint32_t areas_size_;
  const Segment* segment_ = nullptr;  // Since MakeHost.
  std::unique_ptr<VfioUserHost> host_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_REGION_HOST_SYS_H_

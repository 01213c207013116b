#include "devices/runtime/region_host_sys.h"

#include <utility>

namespace holdfast {

RegionHost::RegionHost(Asks asks, uint32_t compat_version,
                       std::vector<ResourceSpec> resources, Schema schema,
                       uint32_t areas_size)
    : asks_(asks),
      compat_version_(compat_version),
      resources_(std::move(resources)),
      schema_(std::move(schema)),
      areas_size_(areas_size) {}

RegionHost::~RegionHost() = default;

absl::Status RegionHost::AddTo(SegmentSpec& spec) const {
  spec.state = schema_;
  spec.areas_size = areas_size_;
  spec.session_size = asks_ == Asks::kMay ? sizeof(VfioUserRecordWithTwin)
                                          : sizeof(VfioUserRecord);
  return absl::OkStatus();
}

void RegionHost::MakeHost(const HostServices& services) {
  segment_ = services.segment;
  host_ = std::make_unique<VfioUserHost>(
      *services.segment, *services.descriptors, *services.keeper);
}

}  // namespace holdfast

#include "devices/vhost_user/ring_place.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "devices/bus/virtio_ids.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::vhost_user {

absl::StatusOr<SplitRingConfig> PlaceOf(const SessionState& session,
                                        uint16_t queue,
                                        const GuestMemory& memory) {
  const QueueState& state = session.queues[queue];
  SplitRingConfig config;
  config.size = static_cast<uint16_t>(state.num);
  config.event_idx = (session.features & virtio::kFeatureRingEventIdx) != 0;
  config.indirect = (session.features & virtio::kFeatureRingIndirectDesc) != 0;
  const auto at = [&memory](uint64_t address, size_t bytes) {
    return memory.TranslateUser(UserAddress{address}, bytes).host;
  };
  config.descriptors =
      at(state.descriptor, vring::DescriptorBytes(config.size));
  config.available =
      at(state.available, vring::AvailableBytes(config.size, config.event_idx));
  config.used = at(state.used, vring::UsedBytes(config.size, config.event_idx));
  if (config.descriptors == nullptr || config.available == nullptr ||
      config.used == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring ", queue, " lies outside the guest's memory"));
  }
  return config;
}

}  // namespace holdfast::vhost_user

#ifndef HOLDFAST_DEVICES_KEEPER_SHADOW_SESSION_H_
#define HOLDFAST_DEVICES_KEEPER_SHADOW_SESSION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "devices/keeper/inflight_region.h"
#include "devices/vhost_user/session_state.h"
#include "devices/virtqueue/vring_layout.h"
#include "statestore/store/protocol.h"

namespace holdfast::keeper {

// What a back-end is told of a VMM's session when it works behind shadow rings:
// the same, but that it has one more region of memory, where available and used
// rings lie, and that kicks and calls are the keeper's.

// Where ring `queue` lies in the memory of the shadow rings.
constexpr size_t ShadowPages(size_t bytes) { return (bytes + 4095) / 4096; }
inline constexpr size_t kShadowUsedOffset =
    4096 *
    ShadowPages(vring::AvailableBytes(InflightRegion::kMaxQueueSize, true));
inline constexpr size_t kShadowRingBytes =
    kShadowUsedOffset +
    4096 * ShadowPages(vring::UsedBytes(InflightRegion::kMaxQueueSize, true));
inline constexpr size_t kShadowBytes =
    vhost_user::kMaxQueues * kShadowRingBytes;
constexpr size_t ShadowAvailableAt(uint16_t queue) {
  return queue * kShadowRingBytes;
}
constexpr size_t ShadowUsedAt(uint16_t queue) {
  return ShadowAvailableAt(queue) + kShadowUsedOffset;
}

// In slot fields of such a session: descriptors of the keeper's process, which
// are in no slot.
constexpr store::Slot ShadowKickSlot(uint16_t queue) {
  return static_cast<store::Slot>(store::kSlotCount + 2 * queue);
}
constexpr store::Slot ShadowCallSlot(uint16_t queue) {
  return static_cast<store::Slot>(ShadowKickSlot(queue) + 1);
}

// `session` as such a back-end is told it; the memory of the shadow rings is in
// slot `memory`. Ring bases are 0 then. A session without memory stays without.
// kResourceExhausted: it has no room for one more region.
absl::StatusOr<vhost_user::SessionState> ShadowSession(
    const vhost_user::SessionState& session, store::Slot memory);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_SHADOW_SESSION_H_

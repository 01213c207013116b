#ifndef HOLDFAST_DEVICES_VHOST_USER_RING_PLACE_H_
#define HOLDFAST_DEVICES_VHOST_USER_RING_PLACE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "devices/bus/guest_memory.h"
#include "devices/vhost_user/session_state.h"
#include "devices/virtqueue/split_ring.h"

namespace holdfast::vhost_user {

// Where ring `queue` (below kMaxQueues) of `session` lies in `memory`, and what
// was negotiated for it. kInvalidArgument: outside of it.
absl::StatusOr<SplitRingConfig> PlaceOf(const SessionState& session,
                                        uint16_t queue,
                                        const GuestMemory& memory);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_RING_PLACE_H_

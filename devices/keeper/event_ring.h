#ifndef HOLDFAST_DEVICES_KEEPER_EVENT_RING_H_
#define HOLDFAST_DEVICES_KEEPER_EVENT_RING_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/guest_memory.h"
#include "devices/vhost_user/session_state.h"

namespace holdfast::keeper {

// Answers the oldest request of a ring with `event`: an event queue has nothing
// but empty buffers, which wait there for what the device has to say. For a
// ring that nobody works on, and whose requests are answered in order (VIRTIO
// 1.2, 2.7). The guest is not interrupted.
//
// False: the driver has put no buffer there. kInvalidArgument: the ring, or the
// buffer, is not as a driver makes it; nothing was written. Trusts nothing that
// lies in the guest's memory, and reads each of it once.
absl::StatusOr<bool> PutEvent(const GuestMemory& memory,
                              const vhost_user::QueueState& ring,
                              absl::Span<const uint8_t> event);

// Tells a guest with a virtio-vsock device, by its event ring `queue`, that all
// of its connections are over (VIRTIO 1.2, 5.10.6.7). As PutEvent; also false
// while the session's memory is logged for migration, which this does not do.
absl::StatusOr<bool> PutTransportReset(const GuestMemory& memory,
                                       const vhost_user::SessionState& session,
                                       uint16_t queue);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_EVENT_RING_H_

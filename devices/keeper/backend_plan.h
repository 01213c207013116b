#ifndef HOLDFAST_DEVICES_KEEPER_BACKEND_PLAN_H_
#define HOLDFAST_DEVICES_KEEPER_BACKEND_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/store/protocol.h"

namespace holdfast::keeper {

// What must be said to a back-end so that it is where the VMM's session is: a
// pure function of the two. A back-end that has just been started is told the
// whole session, one that lives only what has changed; it is the same function,
// so that the long way is tested by every short one.

// A descriptor of a step.
struct StepFd {
  enum class From : uint8_t {
    kSlot,      // The VMM's, in this slot.
    kInflight,  // The keeper's in-flight region.
  };
  From from = From::kSlot;
  store::Slot slot = 0;
};

// One request to the back-end.
struct Step {
  vhost_user::RequestType type{};
  // Of a ring's request; else 0.
  uint16_t queue = 0;
  size_t payload_size = 0;
  std::array<uint8_t, 280> payload{};
  std::array<StepFd, vhost_user::kMaxMessageFds> fds{};
  size_t fd_count = 0;

  absl::Span<const uint8_t> bytes() const {
    return {payload.data(), payload_size};
  }
};
using Steps = std::vector<Step>;

// What this life of the back-end was agreed on with.
struct Agreement {
  uint64_t features = 0;           // It offers these bits, vhost's included.
  uint64_t protocol_features = 0;  // Acknowledged.
  // The in-flight region that it is given, before any ring starts, unless the
  // VMM has handed one over. 0: it is given none.
  uint64_t inflight_size = 0;
  uint64_t inflight_offset = 0;
  uint16_t inflight_queues = 0;
  uint16_t inflight_queue_size = 0;
};

// Where each ring begins when it starts with these steps.
using RingBases = std::array<uint16_t, vhost_user::kMaxQueues>;

// Whether ring `queue` is to be started in the back-end. A ring outside the
// guest's memory is the guest's mistake: the back-end never hears of it.
bool RingStarts(const vhost_user::SessionState& session, uint16_t queue);
bool AnyRingStarts(const vhost_user::SessionState& session);

// All of `session` that can be told before the rings are to start: what a life
// is told that waits to take another one's place.
vhost_user::SessionState WithoutRings(const vhost_user::SessionState& session);

// The steps from `done`, which the back-end was brought to in this life (all
// zeros: nothing was said but features and owner), to `session`. Rings that are
// started in `done` and not in `session` were stopped before (GET_VRING_BASE),
// and so were those whose size, addresses or kick differ.
Steps PlanSteps(const vhost_user::SessionState& done,
                const vhost_user::SessionState& session,
                const Agreement& agreement, const RingBases& bases);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_BACKEND_PLAN_H_

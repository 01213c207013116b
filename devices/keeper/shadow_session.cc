#include "devices/keeper/shadow_session.h"

#include "absl/status/status.h"
#include "devices/keeper/backend_plan.h"

namespace holdfast::keeper {
namespace {

using vhost_user::kMaxQueues;
using vhost_user::kMaxRegions;
using vhost_user::QueueState;
using vhost_user::RegionState;
using vhost_user::SessionState;

// Where no VMM has memory: beyond what processors of today address, and, in a
// process, beyond what a kernel gives out. One step further if one has.
constexpr uint64_t kGuestAddress = 1ull << 56;
constexpr uint64_t kUserAddress = 1ull << 60;
constexpr uint64_t kStep = 1ull << 40;

bool Overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b ? b - a < a_size : a - b < b_size;
}

bool IsFree(const SessionState& session, const RegionState& wanted) {
  for (size_t i = 0; i < RegionCount(session); ++i) {
    const RegionState& other = session.regions[i];
    if (Overlaps(other.guest_address, other.size, wanted.guest_address,
                 wanted.size) ||
        Overlaps(other.user_address, other.size, wanted.user_address,
                 wanted.size)) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<SessionState> ShadowSession(const SessionState& session,
                                           store::Slot memory) {
  SessionState shadow = session;
  const size_t count = RegionCount(session);
  if (count == 0) return shadow;
  if (count == kMaxRegions) {
    return absl::ResourceExhaustedError(
        "no region of memory is left for the shadow rings");
  }
  RegionState& region = shadow.regions[count];
  region = RegionState{};
  region.guest_address = kGuestAddress;
  region.user_address = kUserAddress;
  region.size = kShadowBytes;
  region.slot = memory;
  // A region lies in the way of a few places at most, unless it is as large as
  // many.
  for (size_t i = 0; i < 4 * kMaxRegions && !IsFree(session, region); ++i) {
    region.guest_address += kStep;
    region.user_address += kStep;
  }
  if (!IsFree(session, region)) {
    return absl::ResourceExhaustedError(
        "no address is left for the shadow rings");
  }
  for (uint16_t i = 0; i < kMaxQueues; ++i) {
    QueueState& queue = shadow.queues[i];
    if (!RingStarts(session, i)) queue.started = 0;
    queue.available = region.user_address + ShadowAvailableAt(i);
    queue.used = region.user_address + ShadowUsedAt(i);
    queue.log_address = 0;
    queue.address_flags = 0;
    queue.kick = ShadowKickSlot(i);
    queue.call = ShadowCallSlot(i);
    queue.err = 0;
  }
  return shadow;
}

}  // namespace holdfast::keeper

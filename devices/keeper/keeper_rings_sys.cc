// The guest's rings, as the keeper sees them: where they begin, what is in
// flight, and whether they move.
#include <chrono>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/keeper/event_ring.h"
#include "devices/keeper/keeper_session_sys.h"
#include "devices/runtime/event_sys.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::keeper {

using vhost_user::QueueState;
using vhost_user::SessionState;

int KeeperSession::PauseMs() const {
  const bool look =
      watch_.watches() && current().speaks() && AnyRingStarts(current().done());
  return look ? static_cast<int>(watch_.period().count()) : -1;
}

// A VMM that says much has it look more often than it must.
void KeeperSession::CheckProgress() {
  if (PauseMs() < 0) return;
  if (std::exchange(watched_, current().number()) != current().number()) {
    watch_.Forget();
  }
  const RingWatch::Time now = std::chrono::steady_clock::now();
  for (uint16_t queue = 0; queue < vhost_user::kMaxQueues; ++queue) {
    if (!RingStarts(current().done(), queue)) continue;
    const absl::Status progress = ProgressOf(queue, now);
    if (progress.ok()) continue;
    GiveUp(current(), progress);
    // It is killed for that, but it was its own fault.
    return blame_.Fault(current().number());
  }
}

absl::Status KeeperSession::ProgressOf(uint16_t queue, RingWatch::Time now) {
  const SessionState& session = applied();
  const auto available = AvailableIndex(session, queue);
  const auto used = UsedIndex(session, queue);
  // What a VMM has taken away there is the back-end's affair.
  if (!available.ok() || !used.ok()) return absl::OkStatus();
  if (!watch_.IsStuck(queue, *available, *used, now)) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("it hangs: ring ", queue, " has requests and no answer for ",
                   absl::FormatDuration(absl::FromChrono(watch_.limit()))));
}

absl::StatusOr<uint16_t> KeeperSession::UsedIndex(const SessionState& session,
                                                  uint16_t queue) const {
  return IndexAt(queue,
                 session.queues[queue].used + offsetof(vring::Used, idx));
}

absl::StatusOr<uint16_t> KeeperSession::AvailableIndex(
    const SessionState& session, uint16_t queue) const {
  return IndexAt(
      queue, session.queues[queue].available + offsetof(vring::Available, idx));
}

absl::StatusOr<uint16_t> KeeperSession::IndexAt(uint16_t queue,
                                                uint64_t address) const {
  const uint8_t* const index =
      memory_.memory()
          .TranslateUser(UserAddress{address}, sizeof(uint16_t))
          .host;
  if (index == nullptr || address % sizeof(uint16_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring ", queue, " lies outside the guest's memory"));
  }
  return SharedAccess::Load(reinterpret_cast<const uint16_t*>(index));
}

absl::Status KeeperSession::FitRegion(BackendLife& life,
                                      const SessionState& session) {
  const uint16_t size = NeededQueueSize(session, agreement_);
  const uint16_t now = own_region_.layout().queue_size;
  if (AnyRingStarts(life.done())) {
    // Its rings cannot get other tables: a back-end that stops one may have
    // requests in hand even when it has said so.
    if (size > now) {
      return absl::FailedPreconditionError(absl::StrCat(
          "its tables are for rings of ", now, " entries, and one of ", size,
          " begins: the next life gets larger ones"));
    }
  } else if (size != 0 && size != now) {
    own_region_.Use(own_region_.Resized(size));
    Save(region_cell_, own_region_.layout());
  }
  PlaceInflight(own_region_, agreement_);
  return absl::OkStatus();
}

absl::StatusOr<KeeperSession::Beginning> KeeperSession::BeginningOf(
    const SessionState& session, uint16_t queue) {
  ASSIGN_OR_RETURN(const uint16_t used_idx, UsedIndex(session, queue));
  ASSIGN_OR_RETURN(InflightTable table, TableOf(session, queue));
  // It ran in a life before: what follows the used index and is not in the
  // table was never taken, and what is will be found there.
  if (table.InUse()) return Beginning{used_idx, /*again=*/true};
  const auto base = static_cast<uint16_t>(session.queues[queue].base);
  table.Reset(used_idx, static_cast<uint16_t>(base - used_idx));
  return Beginning{base, /*again=*/false};
}

absl::StatusOr<InflightTable> KeeperSession::TableOf(
    const SessionState& session, uint16_t queue) {
  const auto num = static_cast<uint16_t>(session.queues[queue].num);
  if (!UsesTheirs(session, queue)) return own_region_.Table(queue, num);
  const size_t stride = InflightRegionSize(session.inflight.queue_size);
  return InflightTable::Attach({their_region_.inside + queue * stride, stride},
                               num);
}

bool KeeperSession::UsesTheirs(const SessionState& session,
                               uint16_t queue) const {
  return vhost_user::TrackedInHandedOverRegion(session, queue) &&
         their_region_.inside != nullptr;
}

void KeeperSession::RaiseKick(const QueueState& queue) {
  RaiseEvent(descriptors_.Get(queue.kick));
}

void KeeperSession::SignalBoth(const QueueState& queue) {
  RaiseKick(queue);
  if (queue.call != 0 && queue.call != vhost_user::kSlotPolled) {
    RaiseEvent(descriptors_.Get(queue.call));
  }
}

uint16_t KeeperSession::TellOfReset(const SessionState& session) {
  const absl::StatusOr<bool> told =
      PutTransportReset(memory_.memory(), session, traits_.reset_queue);
  if (!told.ok()) {
    log_.Warning("the guest is not told of its connections' end: ",
                 told.status().message());
  }
  return told.ok() && *told ? 1 : 0;
}

}  // namespace holdfast::keeper

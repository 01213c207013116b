// A back-end that works behind shadow rings: what it is told, and when they
// begin and end.
#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/keeper_session_sys.h"
#include "devices/keeper/shadow_session.h"
#include "devices/vhost_user/ring_place.h"

namespace holdfast::keeper {

using vhost_user::QueueState;
using vhost_user::SessionState;

// What a life of a keeper that is dead has in its rings only that one knew.
absl::Status KeeperSession::ResumeShadow() {
  if (!shadowed()) return absl::OkStatus();
  DropShadow();
  ASSIGN_OR_RETURN(
      shadow_memory_,
      MapUnaligned(descriptors_.Get(shadow_.memory), 0, kShadowBytes));
  for (BackendLife& life : lives_) {
    if (!life.speaks() || !AnyRingStarts(life.done())) continue;
    GiveUp(life, absl::AbortedError("its keeper has died"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SessionState> KeeperSession::ToldOf(
    const SessionState& session) const {
  if (!shadowed()) return session;
  return ShadowSession(session, shadow_.memory);
}

void KeeperSession::AttendShadow() {
  absl::Status news;
  {
    const auto held = shadow_.pump->Hold();
    news = shadow_.pump->TakeNews();
  }
  const bool same =
      current().number() == shadow_life_ && !current().HasChanged();
  if (!same) {
    DropShadow();
  } else if (!news.ok() && current().speaks()) {
    GiveUp(current(), news);
  }
}

void KeeperSession::DropShadow() {
  const auto held = shadow_.pump->Hold();
  if (shadow_life_ != 0) blame_.Ended(shadow_life_, shadow_.pump->Alone());
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) shadow_.pump->Drop(i);
  (void)shadow_.pump->TakeNews();
  shadow_life_ = 0;
}

absl::Status KeeperSession::TellShadowed(BackendLife& life,
                                         const SessionState& session) {
  ASSIGN_OR_RETURN(const SessionState told, ToldOf(session));
  if (AnyRingStarts(life.done()) &&
      life.done().queues[0].available != told.queues[0].available) {
    return absl::FailedPreconditionError(
        "the VMM has memory where its shadow rings are");
  }
  RETURN_IF_ERROR(FitRegion(life, session));
  TakeWords();
  std::optional<Suspect> convicted;
  const bool fault = blame_.TakeFault(convicted);
  std::vector<uint16_t> begun;
  {
    const auto held = shadow_.pump->Hold();
    shadow_life_ = life.number();
    for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
      if (!RingStarts(told, i) || RingStarts(life.done(), i)) continue;
      RETURN_IF_ERROR(BeginShadow(session, i, fault));
      begun.push_back(i);
    }
    GiveShadow(begun, convicted);
  }
  RETURN_IF_ERROR(life.Tell(told, agreement_, RingBases{}));
  const auto held = shadow_.pump->Hold();
  for (const uint16_t i : begun) shadow_.pump->Run(i, EndsOf(session, i));
  return absl::OkStatus();
}

absl::Status KeeperSession::BeginShadow(const SessionState& session,
                                        uint16_t queue, bool fault) {
  ASSIGN_OR_RETURN(const SplitRingConfig place,
                   vhost_user::PlaceOf(session, queue, memory_.memory()));
  ASSIGN_OR_RETURN(InflightTable table, TableOf(session, queue));
  // Counted by Recover, once, whatever dies until then.
  if (fault && traits_.kick_back != KickBack::kNever) {
    for (uint16_t i = 0; i < place.size; ++i) table.MarkStarted(i);
  }
  ASSIGN_OR_RETURN(SplitRing guest, SplitRing::Create(place, &memory_.memory(),
                                                      std::move(table)));
  uint8_t* const memory = shadow_memory_.inside;
  ASSIGN_OR_RETURN(
      ShadowQueue ring,
      ShadowQueue::Begin(
          std::move(guest),
          ShadowRing(memory + ShadowAvailableAt(queue),
                     memory + ShadowUsedAt(queue), place.size, place.event_idx),
          static_cast<uint16_t>(session.queues[queue].base)));
  shadow_.pump->Set(queue, std::move(ring));
  return absl::OkStatus();
}

void KeeperSession::GiveShadow(absl::Span<const uint16_t> begun,
                               const std::optional<Suspect>& convicted) {
  bool on_trial = false;
  for (const uint16_t i : begun) {
    ShadowQueue& ring = *shadow_.pump->ring(i);
    if (convicted.has_value() && convicted->queue == i &&
        ring.Refuse(*convicted, traits_.kick_back).ok()) {
      const std::string what =
          absl::StrCat("a request of ring ", i,
                       " ends its lives: it is answered with an "
                       "error");
      log_.Warning(what);
      Send(/*life=*/0, store::BackendVerdict::kRefused, what);
    }
    on_trial = on_trial || ring.HasSuspect();
  }
  for (const uint16_t i : begun) shadow_.pump->ring(i)->Give(on_trial);
}

void KeeperSession::TakeWords() {
  store::BackendVerdict word;
  uint8_t bytes[sizeof(word)];
  while (ReceiveFds(Get(store::kBackendVerdicts), absl::MakeSpan(bytes), {},
                    MSG_DONTWAIT)
             .size == sizeof(bytes)) {
    std::memcpy(&word, bytes, sizeof(word));
    if (word.kind == store::BackendVerdict::kFault) blame_.Fault(word.life);
  }
}

ShadowPump::Ends KeeperSession::EndsOf(const SessionState& session,
                                       uint16_t queue) const {
  const QueueState& state = session.queues[queue];
  ShadowPump::Ends ends;
  ends.kick = descriptors_.Get(state.kick);
  // Slot 0 is another one's.
  if (state.call != 0) ends.call = descriptors_.Get(state.call);
  ends.takes = vhost_user::QueueRuns(session, queue) &&
               (shadow_stops_ >> queue & 1) == 0;
  return ends;
}

// The thread must not look at memory, nor wait for descriptors, that go.
absl::Status KeeperSession::ApplyShadow(const SessionState& session) {
  absl::Status applied;
  bool whole;
  {
    const auto held = shadow_.pump->Hold();
    applied = ApplyMemory(session);
    whole = FollowShadow(session);
  }
  if (!whole && current().speaks()) {
    GiveUp(current(), absl::CancelledError(
                          "the VMM took a ring away that it had requests of"));
  }
  return applied;
}

bool KeeperSession::FollowShadow(const SessionState& session) {
  bool whole = true;
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    ShadowQueue* const ring = shadow_.pump->ring(i);
    if (ring == nullptr) continue;
    const auto place = vhost_user::PlaceOf(session, i, memory_.memory());
    if (RingStarts(session, i) && place.ok() &&
        ring->SetMemory(&memory_.memory(), *place).ok()) {
      shadow_.pump->Change(i, EndsOf(session, i));
    } else {
      whole = whole && ring->in_flight() == 0;
      shadow_.pump->Drop(i);
    }
  }
  return whole;
}

// Stopped when all is answered that was taken: what a back-end may still have
// in hand when it says that it has stopped would be done twice.
absl::StatusOr<uint32_t> KeeperSession::StopShadow(uint16_t queue) {
  shadow_stops_ |= 1u << queue;
  std::optional<uint16_t> next;
  {
    const auto held = shadow_.pump->Hold();
    ShadowQueue* const ring = shadow_.pump->ring(queue);
    if (ring != nullptr) {
      shadow_.pump->Change(queue, EndsOf(applied(), queue));
      if (ring->in_flight() == 0) next = ring->next_available();
    }
    if (next.has_value()) shadow_.pump->Drop(queue);
  }
  if (!next.has_value() && IsPatient()) {
    return absl::UnavailableError("not all of its requests are answered");
  }
  stop_asked_.reset();
  shadow_stops_ &= ~(1u << queue);
  absl::Status stopped = absl::DeadlineExceededError(
      "it does not answer what a ring has that the VMM stops");
  if (next.has_value() && current().speaks()) {
    stopped = current().StopRing(queue).status();
  }
  if (!stopped.ok() && current().speaks()) GiveUp(current(), stopped);
  if (next.has_value()) return *next;
  log_.Error("the VMM stops ring ", queue,
             ", and not all of its requests are answered");
  return UsedIndex(applied(), queue).value_or(0);
}

}  // namespace holdfast::keeper

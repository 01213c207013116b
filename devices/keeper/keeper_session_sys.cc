#include "devices/keeper/keeper_session_sys.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/backend_requests_sys.h"

namespace holdfast::keeper {
namespace {

using vhost_user::QueueStart;
using vhost_user::QueueState;
using vhost_user::SessionState;

BackendLife::Slots SlotsOf(const BackendSlots& slots, size_t seat,
                           store::Slot inflight) {
  return {slots[InSeat(seat, store::kBackendRequests)],
          slots[InSeat(seat, store::kBackendRequestsPeer)],
          slots[InSeat(seat, store::kBackendConnection)], inflight};
}

}  // namespace

KeeperSession::KeeperSession(const BackendTraits& traits,
                             const KeeperCells& cells,
                             const BackendSlots& slots,
                             store::Slot inflight_slot,
                             const ShadowParts& shadow,
                             DescriptorSlots& descriptors,
                             DescriptorKeeper& keeper)
    : SessionHost(InfoFor(Offer{}, traits, inflight_slot), descriptors, keeper),
      traits_(traits),
      offer_cell_(cells.own.offer),
      region_cell_(cells.own.region),
      slots_(slots),
      lives_{BackendLife(cells.own.life, SlotsOf(slots, 0, inflight_slot),
                         descriptors, shadow.pump),
             BackendLife(cells.second.life, SlotsOf(slots, 1, inflight_slot),
                         descriptors, shadow.pump)},
      watch_(traits.hang_limit),
      shadow_(shadow) {}

void KeeperSession::LogUnsaved(const absl::Status& committed) {
  if (committed.ok()) return;
  log_.Error("what a back-end has cannot be kept: ", committed.message());
}

absl::Status KeeperSession::Resume(Lane& lane, StateBank& state) {
  state_ = &state;
  offer_ = state.Begin().Get(offer_cell_);
  agreement_ = AgreementWith(offer_, traits_);
  info_ = InfoFor(offer_, traits_, info_.inflight_slot);
  ASSIGN_OR_RETURN(own_memory_,
                   MapUnaligned(descriptors_.Get(info_.inflight_slot), 0,
                                InflightRegion::kBytes));
  own_region_ =
      InflightRegion(own_memory_.inside, state.Begin().Get(region_cell_));
  PlaceInflight(own_region_, agreement_);
  current_ = CurrentSeat();
  for (BackendLife& life : lives_) {
    const absl::Status resumed = life.Resume(state, agreement_);
    if (!resumed.ok()) GiveUp(life, resumed);
  }
  RETURN_IF_ERROR(ResumeShadow());
  RETURN_IF_ERROR(ResumeSession(lane));
  OnBackend();
  return absl::OkStatus();
}

// ---- Lives ----

size_t KeeperSession::NamedSeat() const {
  const BorrowedFd named = Get(store::kBackendCurrent);
  // An earlier launcher knows of one seat alone.
  if (!named.valid()) return 0;
  const uint64_t number = SocketCookie(named);
  for (size_t seat = 0; seat < lives_.size(); ++seat) {
    const BorrowedFd connection = Get(InSeat(seat, store::kBackendConnection));
    if (number != 0 && SocketCookie(connection) == number) return seat;
  }
  return current_;
}

bool KeeperSession::HasFallen(size_t seat) const {
  const BorrowedFd fence = Get(store::FenceOf(seat));
  pollfd poll = {fence.get(), 0, 0};
  const timespec now = {};
  return fence.valid() && ppoll(&poll, 1, &now, nullptr) > 0 &&
         (poll.revents & POLLHUP) != 0;
}

// The launcher, which hears of a life's end only when its memory has been taken
// down, names the same one then.
size_t KeeperSession::CurrentSeat() const {
  const size_t named = NamedSeat();
  const size_t other = lives_.size() - 1 - named;
  const uint64_t next = SocketCookie(Get(store::kBackendNext));
  const BorrowedFd connection = Get(InSeat(other, store::kBackendConnection));
  const bool follows =
      next != 0 && SocketCookie(connection) == next && HasFallen(named);
  return follows ? other : named;
}

// The one that the guest waits for comes first.
void KeeperSession::OnBackend() {
  current_ = CurrentSeat();
  fallen_ = HasFallen(current_);
  current().BecomeCurrent();
  if (shadowed()) AttendShadow();
  Attend(current());
  Attend(spare());
}

void KeeperSession::Attend(BackendLife& life) {
  if (HasFallen(static_cast<size_t>(&life - lives_.data()))) {
    // Its process is known to be dying: the launcher need not be told.
    if (life.speaks()) life.GiveUp(absl::UnavailableError("it is dead"));
    return;
  }
  if (!life.HasChanged() && !life.speaks()) {
    // A launcher that was started again does not know of a verdict.
    if (life.number() != 0) SendVerdict(life);
    return;
  }
  if (const absl::Status said = Converse(life); !said.ok()) GiveUp(life, said);
}

absl::Status KeeperSession::Converse(BackendLife& life) {
  if (life.HasChanged()) {
    if (!life.Begin()) return absl::OkStatus();
    // How long the start of a program lasts, nobody knows.
    return IsCurrent(life) ? Greet(life) : life.Knock();
  }
  life.Refresh();
  if (life.is_starting()) {
    const bool now = IsCurrent(life) || life.HasWord();
    return now ? Greet(life) : absl::OkStatus();
  }
  if (life.HasWord()) return absl::UnavailableError("it has ended");
  return Tell(life, applied());
}

BorrowedFd KeeperSession::backend() const {
  return spare().is_starting() ? spare().connection()
         : current().speaks()  ? current().connection()
                               : BorrowedFd(-1);
}

BorrowedFd KeeperSession::fence() const {
  const bool look = state_ != nullptr && !fallen_;
  return look ? Get(store::FenceOf(current_)) : BorrowedFd(-1);
}

BorrowedFd KeeperSession::backend_requests() const {
  return current().requests();
}

void KeeperSession::GiveUp(BackendLife& life, const absl::Status& why) {
  life.GiveUp(why);
  if (shadowed() && IsCurrent(life)) DropShadow();
  SendVerdict(life);
}

void KeeperSession::SendVerdict(const BackendLife& life) {
  Send(life.number(),
       life.finished() ? store::BackendVerdict::kFinished
                       : store::BackendVerdict::kUseless,
       life.why());
}

void KeeperSession::SendReady(const BackendLife& life) {
  const std::array<uint64_t, 2> said = {
      life.number(), SocketCookie(Get(store::kBackendVerdicts))};
  auto& before = ready_said_[static_cast<size_t>(&life - lives_.data())];
  if (std::exchange(before, said) == said) return;
  Send(life.number(), store::BackendVerdict::kReady, "");
}

void KeeperSession::Send(uint64_t life, uint32_t kind, absl::string_view why) {
  store::BackendVerdict verdict = {};
  verdict.life = life;
  verdict.kind = kind;
  why.copy(verdict.why, sizeof(verdict.why) - 1);
  uint8_t bytes[sizeof(verdict)];
  std::memcpy(bytes, &verdict, sizeof(verdict));
  if (SendFds(Get(store::kBackendVerdicts), bytes, {}, MSG_DONTWAIT) < 0) {
    // One that was started again asks by replacing the channel.
    log_.Warning("no launcher to tell of it: ",
                 ErrnoStatus("send a verdict").message());
  }
}

absl::Status KeeperSession::Greet(BackendLife& life) {
  ASSIGN_OR_RETURN(const Offer now, life.Meet(traits_, offer_.config_size));
  if (offer_.known != 0) {
    RETURN_IF_ERROR(CheckSuccessor(offer_, now, traits_));
    RETURN_IF_ERROR(life.WriteConfigAgain(offer_));
  } else {
    offer_ = now;
    agreement_ = AgreementWith(offer_, traits_);
    info_ = InfoFor(offer_, traits_, info_.inflight_slot);
    Save(offer_cell_, offer_);
  }
  return Tell(life, applied());
}

// ---- What the back-end asks for ----

// Handled before it is taken from the channel, so that a successor finds it
// again. One that is to be answered would be answered twice: a keeper that dies
// meanwhile has been talking to the back-end.
void KeeperSession::OnBackendRequest() {
  const BorrowedFd channel = backend_requests();
  if (!channel.valid()) return;
  const absl::StatusOr<vhost_user::BackendRequest> request =
      PeekBackendRequest(channel);
  if (absl::IsUnavailable(request.status())) return;
  const absl::Status done =
      request.ok() ? Handle(channel, *request) : absl::Status(request.status());
  if (!done.ok()) return GiveUp(current(), done);
  DropBackendRequest(channel, *request);
}

absl::Status KeeperSession::Handle(BorrowedFd channel,
                                   const vhost_user::BackendRequest& request) {
  if (request.need_reply) current().SetTalking(true);
  const bool known =
      request.type == vhost_user::BackendRequestType::kConfigChange;
  if (known) {
    RETURN_IF_ERROR(ReadConfigAgain());
  } else {
    log_.Warning("the back-end's request ", static_cast<uint32_t>(request.type),
                 " is not known");
  }
  if (!request.need_reply) return absl::OkStatus();
  RETURN_IF_ERROR(AnswerBackendRequest(channel, request, known));
  current().SetTalking(false);
  return absl::OkStatus();
}

// A spare that has started before may not be of this opinion.
absl::Status KeeperSession::ReadConfigAgain() {
  const bool told = spare().speaks() && !spare().is_starting();
  if (told) spare().SetTalking(true);
  ASSIGN_OR_RETURN(offer_, current().AskConfig(offer_));
  Save(offer_cell_, offer_);
  SendConfigChange();
  if (!told) return absl::OkStatus();
  const absl::StatusOr<Offer> now = spare().AskConfig(offer_);
  const absl::Status good = now.ok() ? CheckSuccessor(offer_, *now, traits_)
                                     : absl::Status(now.status());
  if (good.ok()) {
    spare().SetTalking(false);
  } else {
    GiveUp(spare(), good);
  }
  return absl::OkStatus();
}

// ---- What the back-end is told ----

absl::Status KeeperSession::Tell(BackendLife& life,
                                 const SessionState& session) {
  if (IsCurrent(life)) {
    RETURN_IF_ERROR(shadowed() ? TellShadowed(life, session)
                               : TellAll(life, session));
  } else {
    ASSIGN_OR_RETURN(const SessionState told, ToldOf(session));
    RETURN_IF_ERROR(life.Tell(WithoutRings(told), agreement_, RingBases{}));
  }
  SendReady(life);
  return absl::OkStatus();
}

absl::Status KeeperSession::TellAll(BackendLife& life,
                                    const SessionState& session) {
  RETURN_IF_ERROR(FitRegion(life, session));
  RingBases bases = {};
  std::vector<const QueueState*> again;
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    if (!RingStarts(session, i) || RingStarts(life.done(), i)) continue;
    ASSIGN_OR_RETURN(const Beginning beginning, BeginningOf(session, i));
    bases[i] = beginning.base;
    if (!beginning.again) continue;
    again.push_back(&session.queues[i]);
    if (i != 0 && i == traits_.reset_queue) bases[i] += TellOfReset(session);
  }
  // A predecessor may have taken a kick and not looked at the ring, and have
  // answered without saying so. A guest may kick at any time, so this one is
  // kicked before it begins, and need not be woken for it; and once more, as it
  // may look away until its ring is enabled.
  for (const QueueState* queue : again) RaiseKick(*queue);
  RETURN_IF_ERROR(life.Tell(session, agreement_, bases));
  for (const QueueState* queue : again) SignalBoth(*queue);
  return absl::OkStatus();
}

// ---- SessionHost ----

absl::Status KeeperSession::Apply(const SessionState& session) {
  RETURN_IF_ERROR(shadowed() ? ApplyShadow(session) : ApplyMemory(session));
  for (BackendLife* life : {&current(), &spare()}) {
    if (!life->speaks() || life->is_starting()) continue;
    const absl::Status told = Tell(*life, session);
    if (!told.ok()) GiveUp(*life, told);
  }
  return absl::OkStatus();
}

absl::Status KeeperSession::ApplyMemory(const SessionState& session) {
  RETURN_IF_ERROR(memory_.Update(session, descriptors_));
  return ApplyInflight(session);
}

absl::Status KeeperSession::ApplyInflight(const SessionState& session) {
  if (std::memcmp(&session.inflight, &applied().inflight,
                  sizeof(session.inflight)) == 0) {
    return absl::OkStatus();
  }
  their_region_ = UnalignedMapping();
  if (session.inflight.slot == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      their_region_,
      MapUnaligned(descriptors_.Get(session.inflight.slot),
                   session.inflight.offset, session.inflight.size));
  return absl::OkStatus();
}

// The VMM has gone. A back-end serves one session: the next VMM gets another
// life of it.
void KeeperSession::Forget() {
  const absl::Status why = absl::CancelledError("the VMM has closed");
  if (current().speaks()) GiveUp(current(), why);
  // A spare is of use to the next VMM if it does not know of this one.
  const bool knows = RegionCount(spare().done()) != 0 || WasWritten(offer_);
  if (spare().speaks() && !spare().is_starting() && knows) {
    GiveUp(spare(), why);
  }
  stop_asked_.reset();
  shadow_stops_ = 0;
  if (shadowed()) DropShadow();
  memory_.Clear();
  their_region_ = UnalignedMapping();
  std::fill(std::begin(offer_.config_written), std::end(offer_.config_written),
            uint8_t{0});
  Save(offer_cell_, offer_);
}

// ---- SessionEnvironment ----

absl::Status KeeperSession::PrepareQueue(const SessionState& next,
                                         uint16_t queue, QueueStart how) {
  if (how == QueueStart::kAdopt) return absl::OkStatus();
  RETURN_IF_ERROR(ApplyInflight(next));
  if (!UsesTheirs(next, queue)) {
    own_region_.Forget(queue);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(InflightTable table, TableOf(next, queue));
  table.Forget();
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> KeeperSession::StopQueue(uint16_t queue) {
  if (!RingStarts(applied(), queue)) return applied().queues[queue].base;
  if (shadowed()) return StopShadow(queue);
  if (current().speaks()) {
    const absl::StatusOr<uint16_t> base = current().StopRing(queue);
    if (base.ok()) {
      stop_asked_.reset();
      return *base;
    }
    GiveUp(current(), base.status());
  }
  if (IsPatient()) {
    return absl::UnavailableError(
        "the next life of the back-end is to stop it");
  }
  log_.Error("the VMM stops ring ", queue,
             ", and no back-end lives that would finish its requests");
  return UsedIndex(applied(), queue).value_or(0);
}

bool KeeperSession::IsPatient() {
  const auto now = std::chrono::steady_clock::now();
  if (!stop_asked_.has_value()) stop_asked_ = now;
  return now - *stop_asked_ < kLifePatience;
}

absl::Status KeeperSession::ReadConfig(uint32_t offset,
                                       absl::Span<uint8_t> bytes) {
  std::memcpy(bytes.data(), offer_.config + offset, bytes.size());
  return absl::OkStatus();
}

absl::Status KeeperSession::WriteConfig(uint32_t offset, bool migration,
                                        absl::Span<const uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const size_t at = offset + i;
    offer_.config[at] = bytes[i];
    offer_.config_written[at / 8] |= static_cast<uint8_t>(1u << (at % 8));
  }
  Save(offer_cell_, offer_);
  const uint32_t flags = migration ? vhost_user::kConfigFlagMigration
                                   : vhost_user::kConfigFlagWritable;
  absl::Status opinion;
  for (BackendLife* life : {&current(), &spare()}) {
    if (!life->speaks() || life->is_starting()) continue;
    const absl::Status told = life->WriteConfig(offset, flags, bytes);
    if (absl::IsAborted(told)) {  // Its opinion, not its end.
      if (IsCurrent(*life)) opinion = told;
    } else if (!told.ok()) {
      GiveUp(*life, told);
    }
  }
  return opinion;
}

}  // namespace holdfast::keeper

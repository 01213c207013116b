#include "devices/keeper/keeper_session_sys.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/backend_requests_sys.h"
#include "devices/runtime/event_sys.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::keeper {
namespace {

using vhost_user::QueueStart;
using vhost_user::QueueState;
using vhost_user::RequestType;
using vhost_user::SessionState;

}  // namespace

KeeperSession::KeeperSession(const BackendTraits& traits,
                             const KeeperState& cells,
                             const BackendSlots& slots,
                             store::Slot inflight_slot,
                             DescriptorSlots& descriptors,
                             DescriptorKeeper& keeper)
    : SessionHost(InfoFor(Offer{}, traits, inflight_slot), descriptors, keeper),
      traits_(traits),
      cells_(cells),
      slots_(slots) {}

template <typename Change>
void KeeperSession::Commit(Change change) {
  StateTxn txn = state_->Begin();
  change(txn);
  if (const absl::Status status = state_->Commit(txn); !status.ok()) {
    log_.Error("what the back-end was told cannot be kept: ", status.message());
  }
}

template <typename T>
T KeeperSession::Get(const Cell<T>& cell) {
  StateTxn txn = state_->Begin();
  return txn.Get(cell);
}

absl::Status KeeperSession::Resume(Lane& lane, StateBank& state) {
  state_ = &state;
  link_.reset();
  life_ = 0;
  offer_ = Get(cells_.offer);
  agreement_ = AgreementWith(offer_, traits_);
  info_ = InfoFor(offer_, traits_, info_.inflight_slot);
  ASSIGN_OR_RETURN(own_memory_,
                   MapUnaligned(descriptors_.Get(info_.inflight_slot), 0,
                                InflightRegion::kBytes));
  own_region_ = InflightRegion(own_memory_.inside, Get(cells_.region));
  const uint64_t life = SocketCookie(Get(store::kBackendConnection));
  if (life != 0 && life == Get(cells_.life)) {
    life_ = life;
    link_.emplace(Get(store::kBackendConnection));
    link_->SetAcknowledges(
        (agreement_.protocol_features & vhost_user::kProtocolReplyAck) != 0);
    done_ = Get(cells_.done);
    if (Get(cells_.talking)) {
      GiveUp(absl::AbortedError("the keeper died while it spoke to it"));
    }
  }
  RETURN_IF_ERROR(ResumeSession(lane));
  OnBackend();
  return absl::OkStatus();
}

void KeeperSession::OnBackend() {
  const uint64_t life = SocketCookie(Get(store::kBackendConnection));
  if (life != life_) {
    link_.reset();
    life_ = life;
    if (life != 0) Greet();
    return;
  }
  // A store that was started again gives the same connection once more.
  // Nor does a launcher that was started again know of a verdict.
  if (!link_.has_value()) {
    if (life != 0) SendVerdict();
    return;
  }
  link_->SetSocket(Get(store::kBackendConnection));
  if (link_->IsOver()) GiveUp(absl::UnavailableError("it has ended"));
}

BorrowedFd KeeperSession::backend() const {
  return link_.has_value() ? link_->socket() : BorrowedFd(-1);
}

BorrowedFd KeeperSession::backend_requests() const {
  return link_.has_value() ? Get(store::kBackendRequests) : BorrowedFd(-1);
}

void KeeperSession::GiveUp(const absl::Status& why) {
  log_.Warning("the back-end is given up: ", why.message());
  link_.reset();
  why_ = std::string(why.message());
  // Not to be spoken to by a successor either.
  Commit([this](StateTxn& txn) { txn.Set(cells_.talking, true); });
  SendVerdict();
}

void KeeperSession::SendVerdict() {
  store::BackendVerdict verdict = {};
  verdict.life = life_;
  why_.copy(verdict.why, sizeof(verdict.why) - 1);
  uint8_t bytes[sizeof(verdict)];
  std::memcpy(bytes, &verdict, sizeof(verdict));
  if (SendFds(Get(store::kBackendVerdicts), bytes, {}, MSG_DONTWAIT) < 0) {
    // One that was started again asks by replacing the channel.
    log_.Warning("no launcher to tell of it: ",
                 ErrnoStatus("send a verdict").message());
  }
}

// ---- What the back-end asks for ----

// Handled before it is taken from the channel, so that a successor finds it
// again. One that is to be answered would be answered twice: a keeper that dies
// meanwhile has been talking to the back-end.
void KeeperSession::OnBackendRequest() {
  if (!link_.has_value()) return;
  const BorrowedFd channel = Get(store::kBackendRequests);
  const absl::StatusOr<vhost_user::BackendRequest> request =
      PeekBackendRequest(channel);
  if (absl::IsUnavailable(request.status())) return;
  const absl::Status done =
      request.ok() ? Handle(*request) : absl::Status(request.status());
  if (!done.ok()) return GiveUp(done);
  DropBackendRequest(channel, *request);
}

absl::Status KeeperSession::Handle(const vhost_user::BackendRequest& request) {
  if (request.need_reply) {
    Commit([this](StateTxn& txn) { txn.Set(cells_.talking, true); });
  }
  const bool known =
      request.type == vhost_user::BackendRequestType::kConfigChange;
  if (known) {
    RETURN_IF_ERROR(ReadConfigAgain());
  } else {
    log_.Warning("the back-end's request ", static_cast<uint32_t>(request.type),
                 " is not known");
  }
  if (!request.need_reply) return absl::OkStatus();
  RETURN_IF_ERROR(
      AnswerBackendRequest(Get(store::kBackendRequests), request, known));
  Commit([this](StateTxn& txn) { txn.Set(cells_.talking, false); });
  return absl::OkStatus();
}

absl::Status KeeperSession::ReadConfigAgain() {
  ASSIGN_OR_RETURN(offer_, ReadConfigOf(*link_, offer_));
  Commit([this](StateTxn& txn) { txn.Set(cells_.offer, offer_); });
  SendConfigChange();
  return absl::OkStatus();
}

void KeeperSession::Greet() {
  link_.emplace(Get(store::kBackendConnection));
  done_ = SessionState{};
  Commit([this](StateTxn& txn) {
    txn.Set(cells_.life, life_);
    txn.Set(cells_.talking, true);
    txn.Set(cells_.done, SessionState{});
  });
  absl::Status met = Meet();
  if (met.ok()) met = Tell(applied(), /*anew=*/true);
  if (!met.ok()) GiveUp(met);
}

absl::Status KeeperSession::Meet() {
  ASSIGN_OR_RETURN(const Offer now,
                   ShakeHands(*link_, traits_, offer_.config_size));
  if (HasRequestChannel(now, traits_)) {
    const int end = Get(store::kBackendRequestsPeer).get();
    if (end < 0) return absl::DataLossError("no channel for its requests");
    RETURN_IF_ERROR(
        link_->Command(RequestType::kSetBackendReqFd, {}, {&end, 1}));
  }
  if (offer_.known != 0) {
    RETURN_IF_ERROR(CheckSuccessor(offer_, now));
    return WriteConfigAgain();
  }
  offer_ = now;
  agreement_ = AgreementWith(offer_, traits_);
  info_ = InfoFor(offer_, traits_, info_.inflight_slot);
  Commit([this](StateTxn& txn) { txn.Set(cells_.offer, offer_); });
  return absl::OkStatus();
}

absl::Status KeeperSession::WriteConfigAgain() {
  for (uint32_t i = 0; i < offer_.config_size; ++i) {
    if ((offer_.config_written[i / 8] >> (i % 8) & 1) == 0) continue;
    uint8_t bytes[sizeof(vhost_user::ConfigHeader) + 1];
    const vhost_user::ConfigHeader header{i, 1,
                                          vhost_user::kConfigFlagWritable};
    std::memcpy(bytes, &header, sizeof(header));
    bytes[sizeof(header)] = offer_.config[i];
    RETURN_IF_ERROR(link_->Command(RequestType::kSetConfig, bytes));
  }
  return absl::OkStatus();
}

// ---- What the back-end is told ----

absl::Status KeeperSession::Tell(const SessionState& session, bool anew) {
  RETURN_IF_ERROR(FitRegion(session));
  RingBases bases = {};
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    if (!RingStarts(session, i) || RingStarts(done_, i)) continue;
    ASSIGN_OR_RETURN(bases[i], BaseOf(session, i));
  }
  const Steps steps = PlanSteps(done_, session, agreement_, bases);
  if (!steps.empty() && !anew) {
    Commit([this](StateTxn& txn) { txn.Set(cells_.talking, true); });
  }
  for (const Step& step : steps) RETURN_IF_ERROR(Say(step));
  RETURN_IF_ERROR(link_->Sync());
  done_ = session;
  Commit([&](StateTxn& txn) {
    txn.Set(cells_.done, session);
    txn.Set(cells_.talking, false);
  });
  // Its predecessor may have taken a kick and not looked at the ring, and have
  // answered without saying so.
  if (anew) SignalAll(session);
  return absl::OkStatus();
}

absl::Status KeeperSession::Say(const Step& step) {
  std::vector<int> fds;
  for (size_t i = 0; i < step.fd_count; ++i) {
    const StepFd& fd = step.fds[i];
    const store::Slot slot =
        fd.from == StepFd::From::kInflight ? info_.inflight_slot : fd.slot;
    fds.push_back(descriptors_.Get(slot).get());
    if (fds.back() < 0) {
      return absl::DataLossError(absl::StrCat("no descriptor in slot ", slot));
    }
  }
  return link_->Command(step.type, step.bytes(), fds);
}

absl::StatusOr<uint16_t> KeeperSession::UsedIndex(const SessionState& session,
                                                  uint16_t queue) const {
  const QueueState& state = session.queues[queue];
  const auto num = static_cast<uint16_t>(state.num);
  const uint8_t* const used =
      memory_.memory()
          .TranslateUser(UserAddress{state.used}, vring::UsedBytes(num, false))
          .host;
  if (used == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring ", queue, " lies outside the guest's memory"));
  }
  return SharedAccess::Load(
      reinterpret_cast<const uint16_t*>(used + offsetof(vring::Used, idx)));
}

absl::Status KeeperSession::FitRegion(const SessionState& session) {
  const uint16_t size = NeededQueueSize(session, agreement_);
  const uint16_t now = own_region_.layout().queue_size;
  const bool runs = AnyRingStarts(done_);
  if (size > now || (size != 0 && size < now && !runs)) {
    // A ring cannot get another table while it runs.
    for (uint16_t i = 0; runs && i < vhost_user::kMaxQueues; ++i) {
      if (RingStarts(done_, i)) RETURN_IF_ERROR(AskBase(i).status());
    }
    own_region_.Use(own_region_.Resized(size));
    Commit([this](StateTxn& txn) {
      txn.Set(cells_.region, own_region_.layout());
    });
  }
  PlaceInflight(own_region_, agreement_);
  return absl::OkStatus();
}

absl::StatusOr<uint16_t> KeeperSession::BaseOf(const SessionState& session,
                                               uint16_t queue) {
  ASSIGN_OR_RETURN(const uint16_t used_idx, UsedIndex(session, queue));
  ASSIGN_OR_RETURN(InflightTable table, TableOf(session, queue));
  // It ran in a life before: what follows the used index and is not in the
  // table was never taken, and what is will be found there.
  if (table.InUse()) return used_idx;
  const auto base = static_cast<uint16_t>(session.queues[queue].base);
  table.Reset(used_idx, static_cast<uint16_t>(base - used_idx));
  return base;
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

void KeeperSession::SignalAll(const SessionState& session) {
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    if (!RingStarts(session, i)) continue;
    RaiseEvent(descriptors_.Get(session.queues[i].kick));
    const store::Slot call = session.queues[i].call;
    if (call != 0 && call != vhost_user::kSlotPolled) {
      RaiseEvent(descriptors_.Get(call));
    }
  }
}

// ---- SessionHost ----

absl::Status KeeperSession::Apply(const SessionState& session) {
  RETURN_IF_ERROR(memory_.Update(session, descriptors_));
  RETURN_IF_ERROR(ApplyInflight(session));
  if (!link_.has_value()) return absl::OkStatus();
  if (const absl::Status told = Tell(session, /*anew=*/false); !told.ok()) {
    GiveUp(told);
  }
  return absl::OkStatus();
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
  if (link_.has_value()) GiveUp(absl::CancelledError("the VMM has closed"));
  memory_.Clear();
  their_region_ = UnalignedMapping();
  std::fill(std::begin(offer_.config_written), std::end(offer_.config_written),
            uint8_t{0});
  Commit([this](StateTxn& txn) { txn.Set(cells_.offer, offer_); });
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
  if (link_.has_value()) {
    const absl::StatusOr<uint16_t> base = AskBase(queue);
    if (base.ok()) {
      stop_asked_.reset();
      return *base;
    }
    GiveUp(base.status());
  }
  const auto now = std::chrono::steady_clock::now();
  if (!stop_asked_.has_value()) stop_asked_ = now;
  if (now - *stop_asked_ < kLifePatience) {
    return absl::UnavailableError(
        "the next life of the back-end is to stop it");
  }
  log_.Error("the VMM stops ring ", queue,
             ", and no back-end lives that would finish its requests");
  return UsedIndex(applied(), queue).value_or(0);
}

absl::StatusOr<uint16_t> KeeperSession::AskBase(uint16_t queue) {
  uint8_t bytes[sizeof(vhost_user::VringState)];
  const vhost_user::VringState state{queue, 0};
  std::memcpy(bytes, &state, sizeof(state));
  Commit([this](StateTxn& txn) { txn.Set(cells_.talking, true); });
  ASSIGN_OR_RETURN(const vhost_user::Answer answer,
                   link_->Ask(RequestType::kGetVringBase, bytes));
  const auto base = static_cast<uint16_t>(answer.vring.num);
  done_.queues[queue].started = 0;
  done_.queues[queue].base = base;
  Commit([this](StateTxn& txn) {
    txn.Set(cells_.done, done_);
    txn.Set(cells_.talking, false);
  });
  return base;
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
  Commit([this](StateTxn& txn) { txn.Set(cells_.offer, offer_); });
  if (!link_.has_value()) return absl::OkStatus();
  uint8_t
      message[sizeof(vhost_user::ConfigHeader) + vhost_user::kMaxConfigAccess];
  const vhost_user::ConfigHeader header{
      offset, static_cast<uint32_t>(bytes.size()),
      migration ? vhost_user::kConfigFlagMigration
                : vhost_user::kConfigFlagWritable};
  std::memcpy(message, &header, sizeof(header));
  std::memcpy(message + sizeof(header), bytes.data(), bytes.size());
  const absl::Status told = link_->Command(
      RequestType::kSetConfig, {message, sizeof(header) + bytes.size()});
  if (absl::IsAborted(told)) return told;  // Its opinion, not its end.
  if (!told.ok()) GiveUp(told);
  return absl::OkStatus();
}

}  // namespace holdfast::keeper

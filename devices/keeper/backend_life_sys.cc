#include "devices/keeper/backend_life_sys.h"

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"

namespace holdfast::keeper {

using vhost_user::RequestType;
using vhost_user::SessionState;

template <typename Change>
void BackendLife::Commit(Change change) {
  if (!cells_.life.bound()) return;
  StateTxn txn = state_->Begin();
  change(txn);
  if (const absl::Status status = state_->Commit(txn); !status.ok()) {
    log_.Error("what the back-end was told cannot be kept: ", status.message());
  }
}

absl::Status BackendLife::Resume(StateBank& state, const Agreement& agreement) {
  state_ = &state;
  link_.reset();
  number_ = 0;
  starting_ = talking_ = false;
  const uint64_t number = SocketNumber();
  if (number == 0) return absl::OkStatus();
  uint64_t known = number;
  bool talking = true;
  if (cells_.life.bound()) {
    StateTxn txn = state.Begin();
    known = txn.Get(cells_.life);
    talking = txn.Get(cells_.talking);
    done_ = txn.Get(cells_.done);
  }
  // A new one.
  if (known != number) return absl::OkStatus();
  number_ = number;
  link_.emplace(connection());
  link_->SetAcknowledges(
      (agreement.protocol_features & vhost_user::kProtocolReplyAck) != 0);
  talking_ = talking;
  if (!talking) return absl::OkStatus();
  return absl::AbortedError("the keeper died while it spoke to it");
}

uint64_t BackendLife::SocketNumber() const {
  return SocketCookie(Get(slots_.connection));
}

bool BackendLife::Begin() {
  number_ = SocketNumber();
  link_.reset();
  starting_ = false;
  if (number_ == 0) return false;
  link_.emplace(connection());
  done_ = SessionState{};
  talking_ = true;
  Commit([this](StateTxn& txn) {
    txn.Set(cells_.life, number_);
    txn.Set(cells_.talking, true);
    txn.Set(cells_.done, done_);
  });
  return true;
}

BorrowedFd BackendLife::connection() const { return Get(slots_.connection); }

BorrowedFd BackendLife::requests() const {
  return speaks() && !starting_ ? Get(slots_.requests) : BorrowedFd(-1);
}

void BackendLife::Refresh() {
  if (speaks()) link_->SetSocket(connection());
}

void BackendLife::BecomeCurrent() {
  if (speaks()) link_->SetPatience(BackendLink::kPatienceMs);
}

absl::Status BackendLife::Knock() {
  starting_ = true;
  link_->SetPatience(kSparePatienceMs);
  return link_->Request(RequestType::kGetFeatures);
}

absl::StatusOr<Offer> BackendLife::Meet(const BackendTraits& traits,
                                        uint32_t expected_config) {
  if (starting_) {
    starting_ = false;
    RETURN_IF_ERROR(link_->AwaitAnswer(RequestType::kGetFeatures).status());
  }
  ASSIGN_OR_RETURN(const Offer offer,
                   ShakeHands(*link_, traits, expected_config));
  if (HasRequestChannel(offer, traits)) {
    const int end = Get(slots_.requests_peer).get();
    if (end < 0) return absl::DataLossError("no channel for its requests");
    RETURN_IF_ERROR(
        link_->Command(RequestType::kSetBackendReqFd, {}, {&end, 1}));
  }
  return offer;
}

absl::StatusOr<Offer> BackendLife::AskConfig(const Offer& offer) {
  return ReadConfigOf(*link_, offer);
}

absl::Status BackendLife::Tell(const SessionState& session,
                               const Agreement& agreement,
                               const RingBases& bases) {
  const Steps steps = PlanSteps(done_, session, agreement, bases);
  if (!steps.empty()) SetTalking(true);
  for (const Step& step : steps) {
    // It may begin to work then: nothing that it was told before is in doubt.
    if (step.type == RequestType::kSetVringKick) {
      RETURN_IF_ERROR(link_->Collect());
    }
    RETURN_IF_ERROR(Say(step));
  }
  RETURN_IF_ERROR(link_->Collect());
  if (talking_) RETURN_IF_ERROR(link_->Sync());
  if (!talking_ && std::memcmp(&done_, &session, sizeof(session)) == 0) {
    return absl::OkStatus();
  }
  done_ = session;
  talking_ = false;
  Commit([&](StateTxn& txn) {
    txn.Set(cells_.done, session);
    txn.Set(cells_.talking, false);
  });
  return absl::OkStatus();
}

absl::Status BackendLife::Say(const Step& step) {
  std::vector<int> fds;
  for (size_t i = 0; i < step.fd_count; ++i) {
    const StepFd& fd = step.fds[i];
    const store::Slot slot =
        fd.from == StepFd::From::kInflight ? slots_.inflight : fd.slot;
    fds.push_back(Get(slot).get());
    if (fds.back() < 0) {
      return absl::DataLossError(absl::StrCat("no descriptor in slot ", slot));
    }
  }
  return link_->CommandAhead(step.type, step.bytes(), fds);
}

absl::StatusOr<uint16_t> BackendLife::StopRing(uint16_t queue) {
  uint8_t bytes[sizeof(vhost_user::VringState)];
  const vhost_user::VringState state{queue, 0};
  std::memcpy(bytes, &state, sizeof(state));
  SetTalking(true);
  ASSIGN_OR_RETURN(const vhost_user::Answer answer,
                   link_->Ask(RequestType::kGetVringBase, bytes));
  const auto base = static_cast<uint16_t>(answer.vring.num);
  done_.queues[queue].started = 0;
  done_.queues[queue].base = base;
  talking_ = false;
  Commit([this](StateTxn& txn) {
    txn.Set(cells_.done, done_);
    txn.Set(cells_.talking, false);
  });
  return base;
}

absl::Status BackendLife::WriteConfigAgain(const Offer& offer) {
  return keeper::WriteConfigAgain(*link_, offer);
}

absl::Status BackendLife::WriteConfig(uint32_t offset, uint32_t flags,
                                      absl::Span<const uint8_t> bytes) {
  return WriteConfigOf(*link_, offset, flags, bytes);
}

void BackendLife::SetTalking(bool talking) {
  if (talking_ == talking) return;
  talking_ = talking;
  Commit([&](StateTxn& txn) { txn.Set(cells_.talking, talking); });
}

void BackendLife::GiveUp(const absl::Status& why) {
  log_.Warning("the back-end is given up: ", why.message());
  link_.reset();
  starting_ = false;
  why_ = std::string(why.message());
  finished_ = absl::IsCancelled(why);
  SetTalking(true);
}

}  // namespace holdfast::keeper

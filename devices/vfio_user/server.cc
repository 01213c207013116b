#include "devices/vfio_user/server.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::vfio_user {

void TakeAnswer(const Answer& answer, ServerEnvironment& environment) {
  if (environment.Take(answer)) return;
  environment.Refused(absl::NotFoundError(absl::StrCat(
      CommandName(answer.command), ": an answer that nobody waits for")));
}

// Straight into its place: it is copied for each message.
void Server::TakeState(absl::Span<const uint8_t> bank) {
  std::memcpy(&state_, bank.data(), sizeof(state_));
}

absl::Status Server::Resume(absl::Span<const uint8_t> bank) {
  TakeState(bank);
  RETURN_IF_ERROR(CheckInvariants(state_, memory_.windows));
  environment_.Apply(state_, memory_.windows);
  return absl::OkStatus();
}

absl::StatusOr<size_t> Server::MessageSize(
    absl::Span<const uint8_t> header) const {
  return vfio_user::MessageSize(header);
}

absl::Status Server::Escrow(absl::Span<const uint8_t> message,
                            absl::Span<UniqueFd> fds) {
  const Request request = Parse(message, fds.size());
  const SlotList slots = SlotsFor(state_, memory_.windows, request);
  for (size_t i = 0; i < slots.count; ++i) {
    RETURN_IF_ERROR(environment_.Escrow(slots.slots[i], std::move(fds[i])));
  }
  return absl::OkStatus();
}

absl::StatusOr<LaneHandler::Outcome> Server::Execute(
    absl::Span<const uint8_t> message, size_t fd_count,
    absl::Span<const uint8_t> old_bank, absl::Span<uint8_t> new_bank,
    absl::Span<uint8_t> reply, uint32_t /*attempts*/) {
  environment_.Answered();
  TakeState(old_bank);
  const Request request = Parse(message, fd_count);
  const SlotList slots = SlotsFor(state_, memory_.windows, request);
  const absl::StatusOr<Decision> decided = Decide(
      state_, memory_, request, slots, serving_, device_, environment_, reply);
  RETURN_IF_ERROR(decided.status());
  const Decision& decision = *decided;
  std::memcpy(new_bank.data(), &decision.next, sizeof(decision.next));
  which_ = decision.afterwards.which;
  if (decision.answered) TakeAnswer(decision.answer, environment_);
  if (!decision.refusal.ok()) environment_.Refused(decision.refusal);
  return Outcome{decision.reply_size, decision.next.reply_region != 0};
}

void Server::Committed(absl::Span<const uint8_t> bank) {
  TakeState(bank);
  environment_.Apply(state_, memory_.windows);
  Afterwards afterwards = AfterwardsOf(state_);
  afterwards.which = std::exchange(which_, {});
  if (afterwards.kind != Afterwards::Kind::kNothing) {
    environment_.Do(afterwards);
  }
}

absl::Span<const int> Server::ReplyFds(absl::Span<const uint8_t> bank) {
  TakeState(bank);
  reply_fd_ = state_.reply_region == kReplyTwin
                  ? environment_.TwinOfClient().get()
                  : device_.RegionMemory(state_.reply_region - 1u).get();
  return absl::MakeConstSpan(&reply_fd_, 1);
}

}  // namespace holdfast::vfio_user

#include "devices/runtime/session_host_sys.h"

#include <sys/socket.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/runtime/file_range_sys.h"
#include "devices/vhost_user/codec.h"

namespace holdfast {
namespace {

using vhost_user::Decision;
using vhost_user::SessionState;

SessionState StateOf(absl::Span<const uint8_t> bank) {
  SessionState state;
  std::memcpy(&state, bank.data(), sizeof(state));
  return state;
}

// Executions of one message that end in a death before the connection is given
// up. Deaths from outside count, too, and a VMM that loses its device cannot go
// on: so many, but fewer than the launcher's crash budget.
constexpr uint32_t kMaxAttempts = 8;

}  // namespace

LaneSizes SessionHost::Sizes() {
  return {sizeof(SessionState), vhost_user::kMaxMessageSize,
          vhost_user::kMaxReplySize};
}

absl::Status SessionHost::ResumeSession(Lane& lane) {
  const SessionState session = StateOf(lane.bank());
  RETURN_IF_ERROR(vhost_user::CheckInvariants(session));
  applied_ = SessionState{};
  ApplyAndRemember(session);
  OnChannel();
  return absl::OkStatus();
}

absl::StatusOr<SessionHost::Served> SessionHost::Serve(Lane& lane,
                                                       Lane::Waiting waiting) {
  const BorrowedFd socket = descriptors_.Get(store::kSlotConnection);
  if (!socket.valid()) return Served::kIdle;
  const absl::StatusOr<Lane::Progress> progress =
      lane.Run(socket, *this, waiting);
  if (progress.ok() && *progress == Lane::Progress::kIdle) {
    return Served::kIdle;
  }
  if (!progress.ok()) {
    // Another epoch owns the lane, or its memory is damaged: not the VMM's
    // doing, and not to be answered by hanging up on it.
    if (absl::IsAborted(progress.status()) ||
        absl::IsDataLoss(progress.status())) {
      return progress.status();
    }
    vmm_log_.Warning("closing the VMM's connection: ",
                     progress.status().message());
  }
  Disconnect(lane);
  return Served::kDisconnected;
}

void SessionHost::Disconnect(Lane& lane) {
  Forget();
  if (const absl::Status reset = lane.ResetConnection(); !reset.ok()) {
    vmm_log_.Error("forgetting the connection: ", reset.message());
  }
  applied_ = SessionState{};
  const uint64_t connection = descriptors_.connection();
  descriptors_.SetConnection(UniqueFd(), 0);
  descriptors_.RetainSession(vhost_user::SlotBitmap{});
  keeper_.VmmClosed(connection);
  OnChannel();
}

// What cannot be applied is the VMM's doing (memory that it has cut, say). The
// connection goes on, so that its end is seen and the next VMM served; and the
// next message is judged by what was committed.
void SessionHost::ApplyAndRemember(const SessionState& session) {
  if (const absl::Status applied = Apply(session); !applied.ok()) {
    vmm_log_.Error("the VMM's settings cannot be applied: ", applied.message());
  }
  applied_ = session;
}

void SessionHost::SendConfigChange() {
  if (applied_.backend_request == 0) return;
  uint8_t bytes[sizeof(vhost_user::MessageHeader)];
  const absl::StatusOr<size_t> size = vhost_user::EncodeBackendRequest(
      vhost_user::BackendRequestType::kConfigChange, /*need_reply=*/false,
      absl::MakeSpan(bytes));
  if (!size.ok()) return;
  iovec part = {bytes, *size};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  // Not waited for: a front-end that does not read must not stop the device. A
  // full channel holds a notice that has not been read yet, which will do.
  (void)SendOne(descriptors_.Get(applied_.backend_request), message,
                MSG_DONTWAIT | MSG_NOSIGNAL);
}

// ---- LaneHandler ----

size_t SessionHost::header_size() const {
  return sizeof(vhost_user::MessageHeader);
}

absl::StatusOr<size_t> SessionHost::MessageSize(
    absl::Span<const uint8_t> header) const {
  return vhost_user::MessageSize(header);
}

absl::Status SessionHost::Escrow(absl::Span<const uint8_t> message,
                                 absl::Span<UniqueFd> fds) {
  ASSIGN_OR_RETURN(const vhost_user::Request request,
                   vhost_user::Parse(message));
  ASSIGN_OR_RETURN(const vhost_user::SlotList slots,
                   vhost_user::SlotsFor(applied_, request, fds.size()));
  for (size_t i = 0; i < slots.count; ++i) {
    RETURN_IF_ERROR(keeper_.Escrow(slots.slots[i], fds[i]));
    descriptors_.Set(slots.slots[i], std::move(fds[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<LaneHandler::Outcome> SessionHost::Execute(
    absl::Span<const uint8_t> message, size_t fd_count,
    absl::Span<const uint8_t> old_bank, absl::Span<uint8_t> new_bank,
    absl::Span<uint8_t> reply, uint32_t attempts) {
  if (attempts > kMaxAttempts) {
    return absl::InternalError(
        absl::StrCat("a request of the VMM was executed ", attempts,
                     " times without success"));
  }
  const SessionState old_state = StateOf(old_bank);
  RETURN_IF_ERROR(vhost_user::CheckInvariants(old_state));
  ASSIGN_OR_RETURN(const vhost_user::Request request,
                   vhost_user::Parse(message));
  ASSIGN_OR_RETURN(const vhost_user::SlotList slots,
                   vhost_user::SlotsFor(old_state, request, fd_count));
  const absl::StatusOr<Decision> decision =
      vhost_user::Decide(old_state, request, slots, info_, *this, reply);
  if (absl::IsUnavailable(decision.status())) {
    Outcome later;
    later.later = true;
    return later;
  }
  RETURN_IF_ERROR(decision.status());
  if (!decision->refusal.ok()) {
    refusal_log_.Warning("refused ", decision->refusal.message());
  }
  std::memcpy(new_bank.data(), &decision->next, sizeof(decision->next));
  Outcome outcome;
  outcome.reply_size = decision->reply_size;
  outcome.reply_has_fds = decision->reply_slot != 0;
  return outcome;
}

void SessionHost::Committed(absl::Span<const uint8_t> bank) {
  const SessionState session = StateOf(bank);
  const vhost_user::SlotBitmap before = vhost_user::ReferencedSlots(applied_);
  const bool has_channel = session.backend_request != applied_.backend_request;
  ApplyAndRemember(session);
  if (has_channel) OnChannel();
  const vhost_user::SlotBitmap after = vhost_user::ReferencedSlots(session);
  if (before != after) {
    keeper_.Retain(after);
    descriptors_.RetainSession(after);
  }
}

absl::Span<const int> SessionHost::ReplyFds(absl::Span<const uint8_t>) {
  // GET_INFLIGHT_FD is the only reply that carries one.
  reply_fd_ = descriptors_.Get(info_.inflight_slot).get();
  return {&reply_fd_, 1};
}

// ---- SessionEnvironment ----

void SessionHost::ClearInflight() {
  const absl::StatusOr<UnalignedMapping> region = MapUnaligned(
      descriptors_.Get(info_.inflight_slot), 0, info_.inflight_size);
  if (region.ok()) std::memset(region->inside, 0, info_.inflight_size);
}

absl::Status SessionHost::CheckRegion(store::Slot slot, uint64_t offset,
                                      uint64_t size) {
  return CheckFileHolds(descriptors_.Get(slot), offset, size);
}

}  // namespace holdfast

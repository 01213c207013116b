#include "devices/keeper/backend_link_sys.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/vhost_user/codec.h"

namespace holdfast::keeper {
namespace {

using vhost_user::Answer;
using vhost_user::MessageHeader;
using vhost_user::RequestType;

// With LOG_SHMFD the request for a log is answered in any case.
bool IsAlwaysAnswered(RequestType type) {
  return type == RequestType::kSetLogBase;
}

}  // namespace

bool BackendLink::Await(short events) const {
  pollfd poll = {socket_.get(), events, 0};
  const timespec patience = {patience_ms_ / 1000,
                             patience_ms_ % 1000 * 1'000'000};
  int ready;
  do {
    ready = ppoll(&poll, 1, &patience, nullptr);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

absl::Status BackendLink::Command(RequestType type,
                                  absl::Span<const uint8_t> payload,
                                  absl::Span<const int> fds) {
  RETURN_IF_ERROR(CommandAhead(type, payload, fds));
  return Collect();
}

absl::Status BackendLink::CommandAhead(RequestType type,
                                       absl::Span<const uint8_t> payload,
                                       absl::Span<const int> fds) {
  if (ahead_.size() >= kMostAhead) RETURN_IF_ERROR(CollectOne());
  const bool always = IsAlwaysAnswered(type);
  RETURN_IF_ERROR(Send(type, acknowledges_ && !always, payload, fds));
  if (acknowledges_ || always) ahead_.push_back(type);
  return absl::OkStatus();
}

absl::Status BackendLink::Collect() {
  while (!ahead_.empty()) RETURN_IF_ERROR(CollectOne());
  return absl::OkStatus();
}

absl::Status BackendLink::CollectOne() {
  const RequestType type = ahead_.front();
  ahead_.pop_front();
  ASSIGN_OR_RETURN(const Answer answer,
                   Receive(type, /*acknowledgement=*/true));
  if (answer.value == 0 || IsAlwaysAnswered(type)) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("the back-end refuses ",
                                         vhost_user::RequestName(type),
                                         " with ", answer.value));
}

absl::StatusOr<Answer> BackendLink::Ask(RequestType type,
                                        absl::Span<const uint8_t> payload) {
  RETURN_IF_ERROR(Request(type, payload));
  return AwaitAnswer(type);
}

absl::Status BackendLink::Sync() {
  if (acknowledges_) return absl::OkStatus();
  return Ask(RequestType::kGetFeatures).status();
}

bool BackendLink::IsOver() const {
  pollfd poll = {socket_.get(), POLLIN | POLLRDHUP, 0};
  const timespec now = {};
  return ppoll(&poll, 1, &now, nullptr) > 0;
}

// Whole, or not at all: a request is smaller than any socket's buffer.
absl::Status BackendLink::Send(RequestType type, bool need_reply,
                               absl::Span<const uint8_t> payload,
                               absl::Span<const int> fds) {
  uint8_t bytes[sizeof(MessageHeader) + sizeof(vhost_user::ConfigHeader) +
                vhost_user::kMaxConfigAccess];
  ASSIGN_OR_RETURN(const size_t size,
                   vhost_user::EncodeRequest(type, need_reply, payload,
                                             absl::MakeSpan(bytes)));
  ssize_t sent = SendFds(socket_, {bytes, size}, fds, MSG_DONTWAIT);
  while (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
    if (!Await(POLLOUT)) {
      return absl::DeadlineExceededError("the back-end reads nothing");
    }
    sent = SendFds(socket_, {bytes, size}, fds, MSG_DONTWAIT);
  }
  if (sent < 0) return ErrnoStatus("send to the back-end");
  if (static_cast<size_t>(sent) != size) {
    return absl::DataLossError("the back-end took half a request");
  }
  return absl::OkStatus();
}

absl::StatusOr<Answer> BackendLink::Receive(RequestType asked,
                                            bool acknowledgement) {
  uint8_t bytes[vhost_user::kMaxMessageSize];
  const absl::Span<uint8_t> all = absl::MakeSpan(bytes);
  RETURN_IF_ERROR(ReceiveExactly(all.first(sizeof(MessageHeader))));
  ASSIGN_OR_RETURN(const size_t size, vhost_user::AnswerSize(asked, all));
  RETURN_IF_ERROR(ReceiveExactly(
      all.subspan(sizeof(MessageHeader), size - sizeof(MessageHeader))));
  return vhost_user::ParseAnswer(asked, acknowledgement, all.first(size));
}

absl::Status BackendLink::ReceiveExactly(absl::Span<uint8_t> bytes) {
  while (!bytes.empty()) {
    // No reply brings descriptors; what does is closed.
    const Received received = ReceiveFds(socket_, bytes, {}, MSG_DONTWAIT);
    if (received.size == 0) return absl::UnavailableError("it has ended");
    if (received.size < 0 && errno != EAGAIN && errno != EINTR) {
      return ErrnoStatus("receive from the back-end");
    }
    if (received.size < 0) {
      if (Await(POLLIN)) continue;
      return absl::DeadlineExceededError(
          absl::StrCat("the back-end has not answered for ",
                       patience_ms_ / 1000, " seconds"));
    }
    bytes.remove_prefix(static_cast<size_t>(received.size));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::keeper

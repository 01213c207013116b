#include "devices/keeper/backend_requests_sys.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/vhost_user/codec.h"

namespace holdfast::keeper {

using vhost_user::BackendRequest;
using vhost_user::MessageHeader;

absl::StatusOr<BackendRequest> PeekBackendRequest(BorrowedFd channel) {
  uint8_t bytes[vhost_user::kMaxMessageSize];
  const absl::Span<uint8_t> all = absl::MakeSpan(bytes);
  const Received received =
      ReceiveFds(channel, all, {}, MSG_DONTWAIT | MSG_PEEK);
  if (received.size < 0) {
    if (errno == EAGAIN || errno == EINTR) {
      return absl::UnavailableError("nothing is asked for");
    }
    return ErrnoStatus("receive a request of the back-end");
  }
  if (received.size == 0) {
    return absl::CancelledError("the channel of its requests is closed");
  }
  const auto got = static_cast<size_t>(received.size);
  const absl::Status pieces =
      absl::InvalidArgumentError("a request of the back-end in pieces");
  if (got < sizeof(MessageHeader)) return pieces;
  ASSIGN_OR_RETURN(const size_t size, vhost_user::MessageSize(all));
  if (got < size) return pieces;
  return vhost_user::ParseBackendRequest(all.first(size));
}

void DropBackendRequest(BorrowedFd channel, const BackendRequest& request) {
  uint8_t bytes[vhost_user::kMaxMessageSize];
  ReceiveFds(channel, absl::MakeSpan(bytes, request.size), {}, MSG_DONTWAIT);
}

absl::Status AnswerBackendRequest(BorrowedFd channel,
                                  const BackendRequest& request, bool success) {
  uint8_t bytes[sizeof(MessageHeader) + sizeof(uint64_t)];
  const MessageHeader header = {static_cast<uint32_t>(request.type),
                                vhost_user::kVersion | vhost_user::kFlagReply,
                                sizeof(uint64_t)};
  const uint64_t verdict = success ? 0 : 1;
  std::memcpy(bytes, &header, sizeof(header));
  std::memcpy(bytes + sizeof(header), &verdict, sizeof(verdict));
  if (SendFds(channel, bytes, {}, MSG_DONTWAIT) !=
      static_cast<ssize_t>(sizeof(bytes))) {
    return ErrnoStatus("answer a request of the back-end");
  }
  return absl::OkStatus();
}

}  // namespace holdfast::keeper

#include "statestore/store/message_io_sys.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/unix_socket_sys.h"

namespace holdfast::store {
namespace {

IoResult FromErrno() {
  switch (errno) {
    case EAGAIN:
      return IoResult::kAgain;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
      return IoResult::kGone;
    default:
      return IoResult::kError;
  }
}

}  // namespace

IoResult Send(BorrowedFd channel, const Message& message,
              absl::Span<const Handle> fds) {
  static_assert(kMaxFds <= kMaxMessageFds);
  Handle present[kMaxFds];
  size_t count = 0;
  for (Handle fd : fds) {
    if (fd != kNoHandle && count != kMaxFds) present[count++] = fd;
  }
  const ssize_t sent = SendFds(
      channel, {reinterpret_cast<const uint8_t*>(&message), sizeof(message)},
      {present, count}, MSG_DONTWAIT);
  return sent < 0 ? FromErrno() : IoResult::kDone;
}

IoResult Receive(BorrowedFd channel, Incoming& incoming) {
  incoming = Incoming();
  UniqueFd fds[kMaxFds];
  const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(&incoming.message),
                                  sizeof(incoming.message));
  Received received =
      ReceiveFds(channel, bytes, absl::MakeSpan(fds), MSG_DONTWAIT);
  // Said once, and before what the peer had sent, when it died with something
  // of ours unread.
  if (received.size < 0 && errno == ECONNRESET) {
    received = ReceiveFds(channel, bytes, absl::MakeSpan(fds), MSG_DONTWAIT);
  }
  if (received.size < 0) return FromErrno();
  incoming.size = static_cast<size_t>(received.size);
  incoming.truncated = received.truncated;
  incoming.fd_count = received.fd_count;
  for (size_t i = 0; i < received.fd_count; ++i) {
    incoming.fds[i] = fds[i].Release();
  }
  return received.size == 0 ? IoResult::kGone : IoResult::kDone;
}

void CloseFds(Incoming& incoming) {
  for (Handle& fd : incoming.fds) {
    if (fd != kNoHandle) close(std::exchange(fd, kNoHandle));
  }
}

IoResult WaitFor(BorrowedFd channel, Readiness readiness, int timeout_ms) {
  pollfd poll = {channel.get(), 0, 0};
  if (readiness != Readiness::kWritable) poll.events |= POLLIN;
  if (readiness != Readiness::kReadable) poll.events |= POLLOUT;
  const timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
  const int ready =
      ppoll(&poll, 1, timeout_ms < 0 ? nullptr : &timeout, nullptr);
  if (ready > 0) return IoResult::kDone;
  return ready == 0 || errno == EINTR ? IoResult::kAgain : IoResult::kError;
}

uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u +
         static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace holdfast::store

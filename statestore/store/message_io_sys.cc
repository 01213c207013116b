#include "statestore/store/message_io_sys.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/unix_socket_sys.h"

namespace holdfast::store {
namespace {

constexpr size_t kControlSize = CMSG_SPACE(sizeof(int) * kMaxFds);

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

void TakeFds(msghdr& header, Incoming& incoming) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr;
       c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; ++i) {
      Handle fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
      if (incoming.fd_count < kMaxFds) {
        incoming.fds[incoming.fd_count++] = fd;
      } else {
        close(fd);
      }
    }
  }
}

}  // namespace

IoResult Send(BorrowedFd channel, const Message& message,
              absl::Span<const Handle> fds) {
  iovec iov = {const_cast<Message*>(&message), sizeof(message)};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[kControlSize] = {};
  size_t count = 0;
  auto* c = reinterpret_cast<cmsghdr*>(control);
  for (Handle fd : fds) {
    if (fd == kNoHandle || count == kMaxFds) continue;
    std::memcpy(CMSG_DATA(c) + count * sizeof(fd), &fd, sizeof(fd));
    ++count;
  }
  if (count != 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * count);
  }
  const ssize_t sent = SendOne(channel, header, MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent < 0 ? FromErrno() : IoResult::kDone;
}

IoResult Receive(BorrowedFd channel, Incoming& incoming) {
  incoming = Incoming();
  iovec iov = {&incoming.message, sizeof(incoming.message)};
  alignas(cmsghdr) char control[kControlSize];
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t got =
      ReceiveOne(channel, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) return FromErrno();
  TakeFds(header, incoming);
  incoming.size = static_cast<size_t>(got);
  incoming.truncated = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  return got == 0 ? IoResult::kGone : IoResult::kDone;
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

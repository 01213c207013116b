#include "base/unix_socket_sys.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

constexpr size_t kControlSize = CMSG_SPACE(sizeof(int) * kMaxMessageFds);

absl::Status PathTooLong(const std::string& path) {
  return absl::InvalidArgumentError(absl::StrCat(
      "socket path '", path, "' is longer than 107 bytes: use a shorter one"));
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return PathTooLong(path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// By descriptor, and only what is a socket: whoever may write to the directory
// could put a link to something else in its place.
absl::Status GiveAccess(const std::string& path, const SocketAccess& access) {
  const UniqueFd file(open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat found = {};
  if (!file.valid() || fstat(file.get(), &found) != 0) {
    return ErrnoStatus(absl::StrCat("open ", path));
  }
  if (!S_ISSOCK(found.st_mode) || found.st_nlink != 1) {
    return absl::AbortedError(
        absl::StrCat(path, " was replaced while it was made: try again"));
  }
  if (fchownat(file.get(), "", access.owner, access.group, AT_EMPTY_PATH) !=
      0) {
    return ErrnoStatus(absl::StrCat("chown ", path));
  }
  const std::string by_fd = absl::StrCat("/proc/self/fd/", file.get());
  if (access.mode != 0 && chmod(by_fd.c_str(), access.mode) != 0) {
    return ErrnoStatus(absl::StrCat("chmod ", path));
  }
  return absl::OkStatus();
}

// Moves the descriptors of `header` to `fds`; returns how many came.
size_t TakeFds(msghdr& header, absl::Span<UniqueFd> fds) {
  size_t count = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr;
       c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; ++i) {
      int number;
      std::memcpy(&number, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      UniqueFd fd(number);
      if (count < fds.size()) fds[count] = std::move(fd);
      ++count;
    }
  }
  return count;
}

}  // namespace

ssize_t SendOne(BorrowedFd fd, const msghdr& message, int flags) {
  mmsghdr entry = {message, 0};
  int sent;
  do {
    sent = sendmmsg(fd.get(), &entry, 1, flags);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -1 : static_cast<ssize_t>(entry.msg_len);
}

ssize_t ReceiveOne(BorrowedFd fd, msghdr& message, int flags) {
  mmsghdr entry = {message, 0};
  int got;
  do {
    got = recvmmsg(fd.get(), &entry, 1, flags, nullptr);
  } while (got < 0 && errno == EINTR);
  message = entry.msg_hdr;
  return got < 0 ? -1 : static_cast<ssize_t>(entry.msg_len);
}

namespace {

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> PairOf(int type) {
  int pair[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) != 0) {
    return ErrnoStatus("socketpair");
  }
  return std::make_pair(UniqueFd(pair[0]), UniqueFd(pair[1]));
}

}  // namespace

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> SeqpacketPair() {
  return PairOf(SOCK_SEQPACKET);
}

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> StreamPair() {
  return PairOf(SOCK_STREAM);
}

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> ListenerPair() {
  char directory[] = "/tmp/holdfast-socket-XXXXXX";
  if (mkdtemp(directory) == nullptr) return ErrnoStatus("mkdtemp");
  const std::string path = absl::StrCat(directory, "/socket");
  absl::StatusOr<UniqueFd> listener = ListenAt(path);
  absl::StatusOr<UniqueFd> connection =
      listener.ok() ? ConnectTo(path) : listener.status();
  unlink(path.c_str());
  rmdir(directory);
  RETURN_IF_ERROR(connection.status());
  // Programs expect a socket that blocks.
  const int flags = fcntl(listener->get(), F_GETFL);
  fcntl(listener->get(), F_SETFL, flags & ~O_NONBLOCK);
  return std::make_pair(*std::move(connection), *std::move(listener));
}

ssize_t SendFds(BorrowedFd fd, absl::Span<const uint8_t> bytes,
                absl::Span<const int> fds, int flags) {
  if (fds.size() > kMaxMessageFds) {
    errno = EINVAL;
    return -1;
  }
  iovec iov = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[kControlSize];
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    std::memset(control, 0, header.msg_controllen);
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
  }
  return SendOne(fd, header, flags | MSG_NOSIGNAL);
}

Received ReceiveFds(BorrowedFd fd, absl::Span<uint8_t> buffer,
                    absl::Span<UniqueFd> fds, int flags) {
  iovec iov = {buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[kControlSize];
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  Received received;
  received.size = ReceiveOne(fd, header, flags | MSG_CMSG_CLOEXEC);
  if (received.size < 0) return received;
  const size_t came = TakeFds(header, fds);
  received.fd_count = std::min(came, fds.size());
  received.truncated =
      (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || came > fds.size();
  return received;
}

absl::Status SendWithFds(BorrowedFd fd, absl::Span<const uint8_t> bytes,
                         absl::Span<const int> fds) {
  const ssize_t sent = SendFds(fd, bytes, fds, 0);
  if (sent < 0) {
    if (errno == EPIPE || errno == ECONNRESET) {
      return absl::FailedPreconditionError("sendmsg: peer is gone");
    }
    return ErrnoStatus("sendmsg");
  }
  if (static_cast<size_t>(sent) != bytes.size()) {
    return absl::InternalError("sendmsg: message was cut");
  }
  return absl::OkStatus();
}

absl::StatusOr<ReceivedMessage> ReceiveWithFds(BorrowedFd fd,
                                               absl::Span<uint8_t> buffer,
                                               ReceivedFds& fds) {
  const Received received =
      ReceiveFds(fd, buffer, absl::MakeSpan(fds.fds).subspan(fds.count), 0);
  if (received.size < 0) {
    if (errno == ECONNRESET) return ReceivedMessage{};
    return ErrnoStatus("recvmsg");
  }
  fds.count += received.fd_count;
  return ReceivedMessage{static_cast<size_t>(received.size),
                         received.truncated};
}

absl::StatusOr<UniqueFd> ConnectTo(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus("socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    return ErrnoStatus(absl::StrCat("connect to ", path));
  }
  return fd;
}

absl::Status RemoveStaleSocket(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  struct stat file = {};
  if (lstat(path.c_str(), &file) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(absl::StrCat("stat ", path));
  }
  if (!S_ISSOCK(file.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(
        path, " exists and is not a socket: remove it or use another path"));
  }
  // Without blocking: the backlog of a living one may be full.
  UniqueFd probe(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return ErrnoStatus("socket");
  const bool dead =
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0 &&
      errno == ECONNREFUSED;
  if (!dead) {
    return absl::AlreadyExistsError(absl::StrCat(
        "another process listens on ", path, ": end it or use another path"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(absl::StrCat("unlink ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ListenAt(const std::string& path,
                                  const SocketAccess& access) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus("socket");
  const auto* raw = reinterpret_cast<const sockaddr*>(&address);
  int bound = bind(fd.get(), raw, sizeof(address));
  if (bound != 0 && errno == EADDRINUSE) {
    RETURN_IF_ERROR(RemoveStaleSocket(path));
    bound = bind(fd.get(), raw, sizeof(address));
  }
  if (bound != 0) return ErrnoStatus(absl::StrCat("bind ", path));
  absl::Status status = GiveAccess(path, access);
  if (status.ok() && listen(fd.get(), 8) != 0) status = ErrnoStatus("listen");
  if (status.ok()) return fd;
  unlink(path.c_str());
  return status;
}

uint64_t SocketCookie(BorrowedFd socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) {
    return 0;
  }
  return cookie;
}

}  // namespace holdfast

#include "statestore/lane_sys.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/errno_status.h"

namespace holdfast {
namespace {

static_assert(sizeof(mmsghdr) == sizeof(LaneEntry) &&
              sizeof(msghdr) == sizeof(LaneEntry::header) &&
              offsetof(mmsghdr, msg_len) == offsetof(LaneEntry, length));
static_assert(sizeof(iovec) == sizeof(LaneVector) &&
              offsetof(iovec, iov_len) == offsetof(LaneVector, size));

// What one call of recvmsg can bring at most (the kernel's SCM_MAX_FD).
constexpr size_t kMaxListFds = 253;

// One recvmmsg of one entry. 1: entry.length holds the count; -1: errno.
//
// recvmmsg reports an error that waits on the socket before it looks at the
// queue, and takes it away. The only one here is ECONNRESET: the peer has
// closed without reading all replies. What it has sent before is still queued.
int ReceiveOne(int fd, mmsghdr* entry, int flags) {
  for (;;) {
    const int n = recvmmsg(fd, entry, /*vlen=*/1, flags, nullptr);
    if (n >= 0 || (errno != EINTR && errno != ECONNRESET)) return n;
  }
}

// Prepares entry and vector for a call. The compiler never looks at the entry
// through the type mmsghdr, only the kernel does.
mmsghdr* LayOut(LaneEntry& entry, LaneVector& vector, void* bytes, size_t size,
                void* control, size_t control_size) {
  vector.address = reinterpret_cast<uintptr_t>(bytes);
  vector.size = size;
  msghdr header{};
  header.msg_iov = reinterpret_cast<iovec*>(&vector);
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = control_size;
  std::memcpy(entry.header, &header, sizeof(header));
  return reinterpret_cast<mmsghdr*>(&entry);
}

// EFAULT, which the guard below provokes, is kDone with 0 bytes.
absl::StatusOr<LaneIo::Peeked> PeekOnce(int fd, mmsghdr& message) {
  constexpr int kFlags = MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
  LaneIo::Peeked peeked;
  if (ReceiveOne(fd, &message, kFlags) < 0) {
    if (errno == EAGAIN) return peeked;
    if (errno != EFAULT) return ErrnoStatus("recvmmsg (peek)");
    peeked.result = LaneIo::Result::kDone;
    return peeked;
  }
  peeked.size = message.msg_len;
  peeked.result =
      peeked.size == 0 ? LaneIo::Result::kClosed : LaneIo::Result::kDone;
  return peeked;
}

// Appends the descriptors in a received control buffer; whether there were any.
bool TakeFds(msghdr& header, std::vector<UniqueFd>& fds) {
  bool any = false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr;
       c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      fds.emplace_back(fd);
      any = true;
    }
  }
  return any;
}

}  // namespace

absl::StatusOr<LaneIo::Peeked> LaneSocket::Peek(absl::Span<uint8_t> into) {
  iovec vector{into.data(), into.size()};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &vector;
  message.msg_hdr.msg_iovlen = 1;
  absl::StatusOr<Peeked> peeked = PeekOnce(socket_.get(), message);
  if (!peeked.ok()) return peeked;
  // Without a control buffer no descriptor is made; the flag says that there
  // would have been one.
  peeked->has_fds = (message.msg_hdr.msg_flags & MSG_CTRUNC) != 0;
  if (peeked->result == Result::kDone && peeked->size == 0) {
    return absl::InternalError("lane: the message buffer is not mapped");
  }
  return peeked;
}

// When the buffer is full, the kernel's peek does not stop: it goes on through
// the queue, with zero bytes of each piece, to the first that has descriptors,
// and hands out those, which belong to a later message. A byte at an address
// that cannot be written ends the peek instead at the first piece that does not
// fit (unix_stream_read_generic: a failed copy ends the loop before descriptors
// of that piece are taken, and keeps what was copied).
absl::StatusOr<LaneIo::Peeked> LaneSocket::PeekWithFds(
    absl::Span<uint8_t> into, std::vector<UniqueFd>& fds) {
  void* const guard = reinterpret_cast<void*>(uintptr_t{1});
  iovec vector[] = {{into.data(), into.size()}, {guard, 1}};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(kMaxListFds * sizeof(int))];
  mmsghdr message{};
  message.msg_hdr.msg_iov = vector;
  message.msg_hdr.msg_iovlen = 2;
  message.msg_hdr.msg_control = control;
  message.msg_hdr.msg_controllen = sizeof(control);
  absl::StatusOr<Peeked> peeked = PeekOnce(socket_.get(), message);
  if (!peeked.ok() || peeked->size == 0) return peeked;
  peeked->has_fds = TakeFds(message.msg_hdr, fds);
  if ((message.msg_hdr.msg_flags & MSG_CTRUNC) != 0) {
    return absl::ResourceExhaustedError(
        "descriptors of a message could not be received: RLIMIT_NOFILE");
  }
  return peeked;
}

absl::StatusOr<int> LaneSocket::PeekOffset() {
  int offset = -1;
  socklen_t size = sizeof(offset);
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_PEEK_OFF, &offset, &size) != 0) {
    return ErrnoStatus("getsockopt SO_PEEK_OFF");
  }
  return offset;
}

absl::Status LaneSocket::SetPeekOffset(size_t offset) {
  const int value = static_cast<int>(offset);
  if (setsockopt(socket_.get(), SOL_SOCKET, SO_PEEK_OFF, &value,
                 sizeof(value)) != 0) {
    return ErrnoStatus("setsockopt SO_PEEK_OFF");
  }
  return absl::OkStatus();
}

absl::StatusOr<LaneIo::Taken> LaneSocket::Receive(LaneEntry& entry,
                                                  LaneVector& vector,
                                                  absl::Span<uint8_t> into) {
  mmsghdr* const message =
      LayOut(entry, vector, into.data(), into.size(), nullptr, 0);
  if (ReceiveOne(socket_.get(), message, MSG_DONTWAIT) < 0) {
    if (errno == EAGAIN) return Taken{};
    return ErrnoStatus("recvmmsg");
  }
  msghdr header;
  std::memcpy(&header, entry.header, sizeof(header));
  return Taken{Result::kDone, (header.msg_flags & MSG_CTRUNC) != 0};
}

absl::StatusOr<LaneIo::Result> LaneSocket::Send(LaneEntry& entry,
                                                LaneVector& vector,
                                                absl::Span<const uint8_t> bytes,
                                                absl::Span<const int> fds) {
  if (fds.size() > kMaxListFds) {
    return absl::InternalError("a reply with more than 253 descriptors");
  }
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(kMaxListFds * sizeof(int))];
  const size_t control_size =
      fds.empty() ? 0 : CMSG_SPACE(fds.size() * sizeof(int));
  if (!fds.empty()) {
    std::memset(control, 0, control_size);
    cmsghdr c{};
    c.cmsg_level = SOL_SOCKET;
    c.cmsg_type = SCM_RIGHTS;
    c.cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(control, &c, sizeof(c));
    std::memcpy(control + CMSG_LEN(0), fds.data(), fds.size() * sizeof(int));
  }
  mmsghdr* const message =
      LayOut(entry, vector, const_cast<uint8_t*>(bytes.data()), bytes.size(),
             fds.empty() ? nullptr : control, control_size);
  int n;
  do {
    n = sendmmsg(socket_.get(), message, /*vlen=*/1,
                 MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) return Result::kDone;
  if (errno == EAGAIN) return Result::kNothing;
  if (errno == EPIPE || errno == ECONNRESET) return Result::kClosed;
  return ErrnoStatus("sendmmsg");
}

absl::Status LaneSocket::WaitWritable() {
  pollfd poll_fd{socket_.get(), POLLOUT, 0};
  while (ppoll(&poll_fd, 1, nullptr, nullptr) < 0) {
    if (errno != EINTR) return ErrnoStatus("ppoll");
  }
  return absl::OkStatus();
}

}  // namespace holdfast

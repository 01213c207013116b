#ifndef HOLDFAST_BASE_UNIX_SOCKET_SYS_H_
#define HOLDFAST_BASE_UNIX_SOCKET_SYS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

struct msghdr;

namespace holdfast {

// sendmsg(2) and recvmsg(2), retried on EINTR, by way of sendmmsg and recvmmsg:
// a device needs those two anyway (statestore/lane.h), and its steady-state
// filter allows no call that it can do without. Return bytes, or -1 and errno.
// ReceiveOne updates `message` as recvmsg does.
ssize_t SendOne(BorrowedFd fd, const msghdr& message, int flags);
ssize_t ReceiveOne(BorrowedFd fd, msghdr& message, int flags);

// Descriptors in one message of our own control channels. A limit of ours, far
// below the kernel's 253: no control message needs more than 8.
inline constexpr size_t kMaxMessageFds = 16;

struct Received {
  ssize_t size = 0;        // Bytes; 0: the peer has closed; -1: errno says why.
  size_t fd_count = 0;     // Of `fds`.
  bool truncated = false;  // There were more bytes or descriptors.
};

// One message with its descriptors, without allocation: for processes that have
// none left to make, and whose errors are not text. `fds` are the descriptors
// to send (at most kMaxMessageFds), or the places for those received,
// close-on-exec; what finds no place is closed. `flags`: MSG_DONTWAIT or 0.
// SendFds returns the bytes sent, or -1 and errno, and never raises SIGPIPE.
ssize_t SendFds(BorrowedFd fd, absl::Span<const uint8_t> bytes,
                absl::Span<const int> fds, int flags);
Received ReceiveFds(BorrowedFd fd, absl::Span<uint8_t> buffer,
                    absl::Span<UniqueFd> fds, int flags);

// Descriptors that came with a message, owned. Fixed memory.
struct ReceivedFds {
  UniqueFd fds[kMaxMessageFds];
  size_t count = 0;
};

// A connected AF_UNIX SOCK_SEQPACKET pair, close-on-exec.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> SeqpacketPair();

// The same of SOCK_STREAM.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> StreamPair();

// A connection, and the listening socket, which blocks, that it waits at: for
// programs that take a listener. Whoever accepts finds what was sent already.
// Nobody else can connect: its name is gone.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> ListenerPair();

// Sends one message with descriptors. Does not block when `fd` is
// non-blocking: then kUnavailable. kFailedPrecondition when the peer is gone.
absl::Status SendWithFds(BorrowedFd fd, absl::Span<const uint8_t> bytes,
                         absl::Span<const int> fds);

struct ReceivedMessage {
  size_t size = 0;         // Bytes written to the buffer; 0: peer has closed.
  bool truncated = false;  // The message was larger or had more descriptors.
};

// Receives one message into `buffer`; its descriptors, close-on-exec, into
// `fds`. kUnavailable when `fd` is non-blocking and nothing is there.
absl::StatusOr<ReceivedMessage> ReceiveWithFds(BorrowedFd fd,
                                               absl::Span<uint8_t> buffer,
                                               ReceivedFds& fds);

// Who may connect to a socket file. What is left out stays as the kernel makes
// it: the process's own ids, and 0777 without its umask.
struct SocketAccess {
  uid_t owner = static_cast<uid_t>(-1);
  gid_t group = static_cast<gid_t>(-1);
  mode_t mode = 0;
};

// A listening AF_UNIX SOCK_STREAM socket at `path`, close-on-exec and
// non-blocking; nobody connects before its file has owner and mode. A stale
// socket file is replaced as by RemoveStaleSocket(); kInvalidArgument when the
// path is longer than 107 bytes.
absl::StatusOr<UniqueFd> ListenAt(const std::string& path,
                                  const SocketAccess& access = {});

// Removes the socket file at `path` if nobody has it open any more; that there
// is none is fine. kAlreadyExists, with the path, for anything else that
// stands there: another kind of file, or a socket of a living process.
absl::Status RemoveStaleSocket(const std::string& path);

// Connects to `path`; blocking.
absl::StatusOr<UniqueFd> ConnectTo(const std::string& path);

// A number that no other socket has had since the machine was started, the same
// by every descriptor of it (SO_COOKIE); 0: it is no socket.
uint64_t SocketCookie(BorrowedFd socket);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_UNIX_SOCKET_SYS_H_

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

// Descriptors that came with a message, owned. Fixed memory.
struct ReceivedFds {
  UniqueFd fds[kMaxMessageFds];
  size_t count = 0;
};

// A connected AF_UNIX SOCK_SEQPACKET pair, close-on-exec.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> SeqpacketPair();

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

// A listening AF_UNIX SOCK_STREAM socket at `path`, close-on-exec and
// non-blocking. A stale socket file, one that nobody listens on, is replaced;
// kAlreadyExists when somebody does, kInvalidArgument when the path is longer
// than 107 bytes.
absl::StatusOr<UniqueFd> ListenAt(const std::string& path);

// Connects to `path`; blocking.
absl::StatusOr<UniqueFd> ConnectTo(const std::string& path);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_UNIX_SOCKET_SYS_H_

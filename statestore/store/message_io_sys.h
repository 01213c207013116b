#ifndef HOLDFAST_STATESTORE_STORE_MESSAGE_IO_SYS_H_
#define HOLDFAST_STATESTORE_STORE_MESSAGE_IO_SYS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"

namespace holdfast::store {

// Sending and receiving of protocol.h without allocation, which the functions
// of base/unix_socket_sys.h cannot promise: an absl::Status with a message is
// on the heap. Only sendmmsg(2), recvmmsg(2), ppoll(2) and close(2) are called.

enum class IoResult : uint8_t {
  kDone,
  kAgain,  // Would block.
  kGone,   // The peer has closed or died.
  kError,  // Anything else; errno says what.
};

// Sends one message with the descriptors of `fds` that are not kNoHandle (at
// most kMaxFds). Never blocks, never raises SIGPIPE.
IoResult Send(BorrowedFd channel, const Message& message,
              absl::Span<const Handle> fds);

// Receives one message, not validated (incoming.h). Never blocks. The caller
// owns the descriptors in `incoming` (close-on-exec) on every result; kGone:
// the peer has closed, or sent an empty message, which has the same meaning
// here.
IoResult Receive(BorrowedFd channel, Incoming& incoming);

// Closes all descriptors in `incoming`.
void CloseFds(Incoming& incoming);

enum class Readiness : uint8_t { kReadable, kWritable, kEither };

// Waits until `channel` is ready so, or closed by the peer, or `timeout_ms`
// (-1: for ever) have passed: kAgain.
IoResult WaitFor(BorrowedFd channel, Readiness readiness, int timeout_ms);

// CLOCK_MONOTONIC in ns.
uint64_t MonotonicNs();

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_MESSAGE_IO_SYS_H_

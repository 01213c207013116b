#ifndef HOLDFAST_STATESTORE_LANE_H_
#define HOLDFAST_STATESTORE_LANE_H_

// A request lane: every message of a byte stream is executed exactly once and
// answered exactly once, although the process that does it may be killed at any
// instruction. What was received, executed and sent stands in a journal in the
// device's segment; the kernel itself writes the counts (exactly-once.md,
// sections 2 to 4; docs/lane-format.md). A successor runs the same loop as a
// first start: there is no recovery code.
//
// Four conditions, the caller's duty:
//  1. The section is MAP_SHARED memory of a sealed memfd, faulted in and locked
//     in *this* process (LockMemory; fork and exec do not inherit locks).
//  2. Another process keeps the socket and the memfd open.
//  3. A successor calls Attach only after the kernel has said that no thread of
//     the predecessor will execute another instruction.
//  4. One thread at a time uses a lane and its socket. It must do no I/O that
//     could block.
// Not for datagrams, and not for a stream on which this side also asks.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/lane_format.h"
#include "statestore/lane_io.h"

namespace holdfast {

// All in bytes, each at most kLaneMaxBytes. A message beyond max_message is the
// peer's error, a reply beyond max_reply the handler's.
struct LaneSizes {
  uint32_t bank = 0;
  uint32_t max_message = 0;
  uint32_t max_reply = 0;
};

// How large the section must be; a multiple of 4,096.
constexpr size_t LaneSize(const LaneSizes& sizes) {
  return LayOutLane(sizes.bank, sizes.max_message, sizes.max_reply).total;
}

// Descriptors with one message. More are the peer's error.
inline constexpr size_t kLaneMaxFds = 253;

// A protocol, as the lane sees it. The bank is all that it may remember from
// one message to the next; it begins as zeros.
class LaneHandler {
 public:
  struct Outcome {
    size_t reply_size = 0;  // 0: no reply.
    bool reply_has_fds = false;
  };

  virtual ~LaneHandler() = default;

  // Constant, not 0, at most LaneSizes::max_message.
  virtual size_t header_size() const = 0;

  // Pure. How many bytes the message that starts with these header_size() bytes
  // has in all, or an error: the peer broke the protocol.
  virtual absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const = 0;

  // Called for every message that carries descriptors, before it is consumed:
  // keep them outside this process (the store acknowledges). May be called
  // again for the same message after a crash, with fresh copies. What is not
  // moved out of `fds` is closed.
  virtual absl::Status Escrow(absl::Span<const uint8_t> message,
                              absl::Span<UniqueFd> fds) = 0;

  // Computes the new bank (given as a copy of the old one) and the reply. May
  // run again after a crash, so it must be a function of the old bank and the
  // message, plus idempotent effects. An error: the peer broke the protocol and
  // the connection is given up. `fd_count` descriptors are in escrow for this
  // message. `attempts` executions of it have begun, this one included: more
  // than 2 means that it kills whoever executes it.
  virtual absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                          size_t fd_count,
                                          absl::Span<const uint8_t> old_bank,
                                          absl::Span<uint8_t> new_bank,
                                          absl::Span<uint8_t> reply,
                                          uint32_t attempts) = 0;

  // Brings the world in line with the committed bank. Called after commit and
  // before the reply is sent, and again by a successor that finds the reply
  // unfinished: must be idempotent.
  virtual void Committed(absl::Span<const uint8_t> bank) = 0;

  // Descriptors to send with the first byte of the reply, borrowed until the
  // next call. Asked when Outcome::reply_has_fds, perhaps more than once and by
  // a successor; at least one, at most kLaneMaxFds.
  virtual absl::Span<const int> ReplyFds(absl::Span<const uint8_t> bank) = 0;
};

class Lane {
 public:
  // kIdle: no complete message is there. kClosed: the peer has closed, or reads
  // no more; call ResetConnection.
  enum class Progress { kIdle, kClosed };

  // Formats a section that is all zeros (or whose formatting was cut by a
  // crash), else checks it: kDataLoss when it is damaged, kFailedPrecondition
  // when it was made for other sizes or a later epoch owns it. `section` is
  // aligned to 64 bytes, has LaneSize(sizes) bytes and outlives the lane.
  // `epoch` counts promotions; its lower 32 bits are used.
  static absl::StatusOr<Lane> Attach(absl::Span<uint8_t> section,
                                     LaneSizes sizes, uint64_t epoch);

  // The committed bank. Valid until the next call of Run or ResetConnection.
  absl::Span<const uint8_t> bank() const;

  // Requests committed on this connection.
  uint64_t sequence() const;

  // Serves what the socket holds. Never blocks for input; waits with ppoll
  // until a reply fits the socket buffer. Begin with a call, then call when the
  // socket becomes readable. Poll *edge-triggered*: the bytes of an incomplete
  // message that carries descriptors stay in the socket, and such a message
  // must fit the socket's buffer.
  //
  // Errors: the handler's; kInvalidArgument, the peer's message is too large or
  // has too many descriptors; kDataLoss, bank or journal are damaged, or the
  // socket is not the one that the journal speaks of; kAborted, another epoch
  // has taken over: stop at once. After any other error the connection must be
  // given up: ResetConnection.
  absl::StatusOr<Progress> Run(BorrowedFd socket, LaneHandler& handler);

  // The same over another implementation of the system calls, for tests.
  absl::StatusOr<Progress> RunOn(LaneIo& io, LaneHandler& handler);

  // Forgets journal and bank, which is all zeros then. The next Run is given a
  // new connection. Idempotent; a crash leaves the old state or the new one.
  // kAborted as above.
  absl::Status ResetConnection();

 private:
  enum class Step { kAgain, kIdle, kClosed };

  Lane(absl::Span<uint8_t> section, LaneSizes sizes, uint32_t epoch);

  // Taking over the section (lane_attach.cc).
  absl::Status Format();
  absl::Status Validate() const;
  absl::Status ClaimEpoch();

  // Receiving.
  absl::Status AdoptSocket(LaneIo& io);
  absl::StatusOr<Step> ReceiveOnce(LaneIo& io, LaneHandler& handler);
  absl::StatusOr<Step> Glance(LaneIo& io, LaneHandler& handler, size_t have);
  absl::StatusOr<Step> Admit(LaneIo& io, LaneHandler& handler, size_t have,
                             size_t viewed);
  absl::StatusOr<Step> EscrowAndTake(LaneIo& io, LaneHandler& handler,
                                     size_t have, size_t total);
  absl::StatusOr<Step> Take(LaneIo& io, size_t have, size_t count);
  absl::StatusOr<size_t> TotalSize(const LaneHandler& handler) const;
  absl::StatusOr<size_t> Received() const;
  absl::Status Rewind(LaneIo& io);

  // Executing and replying.
  absl::Status Execute(LaneHandler& handler, size_t size);
  absl::StatusOr<Step> Reply(LaneIo& io, LaneHandler& handler);
  absl::StatusOr<size_t> Sent() const;
  absl::Status FinishReply();

  // Journal.
  LaneWord word() const;
  absl::Status Commit(LaneWord next);
  LaneHeader& header() const;
  LaneRxSet& rx() const { return header().rx[word().rx]; }
  LaneTxSet& tx() const { return header().tx[word().tx]; }
  absl::Span<uint8_t> Bank(uint32_t index) const;
  absl::Span<uint8_t> Message() const;
  absl::Span<uint8_t> ReplyBuffer() const;
  uint32_t BankCrc(uint32_t index) const;

  absl::Span<uint8_t> section_;
  LaneSizes sizes_;
  LaneLayout layout_;
  uint32_t epoch_;

  // What this process knows of the socket; learnt anew by every incarnation.
  bool adopted_ = false;
  size_t peek_offset_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_H_

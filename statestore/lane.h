#ifndef HOLDFAST_STATESTORE_LANE_H_
#define HOLDFAST_STATESTORE_LANE_H_

// A request lane: every message of a byte stream is executed exactly once and
// answered exactly once, although the process that does it may be killed at any
// instruction. What was received, executed and sent stands in a journal in the
// device's segment; the kernel itself writes the counts (exactly-once.md,
// sections 2 to 4; docs/lane-format.md). A successor runs the same loop as a
// first start: there is no recovery code.
//
// It reads ahead: a message is executed where a look has found it, and its
// bytes stay in the socket until it pays to take them out together. The commit
// says how many they are (decision 9).
//
// Four conditions, the caller's duty:
//  1. The section is MAP_SHARED memory of a sealed memfd, faulted in and locked
//     in *this* process (LockMemory; fork and exec do not inherit locks).
//  2. Another process keeps the socket and the memfd open.
//  3. A successor calls Attach only after the kernel has said that no thread of
//     the predecessor will execute another instruction.
//  4. One thread at a time uses a lane and its socket. It must do no I/O that
//     could block.
// Not for datagrams. This side may send requests of its own on the stream while
// the lane is idle, whole ones: see devices/vfio_user/ask_journal.h.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/lane_format.h"
#include "statestore/lane_handler.h"
#include "statestore/lane_io.h"
#include "statestore/lane_journal.h"

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

class Lane {
 public:
  // kIdle: no complete message is there, or one that its handler has put off;
  // then nothing but the next Run looks at it. kClosed: the peer has closed, or
  // reads no more; call ResetConnection.
  enum class Progress { kIdle, kClosed };

  // How the caller learns that there is more to do. It decides when Run may say
  // kIdle, and what it may leave in the socket.
  enum class Waiting {
    // In any way. Run looks until it finds nothing, and leaves nothing.
    kAny,
    // Level-triggered. One look may tell that nothing more was there.
    kLevel,
    // Edge-triggered, for EPOLLIN | EPOLLRDHUP. As kLevel, but executed bytes
    // may be left: see unread(). To be used only as long as no event has said
    // EPOLLRDHUP, EPOLLHUP or EPOLLERR; then kAny.
    kEdge,
  };

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
  // socket becomes readable. The bytes of an incomplete message that carries
  // descriptors stay in the socket (a level-triggered poll would spin on them),
  // and such a message must fit the socket's buffer.
  //
  // Errors: the handler's; kInvalidArgument, the peer's message is too large or
  // has too many descriptors; kDataLoss, bank or journal are damaged, or the
  // socket is not the one that the journal speaks of; kAborted, another epoch
  // has taken over: stop at once. After any other error the connection must be
  // given up: ResetConnection.
  absl::StatusOr<Progress> Run(BorrowedFd socket, LaneHandler& handler,
                               Waiting waiting = Waiting::kAny);

  // The same over another implementation of the system calls, for tests.
  absl::StatusOr<Progress> RunOn(LaneIo& io, LaneHandler& handler,
                                 Waiting waiting = Waiting::kAny);

  // Executed bytes that are still in the socket; not 0 only after a Run with
  // kEdge. They count against the peer's send buffer, where they are few, but a
  // peer with a tiny one could wait for its being nearly empty: call Settle
  // when nothing has come for kSettlePauseMs. Closing the socket while they are
  // there gives the peer ECONNRESET after the last reply instead of the end of
  // the stream: call Settle before. Run itself has settled when it returns
  // kClosed or an error that the peer has caused.
  size_t unread() const;
  static constexpr int kSettlePauseMs = 10;

  // Takes them out. Errors as those of Run.
  absl::Status Settle(BorrowedFd socket);
  absl::Status SettleOn(LaneIo& io);

  // Forgets journal and bank, which is all zeros then. The next Run is given a
  // new connection. Idempotent; a crash leaves the old state or the new one.
  // kAborted as above.
  absl::Status ResetConnection();

 private:
  enum class Step { kAgain, kIdle, kClosed };

  Lane(absl::Span<uint8_t> section, LaneSizes sizes, uint32_t epoch);

  // Taking over the section (lane_attach.cc).
  absl::Status Format();
  absl::Status Validate();
  absl::Status ValidateHeader();
  void RaiseVersion();
  absl::Status ClaimEpoch();

  absl::StatusOr<Progress> Loop(LaneIo& io, LaneHandler& handler,
                                Waiting waiting);

  // Receiving (lane_receive.cc).
  absl::Status AdoptSocket(LaneIo& io);
  absl::StatusOr<Step> ReceiveOnce(LaneIo& io, LaneHandler& handler,
                                   Waiting waiting);
  absl::StatusOr<Step> Glance(LaneIo& io, LaneHandler& handler);
  absl::StatusOr<Step> Admit(LaneIo& io, LaneHandler& handler, size_t viewed);
  absl::StatusOr<Step> EscrowAndTake(LaneIo& io, LaneHandler& handler,
                                     size_t total);
  absl::StatusOr<Step> Consume(LaneIo& io, absl::Span<uint8_t> into);
  absl::Status FoldRx();
  absl::StatusOr<size_t> TotalSize(const LaneHandler& handler) const;
  absl::StatusOr<LaneReception> TallyRx() const;
  absl::Status MovePeekOffset(LaneIo& io, size_t to);

  // Executing and replying.
  absl::StatusOr<Step> Execute(LaneHandler& handler, size_t total);
  absl::StatusOr<Step> Reply(LaneIo& io, LaneHandler& handler);
  absl::StatusOr<LaneTally> TallyTx() const;
  absl::Status FinishReply();

  // Journal.
  absl::Status Commit(LaneWord next);
  void ArmOtherRx(LaneWord& next);
  void ArmOtherTx(LaneWord& next);
  LaneHeader& header() const {
    return *reinterpret_cast<LaneHeader*>(section_.data());
  }
  LaneRxSet& rx() const { return header().rx[word_.rx]; }
  LaneTxSet& tx() const { return header().tx[word_.tx]; }
  absl::Span<uint8_t> Bank(uint32_t index) const {
    return section_.subspan(layout_.bank[index], sizes_.bank);
  }
  absl::Span<uint8_t> Message() const {
    return section_.subspan(layout_.message, sizes_.max_message);
  }
  absl::Span<uint8_t> ReplyBuffer() const {
    return section_.subspan(layout_.reply, sizes_.max_reply);
  }

  absl::Span<uint8_t> section_;
  LaneSizes sizes_;
  LaneLayout layout_;
  uint32_t epoch_;

  // False: a lane of version 1, see kLaneVersionConsuming.
  bool ahead_ = true;

  // What the journal says, so that not all of it is read for every message:
  // nobody else writes to it, but for the kernel, which is asked to.
  LaneWord word_;
  LaneReception received_;  // From AdoptSocket on.
  LaneTally sent_;          // The same; while replying.
  // Entries of a set that are perhaps not armed, the first ones.
  size_t rx_used_[2] = {kLaneEntries, kLaneEntries};
  size_t tx_used_[2] = {kLaneEntries, kLaneEntries};

  // What this process knows of the socket; learnt anew by every incarnation.
  bool adopted_ = false;
  size_t peek_offset_ = 0;
  // Bytes in the message buffer that were peeked and not consumed. They follow
  // those of the next message that were consumed, and these the `executed_`
  // bytes of the last one.
  size_t seen_ = 0;
  size_t executed_ = 0;
  bool seen_all_ = false;  // The last look found the end of the queue.
  size_t charge_ = 0;      // Of the unread bytes on the peer's send buffer.
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_H_

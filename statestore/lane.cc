#include "statestore/lane.h"

#include <algorithm>

#include "base/status_macros.h"
#include "statestore/lane_journal.h"
#include "statestore/lane_sys.h"

namespace holdfast {
namespace {

// The smallest send buffer that Linux allows. A peer that has one can send as
// long as less than this is charged to it.
constexpr size_t kSmallestSendBuffer = 4608;

// What a message of `size` bytes that came in one piece is charged to the send
// buffer of the peer: the kernel's bookkeeping and a power of two.
size_t ChargeOf(size_t size) {
  size_t room = 512;
  while (room < size + 320) room *= 2;
  return 256 + room;
}

}  // namespace

Lane::Lane(absl::Span<uint8_t> section, LaneSizes sizes, uint32_t epoch)
    : section_(section),
      sizes_(sizes),
      layout_(LayOutLane(sizes.bank, sizes.max_message, sizes.max_reply)),
      epoch_(epoch) {}

// ---- Journal ----

// The one store that makes things true. Full barrier: everything it refers to
// is written before, nothing of what follows can come before it.
absl::Status Lane::Commit(LaneWord next) {
  uint64_t expected = PackLaneWord(word_);
  if (!__atomic_compare_exchange_n(&header().commit, &expected,
                                   PackLaneWord(next), /*weak=*/false,
                                   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    return absl::AbortedError("lane: another epoch has taken over");
  }
  word_ = next;
  return absl::OkStatus();
}

// To be committed with `next`.
void Lane::ArmOtherRx(LaneWord& next) {
  next.rx ^= 1;
  ArmRx(header().rx[next.rx], rx_used_[next.rx]);
  rx_used_[next.rx] = 0;
}

void Lane::ArmOtherTx(LaneWord& next) {
  next.tx ^= 1;
  ArmEntries(header().tx[next.tx].entries, tx_used_[next.tx]);
  tx_used_[next.tx] = 0;
}

absl::Span<const uint8_t> Lane::bank() const { return Bank(word_.bank); }

uint64_t Lane::sequence() const {
  return header().records[word_.bank].sequence;
}

absl::Status Lane::ResetConnection() {
  LaneWord next = word_;
  next.replying = false;
  next.bank ^= 1;
  next.folded = 0;
  const absl::Span<uint8_t> bank = Bank(next.bank);
  std::fill(bank.begin(), bank.end(), 0);
  LaneRecord& record = header().records[next.bank];
  record = LaneRecord{};
  record.crc = LaneSum(record, bank);
  ArmOtherRx(next);
  adopted_ = false;
  RETURN_IF_ERROR(Commit(next));
  if (!ahead_) RaiseVersion();
  return absl::OkStatus();
}

size_t Lane::unread() const {
  if (adopted_) return received_.unread;
  const absl::StatusOr<LaneReception> at = TallyRx();
  return at.ok() ? at->unread : 0;
}

// ---- The loop ----

absl::StatusOr<Lane::Progress> Lane::Run(BorrowedFd socket,
                                         LaneHandler& handler,
                                         Waiting waiting) {
  LaneSocket io(socket);
  return RunOn(io, handler, waiting);
}

absl::Status Lane::Settle(BorrowedFd socket) {
  LaneSocket io(socket);
  return SettleOn(io);
}

absl::StatusOr<Lane::Progress> Lane::RunOn(LaneIo& io, LaneHandler& handler,
                                           Waiting waiting) {
  absl::StatusOr<Progress> progress = Loop(io, handler, waiting);
  const bool gives_up = progress.ok()
                            ? *progress == Progress::kClosed
                            : !absl::IsAborted(progress.status()) &&
                                  !absl::IsDataLoss(progress.status());
  // Else the peer would get ECONNRESET. More cannot be done about it.
  if (gives_up && adopted_) (void)SettleOn(io);
  return progress;
}

absl::StatusOr<Lane::Progress> Lane::Loop(LaneIo& io, LaneHandler& handler,
                                          Waiting waiting) {
  if (handler.header_size() == 0 ||
      handler.header_size() > sizes_.max_message) {
    return absl::InternalError("lane: unusable header size");
  }
  RETURN_IF_ERROR(AdoptSocket(io));
  seen_all_ = false;
  for (;;) {
    ASSIGN_OR_RETURN(const Step step, word_.replying
                                          ? Reply(io, handler)
                                          : ReceiveOnce(io, handler, waiting));
    if (step == Step::kClosed) return Progress::kClosed;
    if (step == Step::kAgain) continue;
    if (waiting != Waiting::kEdge || charge_ >= kSmallestSendBuffer) {
      RETURN_IF_ERROR(SettleOn(io));
    }
    return Progress::kIdle;
  }
}

absl::Status Lane::SettleOn(LaneIo& io) {
  RETURN_IF_ERROR(AdoptSocket(io));
  while (received_.unread != 0) {
    // A set cannot be folded during a reply: the commit word counts that.
    if (received_.next == kLaneEntries && word_.replying) break;
    uint8_t executed[kLaneMaxUnread];
    RETURN_IF_ERROR(
        Consume(io, absl::MakeSpan(executed, received_.unread)).status());
  }
  if (received_.unread == 0) charge_ = 0;
  return absl::OkStatus();
}

// ---- Executing and replying ----

// The message is in the buffer, and as far as it was not consumed, in the
// socket.
absl::StatusOr<Lane::Step> Lane::Execute(LaneHandler& handler, size_t total) {
  LaneRxSet& set = rx();
  LaneWord next = word_;
  next.bank ^= 1;
  const LaneRecord& old_record = header().records[word_.bank];
  const absl::Span<const uint8_t> old_bank = Bank(word_.bank);
  LaneRecord& record = header().records[next.bank];
  const absl::Span<uint8_t> bank = Bank(next.bank);
  if (old_record.crc != LaneSumAndCopy(old_record, old_bank, bank.data())) {
    return absl::DataLossError("lane: bank damaged");
  }
  const uint32_t attempts = std::max(set.attempts + 1, set.attempts);
  StoreWord(set.attempts, attempts);
  ASSIGN_OR_RETURN(const LaneHandler::Outcome outcome,
                   handler.Execute(Message().first(total), set.fd_count,
                                   old_bank, bank, ReplyBuffer(), attempts));
  if (outcome.later) {
    StoreWord(set.attempts, attempts - 1);
    return Step::kIdle;
  }
  if (outcome.reply_size > sizes_.max_reply) {
    return absl::InternalError("lane: reply is too large");
  }
  const size_t left = total - received_.have;
  record.sequence = old_record.sequence + 1;
  record.reply_size = static_cast<uint32_t>(outcome.reply_size);
  record.flags = PackUnread(received_.unread + left) |
                 (ahead_ ? kLaneStriped : 0) |
                 (outcome.reply_has_fds ? kLaneReplyHasFds : 0);
  record.crc = LaneSum(record, bank);
  ArmOtherTx(next);
  if (ahead_) ArmOtherRx(next);
  next.replying = true;
  next.folded = 0;
  RETURN_IF_ERROR(Commit(next));
  sent_ = LaneTally();
  if (ahead_) {
    received_ = LaneReception();
    received_.unread = UnreadOf(record);
  }
  if (left != 0) charge_ += ChargeOf(left);
  seen_ -= left;
  executed_ = total;
  return Step::kAgain;
}

absl::StatusOr<LaneTally> Lane::TallyTx() const {
  return TallyEntries(tx().entries, word_.folded,
                      header().records[word_.bank].reply_size);
}

absl::StatusOr<Lane::Step> Lane::Reply(LaneIo& io, LaneHandler& handler) {
  const LaneRecord& record = header().records[word_.bank];
  const size_t size = std::min(record.reply_size, sizes_.max_reply);
  handler.Committed(bank());
  while (sent_.bytes != size) {
    if (sent_.next == kLaneEntries) {
      LaneWord next = word_;
      next.folded = static_cast<uint32_t>(sent_.bytes);
      ArmOtherTx(next);
      RETURN_IF_ERROR(Commit(next));
      sent_.next = 0;
    }
    absl::Span<const int> fds;
    if (sent_.bytes == 0 && (record.flags & kLaneReplyHasFds) != 0) {
      fds = handler.ReplyFds(bank());
    }
    LaneEntry& entry = tx().entries[sent_.next];
    ASSIGN_OR_RETURN(
        const LaneIo::Result result,
        io.Send(entry, tx().vector,
                ReplyBuffer().subspan(sent_.bytes, size - sent_.bytes), fds));
    if (result == LaneIo::Result::kClosed) return Step::kClosed;
    if (result == LaneIo::Result::kNothing) {
      // The peer may be waiting for room itself, before it reads.
      RETURN_IF_ERROR(SettleOn(io));
      RETURN_IF_ERROR(io.WaitWritable());
      continue;
    }
    const size_t moved = LoadWord(entry.length);
    if (moved > size - sent_.bytes) {
      return absl::DataLossError("lane: the journal changed under our feet");
    }
    sent_.bytes += moved;
    tx_used_[word_.tx] = ++sent_.next;
  }
  RETURN_IF_ERROR(FinishReply());
  return Step::kAgain;
}

// The reply is out: ready for the next message.
absl::Status Lane::FinishReply() {
  LaneWord next = word_;
  next.replying = false;
  next.folded = 0;
  if (!ahead_) {
    ArmOtherRx(next);
    received_ = LaneReception();
  }
  return Commit(next);
}

}  // namespace holdfast

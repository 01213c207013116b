#include "statestore/lane.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/status_macros.h"
#include "statestore/lane_journal.h"
#include "statestore/lane_sys.h"

namespace holdfast {
namespace {

// How far to look while the size of the message is unknown. Nearly every
// message of a register protocol lies within it, so that one look tells size
// and descriptors. More would be copied again and again when requests queue.
constexpr size_t kGlanceSize = 1024;

}  // namespace

Lane::Lane(absl::Span<uint8_t> section, LaneSizes sizes, uint32_t epoch)
    : section_(section),
      sizes_(sizes),
      layout_(LayOutLane(sizes.bank, sizes.max_message, sizes.max_reply)),
      epoch_(epoch) {}

// ---- Journal ----

LaneHeader& Lane::header() const {
  return *reinterpret_cast<LaneHeader*>(section_.data());
}

LaneWord Lane::word() const {
  return UnpackLaneWord(__atomic_load_n(&header().commit, __ATOMIC_ACQUIRE));
}

// The one store that makes things true. Full barrier: everything it refers to
// is written before, nothing of what follows can come before it.
absl::Status Lane::Commit(LaneWord next) {
  uint64_t bits = __atomic_load_n(&header().commit, __ATOMIC_RELAXED);
  next.epoch = epoch_;
  if (static_cast<uint32_t>(bits >> 32) != epoch_ ||
      !__atomic_compare_exchange_n(&header().commit, &bits, PackLaneWord(next),
                                   /*weak=*/false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST)) {
    return absl::AbortedError("lane: another epoch has taken over");
  }
  return absl::OkStatus();
}

absl::Span<uint8_t> Lane::Bank(uint32_t index) const {
  return section_.subspan(layout_.bank[index], sizes_.bank);
}
absl::Span<uint8_t> Lane::Message() const {
  return section_.subspan(layout_.message, sizes_.max_message);
}
absl::Span<uint8_t> Lane::ReplyBuffer() const {
  return section_.subspan(layout_.reply, sizes_.max_reply);
}

uint32_t Lane::BankCrc(uint32_t index) const {
  const LaneRecord& record = header().records[index];
  const uint32_t crc = Crc32c(
      {reinterpret_cast<const uint8_t*>(&record), offsetof(LaneRecord, crc)});
  return Crc32cExtend(crc, Bank(index));
}

absl::Span<const uint8_t> Lane::bank() const { return Bank(word().bank); }

uint64_t Lane::sequence() const {
  return header().records[word().bank].sequence;
}

absl::Status Lane::ResetConnection() {
  LaneWord next = word();
  next.replying = false;
  next.bank ^= 1;
  next.rx ^= 1;
  next.folded = 0;
  const absl::Span<uint8_t> bank = Bank(next.bank);
  std::fill(bank.begin(), bank.end(), 0);
  LaneRecord& record = header().records[next.bank];
  record = LaneRecord{};
  record.crc = BankCrc(next.bank);
  ArmRx(header().rx[next.rx]);
  adopted_ = false;
  return Commit(next);
}

// ---- The loop ----

absl::StatusOr<Lane::Progress> Lane::Run(BorrowedFd socket,
                                         LaneHandler& handler) {
  LaneSocket io(socket);
  return RunOn(io, handler);
}

absl::StatusOr<Lane::Progress> Lane::RunOn(LaneIo& io, LaneHandler& handler) {
  if (handler.header_size() == 0 ||
      handler.header_size() > sizes_.max_message) {
    return absl::InternalError("lane: unusable header size");
  }
  RETURN_IF_ERROR(AdoptSocket(io));
  for (;;) {
    ASSIGN_OR_RETURN(const Step step, word().replying
                                          ? Reply(io, handler)
                                          : ReceiveOnce(io, handler));
    if (step == Step::kIdle) return Progress::kIdle;
    if (step == Step::kClosed) return Progress::kClosed;
  }
}

// ---- Receiving ----

absl::StatusOr<size_t> Lane::Received() const {
  ASSIGN_OR_RETURN(
      const LaneTally tally,
      TallyEntries(rx().entries, word().folded, sizes_.max_message));
  return tally.bytes;
}

// First contact of this incarnation with the socket. Compares journal and
// kernel: when a predecessor consumed bytes and their count did not reach the
// journal (its page was not locked), the peek offset still tells. Those bytes
// are in the message buffer since the peek, so the journal can be completed.
absl::Status Lane::AdoptSocket(LaneIo& io) {
  if (adopted_) return absl::OkStatus();
  const LaneWitness witness = LoadWitness(rx());
  if (!word().replying && witness.peeked != 0) {
    ASSIGN_OR_RETURN(const int offset, io.PeekOffset());
    ASSIGN_OR_RETURN(const size_t consumed, ConsumedByWitness(witness, offset));
    ASSIGN_OR_RETURN(
        const LaneTally tally,
        TallyEntries(rx().entries, word().folded, sizes_.max_message));
    if (consumed < tally.bytes || consumed > sizes_.max_message ||
        (consumed > tally.bytes && tally.next == kLaneEntries)) {
      return absl::DataLossError("lane: journal and socket disagree");
    }
    if (consumed > tally.bytes) {
      StoreWord(rx().entries[tally.next].length,
                static_cast<uint32_t>(consumed - tally.bytes));
    }
  }
  RETURN_IF_ERROR(Rewind(io));
  adopted_ = true;
  return absl::OkStatus();
}

absl::Status Lane::Rewind(LaneIo& io) {
  StoreWitness(rx(), {});  // Before the offset moves: it would lie.
  RETURN_IF_ERROR(io.RewindPeekOffset());
  peek_offset_ = 0;
  return absl::OkStatus();
}

// Size of the message in the buffer, whose header must be there.
absl::StatusOr<size_t> Lane::TotalSize(const LaneHandler& handler) const {
  const size_t header_size = handler.header_size();
  ASSIGN_OR_RETURN(const size_t total,
                   handler.MessageSize(Message().first(header_size)));
  if (total < header_size || total > sizes_.max_message) {
    return absl::InvalidArgumentError("lane: message has an impossible size");
  }
  return total;
}

absl::StatusOr<Lane::Step> Lane::ReceiveOnce(LaneIo& io, LaneHandler& handler) {
  ASSIGN_OR_RETURN(
      const LaneTally tally,
      TallyEntries(rx().entries, word().folded, sizes_.max_message));
  if (tally.ended) return Step::kClosed;
  if (tally.bytes >= handler.header_size()) {
    ASSIGN_OR_RETURN(const size_t total, TotalSize(handler));
    if (tally.bytes > total) {
      return absl::DataLossError("lane: more received than the message has");
    }
    if (tally.bytes == total) {
      RETURN_IF_ERROR(Execute(handler, total));
      return Step::kAgain;
    }
  }
  if (tally.next == kLaneEntries) {
    LaneWord next = word();
    next.rx ^= 1;
    next.folded = static_cast<uint32_t>(tally.bytes);
    ArmRxToContinue(header().rx[next.rx], rx());
    RETURN_IF_ERROR(Commit(next));
    return Step::kAgain;
  }
  const size_t admitted = rx().admitted;
  if (admitted > tally.bytes && admitted <= sizes_.max_message) {
    return Take(io, tally.bytes, admitted - tally.bytes);
  }
  return Glance(io, handler, tally.bytes);
}

// Looks at what comes next and consumes it when it carries no descriptors,
// complete or not.
absl::StatusOr<Lane::Step> Lane::Glance(LaneIo& io, LaneHandler& handler,
                                        size_t have) {
  if (peek_offset_ != 0) {
    RETURN_IF_ERROR(Rewind(io));
  } else {
    StoreWitness(rx(), {});
  }
  const size_t header_size = handler.header_size();
  size_t until = std::max(header_size, kGlanceSize);
  if (have >= header_size) {
    ASSIGN_OR_RETURN(until, TotalSize(handler));
  }
  until = std::min<size_t>(until, sizes_.max_message);
  const absl::Span<uint8_t> rest = Message().subspan(have, until - have);
  ASSIGN_OR_RETURN(const LaneIo::Peeked peeked, io.Peek(rest));
  if (peeked.result == LaneIo::Result::kClosed) return Step::kClosed;
  if (peeked.result == LaneIo::Result::kNothing) return Step::kIdle;
  peek_offset_ = peeked.size;
  if (peeked.has_fds) return Admit(io, handler, have, peeked.size);

  size_t count = peeked.size;
  if (have + count >= header_size) {
    ASSIGN_OR_RETURN(const size_t total, TotalSize(handler));
    count = std::min(count, total - have);
  }
  StoreWitness(
      rx(), {static_cast<uint32_t>(peeked.size), static_cast<uint32_t>(have)});
  return Take(io, have, count);
}

// Descriptors are in sight: looks on, without consuming, until the message is
// complete. `viewed` bytes were peeked behind the `have` consumed ones.
absl::StatusOr<Lane::Step> Lane::Admit(LaneIo& io, LaneHandler& handler,
                                       size_t have, size_t viewed) {
  for (;;) {
    size_t wanted = handler.header_size();
    if (have + viewed >= wanted) {
      ASSIGN_OR_RETURN(wanted, TotalSize(handler));
      if (have + viewed >= wanted) {
        return EscrowAndTake(io, handler, have, wanted);
      }
    }
    const absl::Span<uint8_t> rest =
        Message().subspan(have + viewed, wanted - have - viewed);
    ASSIGN_OR_RETURN(const LaneIo::Peeked peeked, io.Peek(rest));
    if (peeked.result == LaneIo::Result::kClosed) return Step::kClosed;
    if (peeked.result == LaneIo::Result::kNothing) return Step::kIdle;
    viewed += peeked.size;
    peek_offset_ = viewed;
  }
}

// The message is complete in the socket. Peeks exactly its bytes again, this
// time with their descriptors, and consumes it after these are in escrow.
absl::StatusOr<Lane::Step> Lane::EscrowAndTake(LaneIo& io, LaneHandler& handler,
                                               size_t have, size_t total) {
  RETURN_IF_ERROR(Rewind(io));
  std::vector<UniqueFd> fds;
  for (size_t at = have; at < total;) {
    const absl::Span<uint8_t> rest = Message().subspan(at, total - at);
    ASSIGN_OR_RETURN(LaneIo::Peeked peeked, io.PeekWithFds(rest, fds));
    if (peeked.result == LaneIo::Result::kDone && peeked.size == 0) {
      // The rest is the beginning of a piece. Only for the peek offset.
      ASSIGN_OR_RETURN(peeked, io.Peek(rest));
    }
    if (peeked.result != LaneIo::Result::kDone) {
      return absl::DataLossError("lane: peeked bytes are gone");
    }
    if (fds.size() > kLaneMaxFds) {
      return absl::InvalidArgumentError("lane: too many descriptors");
    }
    at += peeked.size;
    peek_offset_ = at - have;
  }
  if (!fds.empty()) {
    RETURN_IF_ERROR(
        handler.Escrow(Message().first(total), absl::MakeSpan(fds)));
    rx().fd_count = static_cast<uint32_t>(fds.size());
    // Last: it says that the escrow is done.
    __atomic_store_n(&rx().admitted, static_cast<uint32_t>(total),
                     __ATOMIC_RELEASE);
  }
  StoreWitness(
      rx(), {static_cast<uint32_t>(total - have), static_cast<uint32_t>(have)});
  return Take(io, have, total - have);
}

// Consumes at most `count` bytes that a peek has seen. Fewer when descriptors
// lie between them; the loop comes back.
absl::StatusOr<Lane::Step> Lane::Take(LaneIo& io, size_t have, size_t count) {
  ASSIGN_OR_RETURN(
      const LaneTally tally,
      TallyEntries(rx().entries, word().folded, sizes_.max_message));
  if (tally.next == kLaneEntries) {
    return absl::DataLossError("lane: the journal changed under our feet");
  }
  LaneEntry& entry = rx().entries[tally.next];
  ASSIGN_OR_RETURN(
      const LaneIo::Taken taken,
      io.Receive(entry, rx().vector, Message().subspan(have, count)));
  if (taken.result == LaneIo::Result::kNothing) return Step::kIdle;
  if (taken.dropped_fds && rx().admitted == 0) {
    return absl::InvalidArgumentError(
        "lane: descriptors with bytes of two messages");
  }
  const size_t size = LoadWord(entry.length);
  peek_offset_ -= std::min(peek_offset_, size);
  return Step::kAgain;
}

// ---- Executing and replying ----

absl::Status Lane::Execute(LaneHandler& handler, size_t size) {
  LaneRxSet& set = rx();
  LaneWord next = word();
  if (header().records[next.bank].crc != BankCrc(next.bank)) {
    return absl::DataLossError("lane: bank damaged");
  }
  const uint32_t attempts = std::max(set.attempts + 1, set.attempts);
  StoreWord(set.attempts, attempts);

  const LaneRecord& old_record = header().records[next.bank];
  const absl::Span<const uint8_t> old_bank = Bank(next.bank);
  next.bank ^= 1;
  const absl::Span<uint8_t> new_bank = Bank(next.bank);
  std::copy(old_bank.begin(), old_bank.end(), new_bank.begin());
  ASSIGN_OR_RETURN(
      const LaneHandler::Outcome outcome,
      handler.Execute(Message().first(size), set.fd_count, old_bank, new_bank,
                      ReplyBuffer(), attempts));
  if (outcome.reply_size > sizes_.max_reply) {
    return absl::InternalError("lane: reply is too large");
  }
  LaneRecord& record = header().records[next.bank];
  record.sequence = old_record.sequence + 1;
  record.reply_size = static_cast<uint32_t>(outcome.reply_size);
  record.flags = outcome.reply_has_fds ? kLaneReplyHasFds : 0;
  record.crc = BankCrc(next.bank);
  next.tx ^= 1;
  ArmEntries(header().tx[next.tx].entries);
  next.replying = true;
  next.folded = 0;
  return Commit(next);
}

absl::StatusOr<size_t> Lane::Sent() const {
  ASSIGN_OR_RETURN(const LaneTally tally,
                   TallyEntries(tx().entries, word().folded,
                                header().records[word().bank].reply_size));
  return tally.bytes;
}

absl::StatusOr<Lane::Step> Lane::Reply(LaneIo& io, LaneHandler& handler) {
  const LaneRecord& record = header().records[word().bank];
  const size_t size = std::min(record.reply_size, sizes_.max_reply);
  handler.Committed(bank());
  for (;;) {
    ASSIGN_OR_RETURN(const LaneTally tally,
                     TallyEntries(tx().entries, word().folded, size));
    if (tally.bytes == size) break;
    if (tally.next == kLaneEntries) {
      LaneWord next = word();
      next.tx ^= 1;
      next.folded = static_cast<uint32_t>(tally.bytes);
      ArmEntries(header().tx[next.tx].entries);
      RETURN_IF_ERROR(Commit(next));
      continue;
    }
    absl::Span<const int> fds;
    if (tally.bytes == 0 && (record.flags & kLaneReplyHasFds) != 0) {
      fds = handler.ReplyFds(bank());
    }
    ASSIGN_OR_RETURN(
        const LaneIo::Result result,
        io.Send(tx().entries[tally.next], tx().vector,
                ReplyBuffer().subspan(tally.bytes, size - tally.bytes), fds));
    if (result == LaneIo::Result::kClosed) return Step::kClosed;
    if (result == LaneIo::Result::kNothing) RETURN_IF_ERROR(io.WaitWritable());
  }
  RETURN_IF_ERROR(FinishReply());
  return Step::kAgain;
}

// The reply is out: ready for the next message.
absl::Status Lane::FinishReply() {
  LaneWord next = word();
  next.replying = false;
  next.rx ^= 1;
  next.folded = 0;
  ArmRx(header().rx[next.rx]);
  return Commit(next);
}

}  // namespace holdfast

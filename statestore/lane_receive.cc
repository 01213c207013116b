// Receiving: looking, admitting descriptors, consuming.

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"
#include "statestore/lane.h"
#include "statestore/lane_journal.h"

namespace holdfast {
namespace {

// How far to look. Nearly every message of a register protocol lies within it,
// so that one look tells size and descriptors, and often shows several.
constexpr size_t kGlanceSize = 1024;

}  // namespace

absl::StatusOr<LaneReception> Lane::TallyRx() const {
  return TallyReception(rx(), word_.replying ? 0 : word_.folded,
                        UnreadOf(header().records[word_.bank]),
                        sizes_.max_message);
}

// First contact of this incarnation with the socket. Compares journal and
// kernel: when a predecessor consumed bytes and their count did not reach the
// journal (its page was not locked), the peek offset still tells. Those bytes
// are executed, or in the message buffer since the peek, so the journal can be
// completed. Then lets looks begin behind what is executed.
absl::Status Lane::AdoptSocket(LaneIo& io) {
  if (adopted_) return absl::OkStatus();
  const LaneWitness witness = LoadWitness(rx());
  ASSIGN_OR_RETURN(received_, TallyRx());
  // In version 1 the set of a reply is still that of its request.
  if (witness.peeked != 0 && (ahead_ || !word_.replying)) {
    ASSIGN_OR_RETURN(const int offset, io.PeekOffset());
    ASSIGN_OR_RETURN(const size_t consumed, ConsumedByWitness(witness, offset));
    const size_t lost = consumed - received_.consumed;
    if (consumed < received_.consumed ||
        (lost != 0 && received_.next == kLaneEntries)) {
      return absl::DataLossError("lane: journal and socket disagree");
    }
    if (lost != 0) {
      StoreWord(rx().entries[received_.next].length,
                static_cast<uint32_t>(lost));
      ASSIGN_OR_RETURN(received_, TallyRx());
    }
  }
  if (word_.replying) {
    ASSIGN_OR_RETURN(sent_, TallyTx());
  }
  RETURN_IF_ERROR(MovePeekOffset(io, received_.unread));
  executed_ = 0;
  // How many pieces they are is not known.
  charge_ = received_.unread == 0 ? 0 : SIZE_MAX / 2;
  adopted_ = true;
  return absl::OkStatus();
}

// What was seen is forgotten.
absl::Status Lane::MovePeekOffset(LaneIo& io, size_t to) {
  StoreWitness(rx(), {});  // Before the offset moves: it would lie.
  RETURN_IF_ERROR(io.SetPeekOffset(to));
  peek_offset_ = to;
  seen_ = 0;
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

absl::StatusOr<Lane::Step> Lane::ReceiveOnce(LaneIo& io, LaneHandler& handler,
                                             Waiting waiting) {
  if (executed_ != 0 && seen_ != 0) {
    std::memmove(Message().data(), Message().data() + executed_, seen_);
  }
  executed_ = 0;
  if (received_.ended) return Step::kClosed;
  const size_t have = received_.have;
  size_t wanted = seen_;
  if (seen_ + have != 0 && seen_ + have >= handler.header_size()) {
    ASSIGN_OR_RETURN(const size_t total, TotalSize(handler));
    if (have > total) {
      return absl::DataLossError("lane: more received than the message has");
    }
    const bool seen = have + seen_ >= total;
    if (have == total ||
        (ahead_ && seen && received_.unread + total - have <= kLaneMaxUnread)) {
      return Execute(handler, total);
    }
    wanted = std::min(seen_, total - have);
  }
  const size_t admitted = rx().admitted;
  if (admitted > have && admitted <= sizes_.max_message &&
      received_.unread == 0) {
    return Consume(io, Message().subspan(have, admitted - have));
  }
  if (seen_ == 0) {
    if (seen_all_ && waiting != Waiting::kAny) return Step::kIdle;
    return Glance(io, handler);
  }
  // Part of a message, or one too large to be left: it is consumed, after what
  // lies before it.
  if (received_.unread != 0) {
    RETURN_IF_ERROR(SettleOn(io));
    return Step::kAgain;
  }
  return Consume(io, Message().subspan(have, wanted));
}

// Looks at what comes next.
absl::StatusOr<Lane::Step> Lane::Glance(LaneIo& io, LaneHandler& handler) {
  if (peek_offset_ != received_.unread) {
    RETURN_IF_ERROR(MovePeekOffset(io, received_.unread));
  } else {
    StoreWitness(rx(), {});
  }
  const size_t have = received_.have;
  const size_t header_size = handler.header_size();
  size_t until = std::max(header_size, kGlanceSize);
  if (have >= header_size) {
    ASSIGN_OR_RETURN(const size_t total, TotalSize(handler));
    until = std::max(until, total);
  }
  until = std::min<size_t>(until, sizes_.max_message);
  const absl::Span<uint8_t> rest = Message().subspan(have, until - have);
  ASSIGN_OR_RETURN(const LaneIo::Peeked peeked, io.Peek(rest));
  if (peeked.result == LaneIo::Result::kClosed) return Step::kClosed;
  if (peeked.result == LaneIo::Result::kNothing) return Step::kIdle;
  peek_offset_ += peeked.size;
  if (!peeked.has_fds) {
    seen_ = peeked.size;
    seen_all_ = peeked.size < rest.size();
    return Step::kAgain;
  }
  if (received_.unread == 0) return Admit(io, handler, peeked.size);
  RETURN_IF_ERROR(SettleOn(io));
  return Step::kAgain;
}

// Descriptors are in sight: looks on, without consuming, until the message is
// complete. `viewed` bytes were peeked behind those consumed.
absl::StatusOr<Lane::Step> Lane::Admit(LaneIo& io, LaneHandler& handler,
                                       size_t viewed) {
  for (;;) {
    const size_t held = received_.have + viewed;
    size_t wanted = handler.header_size();
    if (held >= wanted) {
      ASSIGN_OR_RETURN(wanted, TotalSize(handler));
      if (held >= wanted) return EscrowAndTake(io, handler, wanted);
    }
    ASSIGN_OR_RETURN(const LaneIo::Peeked peeked,
                     io.Peek(Message().subspan(held, wanted - held)));
    if (peeked.result == LaneIo::Result::kClosed) return Step::kClosed;
    if (peeked.result == LaneIo::Result::kNothing) return Step::kIdle;
    viewed += peeked.size;
    peek_offset_ = viewed;
  }
}

// The message is complete in the socket. Peeks exactly its bytes again, this
// time with their descriptors, and consumes it after these are in escrow. Fewer
// bytes when descriptors lie between them; the loop comes back.
absl::StatusOr<Lane::Step> Lane::EscrowAndTake(LaneIo& io, LaneHandler& handler,
                                               size_t total) {
  RETURN_IF_ERROR(MovePeekOffset(io, 0));
  const size_t have = received_.have;
  std::vector<UniqueFd> fds;
  for (size_t end = have; end < total;) {
    const absl::Span<uint8_t> rest = Message().subspan(end, total - end);
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
    end += peeked.size;
    peek_offset_ = end - have;
  }
  if (!fds.empty()) {
    RETURN_IF_ERROR(
        handler.Escrow(Message().first(total), absl::MakeSpan(fds)));
    rx().fd_count = static_cast<uint32_t>(fds.size());
    // Last: it says that the escrow is done.
    __atomic_store_n(&rx().admitted, static_cast<uint32_t>(total),
                     __ATOMIC_RELEASE);
  }
  return Consume(io, Message().subspan(have, total - have));
}

// Uses the other set, with what this one has counted.
absl::Status Lane::FoldRx() {
  LaneWord next = word_;
  next.rx ^= 1;
  next.folded = static_cast<uint32_t>(received_.consumed);
  ArmRxToContinue(header().rx[next.rx], rx());
  RETURN_IF_ERROR(Commit(next));
  rx_used_[next.rx] = 0;
  received_.next = 0;
  return absl::OkStatus();
}

// Takes bytes from the head of the socket's queue: the executed ones, or else
// bytes of the next message.
absl::StatusOr<Lane::Step> Lane::Consume(LaneIo& io, absl::Span<uint8_t> into) {
  if (received_.next == kLaneEntries) RETURN_IF_ERROR(FoldRx());
  LaneEntry& entry = rx().entries[received_.next];
  StoreWitness(rx(), {static_cast<uint32_t>(peek_offset_),
                      static_cast<uint32_t>(received_.consumed)});
  ASSIGN_OR_RETURN(const LaneIo::Taken taken,
                   io.Receive(entry, rx().vector, into));
  const bool nothing = taken.result == LaneIo::Result::kNothing;
  const size_t size = nothing ? 0 : LoadWord(entry.length);
  if (size == 0 && received_.unread != 0) {
    return absl::DataLossError("lane: executed bytes are gone");
  }
  if (nothing) return Step::kIdle;
  if (size > into.size()) {
    return absl::DataLossError("lane: the journal changed under our feet");
  }
  rx_used_[word_.rx] = ++received_.next;
  received_.consumed += size;
  received_.ended = size == 0;
  peek_offset_ -= std::min(peek_offset_, size);
  if (received_.unread != 0) {
    received_.unread -= size;
  } else {
    received_.have += size;
    seen_ -= std::min(seen_, size);
  }
  if (taken.dropped_fds && rx().admitted == 0) {
    return absl::InvalidArgumentError(
        "lane: descriptors with bytes of two messages");
  }
  return Step::kAgain;
}

}  // namespace holdfast

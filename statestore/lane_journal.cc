#include "statestore/lane_journal.h"

#include <algorithm>

#include "absl/status/status.h"
#include "base/crc32c.h"
#include "base/status_macros.h"

namespace holdfast {

namespace {

template <bool kCopy>
uint32_t Sum(const LaneRecord& record, absl::Span<const uint8_t> bank,
             uint8_t* copy) {
  const uint32_t crc = Crc32c(
      {reinterpret_cast<const uint8_t*>(&record), offsetof(LaneRecord, crc)});
  if ((record.flags & kLaneStriped) == 0) {
    if (kCopy) std::copy(bank.begin(), bank.end(), copy);
    return Crc32cExtend(crc, kCopy ? absl::MakeSpan(copy, bank.size()) : bank);
  }
  const size_t words = bank.size() / 8;
  const Crc32cStripes stripes = internal::Striped<kCopy>(
      kCopy ? copy : const_cast<uint8_t*>(bank.data()), bank.data(), words);
  const absl::Span<const uint8_t> rest = bank.subspan(words * 8);
  if (kCopy) std::copy(rest.begin(), rest.end(), copy + words * 8);
  return Crc32cExtend(
      Crc32cExtend(
          crc, {reinterpret_cast<const uint8_t*>(&stripes), sizeof(stripes)}),
      kCopy ? absl::MakeSpan(copy + words * 8, rest.size()) : rest);
}

}  // namespace

uint32_t LaneSum(const LaneRecord& record, absl::Span<const uint8_t> bank) {
  return Sum<false>(record, bank, nullptr);
}

uint32_t LaneSumAndCopy(const LaneRecord& record,
                        absl::Span<const uint8_t> bank, uint8_t* copy) {
  return Sum<true>(record, bank, copy);
}

void ArmEntries(LaneEntry (&entries)[kLaneEntries], size_t used) {
  for (size_t i = 0; i < used; ++i) StoreWord(entries[i].length, kLaneArmed);
}

void ArmRx(LaneRxSet& set, size_t used) {
  ArmEntries(set.entries, used);
  set.attempts = 0;
  set.admitted = 0;
  set.fd_count = 0;
  StoreWitness(set, {});
}

void ArmRxToContinue(LaneRxSet& set, const LaneRxSet& from) {
  ArmEntries(set.entries);
  set.attempts = from.attempts;
  set.admitted = from.admitted;
  set.fd_count = from.fd_count;
  StoreWitness(set, LoadWitness(from));
}

absl::StatusOr<LaneTally> TallyEntries(const LaneEntry (&entries)[kLaneEntries],
                                       size_t folded, size_t limit) {
  LaneTally tally;
  tally.bytes = folded;
  tally.next = kLaneEntries;
  for (size_t i = 0; i < kLaneEntries; ++i) {
    const uint32_t length = LoadWord(entries[i].length);
    if (length == kLaneArmed) {
      if (tally.next == kLaneEntries) tally.next = i;
      continue;
    }
    if (tally.next != kLaneEntries) {
      return absl::DataLossError("lane journal: a gap in a set");
    }
    if (length == 0) tally.ended = true;
    tally.bytes += length;
  }
  if (tally.bytes > limit) {
    return absl::DataLossError("lane journal: a set counts too many bytes");
  }
  return tally;
}

absl::StatusOr<LaneReception> TallyReception(const LaneRxSet& set,
                                             size_t folded, size_t unread,
                                             size_t max_message) {
  ASSIGN_OR_RETURN(const LaneTally tally,
                   TallyEntries(set.entries, folded, unread + max_message));
  LaneReception reception;
  reception.consumed = tally.bytes;
  reception.unread = unread - std::min(unread, tally.bytes);
  reception.have = tally.bytes - std::min(unread, tally.bytes);
  reception.next = tally.next;
  reception.ended = tally.ended;
  return reception;
}

LaneWitness LoadWitness(const LaneRxSet& set) {
  const uint64_t bits = __atomic_load_n(&set.witness, __ATOMIC_RELAXED);
  return {static_cast<uint32_t>(bits >> 32), static_cast<uint32_t>(bits)};
}

void StoreWitness(LaneRxSet& set, LaneWitness witness) {
  __atomic_store_n(&set.witness,
                   uint64_t{witness.peeked} << 32 | witness.before,
                   __ATOMIC_RELAXED);
}

absl::StatusOr<size_t> ConsumedByWitness(LaneWitness witness, int peek_offset) {
  if (peek_offset < 0 || static_cast<uint32_t>(peek_offset) > witness.peeked) {
    return absl::DataLossError(
        "the socket is not the one that the lane journal speaks of");
  }
  return size_t{witness.before} + witness.peeked -
         static_cast<uint32_t>(peek_offset);
}

}  // namespace holdfast

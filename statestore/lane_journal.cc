#include "statestore/lane_journal.h"

#include "absl/status/status.h"

namespace holdfast {

void ArmEntries(LaneEntry (&entries)[kLaneEntries]) {
  for (LaneEntry& entry : entries) StoreWord(entry.length, kLaneArmed);
}

void ArmRx(LaneRxSet& set) {
  ArmEntries(set.entries);
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

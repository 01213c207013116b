#ifndef HOLDFAST_STATESTORE_LANE_JOURNAL_H_
#define HOLDFAST_STATESTORE_LANE_JOURNAL_H_

// Reading and writing the sets of a journal. Pure; total on any bytes.

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "statestore/lane_format.h"

namespace holdfast {

// Word-wise access to memory that the kernel and a successor read: never torn.
inline uint32_t LoadWord(const uint32_t& word) {
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
}
inline void StoreWord(uint32_t& word, uint32_t value) {
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}

// Marks every entry as not used by a system call. Only for a set that the
// commit word does not refer to.
void ArmEntries(LaneEntry (&entries)[kLaneEntries]);

// Arms `set` for a new message, or for the rest of the message that `from` has
// received in part.
void ArmRx(LaneRxSet& set);
void ArmRxToContinue(LaneRxSet& set, const LaneRxSet& from);

// What the entries of a set say.
struct LaneTally {
  size_t bytes = 0;    // Moved by all of them, plus what was folded.
  size_t next = 0;     // First armed entry; kLaneEntries when all are used.
  bool ended = false;  // One of them met the end of the stream.
};

// Adds up a set. kDataLoss when it counts more than `limit` bytes or has gaps:
// no kernel wrote that.
absl::StatusOr<LaneTally> TallyEntries(const LaneEntry (&entries)[kLaneEntries],
                                       size_t folded, size_t limit);

// The independent witness of reception: how many bytes had been peeked, and how
// many consumed before, when the peek offset was last moved by us.
struct LaneWitness {
  uint32_t peeked = 0;  // 0: there is no witness.
  uint32_t before = 0;
};
LaneWitness LoadWitness(const LaneRxSet& set);
void StoreWitness(LaneRxSet& set, LaneWitness witness);

// What the witness says, given the peek offset that the socket has now: bytes
// of this message consumed by now. kDataLoss when both cannot be true.
absl::StatusOr<size_t> ConsumedByWitness(LaneWitness witness, int peek_offset);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_JOURNAL_H_

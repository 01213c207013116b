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

// The sum of a record and its bank. With kLaneStriped, CRC32C of what stands
// before the sum, continued over the four sums of the whole words of the bank
// (Crc32cStriped) and over the bytes that are left; without, over the bank.
uint32_t LaneSum(const LaneRecord& record, absl::Span<const uint8_t> bank);

// The same, and copies the bank to `copy`, of the same size: what was copied is
// what was summed.
uint32_t LaneSumAndCopy(const LaneRecord& record,
                        absl::Span<const uint8_t> bank, uint8_t* copy);

// Marks entries as not used by a system call; `used` says how many of the first
// may not be so. Only for a set that the commit word does not refer to.
void ArmEntries(LaneEntry (&entries)[kLaneEntries], size_t used = kLaneEntries);

// Arms `set` for a new message, or for the rest of the message that `from` has
// received in part.
void ArmRx(LaneRxSet& set, size_t used = kLaneEntries);
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

// What a receiving set says.
struct LaneReception {
  size_t consumed = 0;  // Taken from the socket since the set was new.
  size_t unread = 0;    // Executed bytes that are still in the socket.
  size_t have = 0;      // Of the next message, consumed. Not 0: unread is 0.
  size_t next = 0;      // As in LaneTally, and so is the next.
  bool ended = false;
};

// Adds up a receiving set in front of which `unread` executed bytes were in the
// socket. kDataLoss as above.
absl::StatusOr<LaneReception> TallyReception(const LaneRxSet& set,
                                             size_t folded, size_t unread,
                                             size_t max_message);

// The independent witness of reception: where the peek offset was, and how many
// bytes had been consumed, before a call that consumes.
struct LaneWitness {
  uint32_t peeked = 0;  // The peek offset. 0: there is no witness.
  uint32_t before = 0;
};
LaneWitness LoadWitness(const LaneRxSet& set);
void StoreWitness(LaneRxSet& set, LaneWitness witness);

// What the witness says, given the peek offset that the socket has now: bytes
// consumed by now. kDataLoss when both cannot be true.
absl::StatusOr<size_t> ConsumedByWitness(LaneWitness witness, int peek_offset);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_JOURNAL_H_

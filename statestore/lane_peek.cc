#include "statestore/lane_peek.h"

#include <cstring>

#include "statestore/lane_format.h"
#include "statestore/lane_journal.h"

namespace holdfast {
namespace {

uint64_t CommitWord(absl::Span<const uint8_t> section) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(
                             section.data() + offsetof(LaneHeader, commit)),
                         __ATOMIC_ACQUIRE);
}

}  // namespace

bool PeekLaneBank(absl::Span<const uint8_t> section, const LaneSizes& sizes,
                  absl::Span<uint8_t> out) {
  const LaneLayout layout =
      LayOutLane(sizes.bank, sizes.max_message, sizes.max_reply);
  if (section.size() < layout.total || out.size() != sizes.bank) return false;
  const uint64_t bits = CommitWord(section);
  if (bits == 0) return false;
  const uint32_t index = UnpackLaneWord(bits).bank;
  LaneRecord record;
  std::memcpy(&record,
              section.data() + offsetof(LaneHeader, records) +
                  index * sizeof(LaneRecord),
              sizeof(record));
  std::memcpy(out.data(), section.data() + layout.bank[index], out.size());
  return LaneSum(record, out) == record.crc && CommitWord(section) == bits;
}

}  // namespace holdfast

#ifndef HOLDFAST_BASE_CRC32C_H_
#define HOLDFAST_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace holdfast {

// CRC32C (Castagnoli, reflected, initial and final inversion: the value that
// iSCSI and ext4 use) of `bytes`. Uses the processor's instruction where there
// is one.
uint32_t Crc32c(absl::Span<const uint8_t> bytes);

// Continues `crc`, a value that Crc32c returned, with more bytes:
// Crc32cExtend(Crc32c(a), b) == Crc32c(a + b).
uint32_t Crc32cExtend(uint32_t crc, absl::Span<const uint8_t> bytes);

// Striped CRC32C: the 8-byte words of the input are dealt out to four lanes in
// turn, and each lane has its own Crc32c. The four chains do not wait for each
// other, so this is three to four times as fast as Crc32c, from a few words on.
// It finds every error that one Crc32c finds: a burst or a flipped bit lies in
// some lane. In memory the sums of lanes 0 to 3 stand one after another.
struct Crc32cStripes {
  uint64_t lanes01;  // Lane 0 in the low half.
  uint64_t lanes23;

  uint32_t lane(int i) const {
    return static_cast<uint32_t>((i < 2 ? lanes01 : lanes23) >> i % 2 * 32);
  }
  friend bool operator==(Crc32cStripes a, Crc32cStripes b) {
    return a.lanes01 == b.lanes01 && a.lanes23 == b.lanes23;
  }
  friend bool operator!=(Crc32cStripes a, Crc32cStripes b) { return !(a == b); }
};
static_assert(sizeof(Crc32cStripes) == 16);

// Of `words` 8-byte words at `from`, which need no alignment.
Crc32cStripes Crc32cStriped(const uint8_t* from, size_t words);

// The same in the same time, and copies the words to `to`. What was copied is
// what was summed, even when somebody writes to `from` meanwhile. The ranges
// must not overlap.
Crc32cStripes Crc32cStripedCopy(uint8_t* to, const uint8_t* from, size_t words);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_CRC32C_H_

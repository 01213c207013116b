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

}  // namespace holdfast

#endif  // HOLDFAST_BASE_CRC32C_H_

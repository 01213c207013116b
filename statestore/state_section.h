#ifndef HOLDFAST_STATESTORE_STATE_SECTION_H_
#define HOLDFAST_STATESTORE_STATE_SECTION_H_

// The bytes of a section kState as nobody's: made, and looked at from outside.
// Pure. transaction.h is for its owner.

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "statestore/format.h"

namespace holdfast {

// Writes an all-zero state into a section of
// StateSectionSize(fields_size, queue_count) bytes. Not for memory that a
// device already uses: that is Reset. Precondition: fields_size % 8 == 0.
void FormatState(absl::Span<uint8_t> section, uint32_t fields_size,
                 uint16_t queue_count);

// Writes an all-zero state at `sequence` into one bank of BankStride bytes.
void FormatBank(absl::Span<uint8_t> bank, uint32_t fields_size,
                uint16_t queue_count, uint64_t sequence);

// The header of a section kState, after every check that it can be subjected to
// by itself. Total. InvalidArgument: misaligned; DataLoss.
absl::StatusOr<StateHeader> ReadStateHeader(absl::Span<const uint8_t> section);

// Whether a copy of a whole bank passes its checksum. Pure.
bool BankIsIntact(absl::Span<const uint8_t> bank, uint32_t fields_size,
                  uint16_t queue_count);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_STATE_SECTION_H_

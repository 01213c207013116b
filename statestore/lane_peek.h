#ifndef HOLDFAST_STATESTORE_LANE_PEEK_H_
#define HOLDFAST_STATESTORE_LANE_PEEK_H_

#include <cstdint>

#include "absl/types/span.h"
#include "statestore/lane.h"

namespace holdfast {

// Copies the committed bank of a lane that another process owns to `out`, which
// has sizes.bank bytes. False, and `out` is not to be used, when the lane is
// not formatted for these sizes or has committed during the copy. Pure; trusts
// nothing that it reads.
bool PeekLaneBank(absl::Span<const uint8_t> section, const LaneSizes& sizes,
                  absl::Span<uint8_t> out);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_PEEK_H_

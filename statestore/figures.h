#ifndef HOLDFAST_STATESTORE_FIGURES_H_
#define HOLDFAST_STATESTORE_FIGURES_H_

// What a segment says of the work of its device, for whoever watches it while
// it runs.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "statestore/queue_stats.h"

namespace holdfast {

struct QueueFigures {
  QueueStats stats{};
  QueueStamp stamp{};
  // Not empty: what is there cannot be, so take none of it. The device, or who
  // has taken it over, wrote nonsense.
  std::string problem;
};

struct SegmentFigures {
  std::string device;
  uint64_t epoch = 0;    // The highest that was claimed.
  uint64_t commits = 0;  // Of the state, since formatting.
  std::vector<QueueFigures> queues;
};

// Reads a few hundred bytes a queue of a segment that its owner may be writing.
// `memory` is 8-byte aligned and cannot shrink. Total: any bytes give figures
// or one of the errors of ReadLayout, DataLoss for a state section that is
// none, Unavailable while its owner does nothing but commit. Nothing is read
// twice, except the commit word. Times are not checked: one that is later than
// now, asked after this call, is nonsense. Pure.
absl::StatusOr<SegmentFigures> ReadFigures(absl::Span<const uint8_t> memory);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_FIGURES_H_

#ifndef HOLDFAST_LAUNCHER_API_FIGURES_H_
#define HOLDFAST_LAUNCHER_API_FIGURES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "protos/management.pb.h"
#include "statestore/figures.h"

namespace holdfast::launcher {

// The figures of a segment as a message; an error goes into its field, so that
// a broken segment hides nothing else of a status. `now_ns` is CLOCK_MONOTONIC,
// asked after they were read.
// Pure.
v1::SegmentFigures ToProto(const absl::StatusOr<SegmentFigures>& figures,
                           uint64_t now_ns);

// The same of a segment's descriptor, as the core hands it out (or why it did
// not). Maps it for reading as long as the call lasts; trusts nothing in it.
// Thread-safe.
v1::SegmentFigures FiguresOf(const absl::StatusOr<UniqueFd>& segment);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_FIGURES_H_

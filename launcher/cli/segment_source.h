#ifndef HOLDFAST_LAUNCHER_CLI_SEGMENT_SOURCE_H_
#define HOLDFAST_LAUNCHER_CLI_SEGMENT_SOURCE_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace holdfast::cli {

// A segment, which may be damaged, and what is to be said where it is none.
struct SegmentSource {
  std::string name;  // What it is the segment of, or its file.
  std::string bytes;
  const char* remedy;
};

// Errors name the file. kInvalidArgument: too short to be one.
absl::StatusOr<SegmentSource> ReadSegmentFile(const std::string& path);
SegmentSource SegmentOf(const std::string& instance, std::string bytes);

// That it has something to compare.
absl::Status CheckState(const SegmentSource& source);

// As far as it can be read. kDataLoss: what is wrong with it.
absl::Status PrintState(const SegmentSource& source, bool json,
                        std::ostream& out);
// Both have passed CheckState, or that error is returned. kDataLoss: the same.
absl::Status PrintStateDiff(const SegmentSource& before,
                            const SegmentSource& now, bool json,
                            std::ostream& out);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_SEGMENT_SOURCE_H_

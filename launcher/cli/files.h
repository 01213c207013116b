#ifndef HOLDFAST_LAUNCHER_CLI_FILES_H_
#define HOLDFAST_LAUNCHER_CLI_FILES_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace holdfast::cli {

// All of the file at `path`, which may be a pipe. An error names it and says
// why: no such file, a directory, not permitted, or more than `most` bytes, of
// which no more is read.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most);

// Replaces the file at `path`, which may be a pipe.
absl::Status WriteFile(const std::string& path, absl::string_view bytes);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_FILES_H_

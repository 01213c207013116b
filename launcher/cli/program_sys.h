#ifndef HOLDFAST_LAUNCHER_CLI_PROGRAM_SYS_H_
#define HOLDFAST_LAUNCHER_CLI_PROGRAM_SYS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace holdfast::cli {

// Becomes the program at `path`, with `words` from argv[0] on, this process's
// environment and its standard descriptors. Returns only when that fails.
absl::Status BecomeProgram(const std::string& path,
                           const std::vector<std::string>& words);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_PROGRAM_SYS_H_

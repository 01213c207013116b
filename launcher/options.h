#ifndef HOLDFAST_LAUNCHER_OPTIONS_H_
#define HOLDFAST_LAUNCHER_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace holdfast::launcher {

// The command line of holdfastd.
struct Options {
  bool help = false;
  std::string run_dir = "/run/holdfast";
  std::string spec_dir;  // Empty: none.
  std::vector<std::string> binary_dirs;
  std::vector<std::string> resource_dirs;
  std::vector<std::string> socket_dirs;  // And run_dir.
  std::vector<std::string> policy_dirs;
  std::string store;         // Empty: beside holdfastd.
  std::string store_policy;  // Empty: no filter, reported as degraded.
  std::string api;           // holdfast-api; empty: none is run.
  std::string api_policy;    // Empty: no filter, reported as degraded.
  // Children run as users [uid_base, uid_base + uid_count): the store as the
  // first, the api as the last, each instance as one of its own.
  uint32_t uid_base = 861000;
  uint32_t uid_count = 1000;
};

// Pure. kInvalidArgument with the argument and what to do. `args` without
// argv[0].
absl::StatusOr<Options> ParseOptions(absl::Span<const std::string> args);

// What --help prints.
extern const char kHelp[];

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_OPTIONS_H_

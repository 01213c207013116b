#ifndef HOLDFAST_LAUNCHER_CLI_PROFILE_H_
#define HOLDFAST_LAUNCHER_CLI_PROFILE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "protos/launch_spec.pb.h"
#include "protos/profile.pb.h"

namespace holdfast::cli {

inline constexpr size_t kMaxProfileFile = 64 * 1024;

// The text form of a profile, checked. Errors name `file` and, where one is
// known, the line. Pure; `text` may be anything.
absl::StatusOr<v1::Profile> ParseProfile(absl::string_view text,
                                         const std::string& file);

// A command line that a profile is applied to.
struct Wrapping {
  std::string name;               // Of the instance.
  std::string socket_path;        // Where the VMM connects.
  std::string keeper;             // The program.
  std::string policy_directory;   // Of its policy.
  std::string program;            // The back-end, an absolute path.
  std::vector<std::string> args;  // After argv[0].
  bool no_standby = false;        // Whatever the profile says.
};

// The launch spec of `wrapping`. kInvalidArgument says which argument the
// profile cannot do with, and what to write in its place. Not checked yet by
// the rules of launch specs. Pure.
absl::StatusOr<v1::LaunchSpec> WrappedSpec(const v1::Profile& profile,
                                           const Wrapping& wrapping);

// A table, one profile a line.
std::string RenderProfiles(const v1::ProfileList& list);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_PROFILE_H_

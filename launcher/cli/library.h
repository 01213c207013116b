#ifndef HOLDFAST_LAUNCHER_CLI_LIBRARY_H_
#define HOLDFAST_LAUNCHER_CLI_LIBRARY_H_

#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/cli/command.h"
#include "protos/launch_spec.pb.h"
#include "protos/profile.pb.h"

namespace holdfast::cli {

// What is installed beside the program `holdfast`:
//   LIB/holdfast-keeper  LIB/policies/keeper.policy  LIB/profiles/*.textproto
//   LIB/holdfast-probe

// LIB of `command`, or else the directory of this program when there are
// profiles, otherwise /usr/lib/holdfast.
std::string LibraryDirectory(const Command& command);

// The path of a profile: of `name` in LIB, or `name` itself where it has a "/".
// kNotFound names those that there are.
absl::StatusOr<std::string> FindProfile(const std::string& library,
                                        const std::string& name);

// Every profile of LIB, by name. One that is wrong is an error.
absl::StatusOr<v1::ProfileList> ReadProfiles(const std::string& library);

// The absolute path of `program`, which is looked up in `search`, the
// directories of a PATH, unless it has a "/". kNotFound says where it was
// looked for; kPermissionDenied: it may not be executed.
absl::StatusOr<std::string> FindProgram(const std::string& program,
                                        const std::string& search);

// The launch spec that `command`, a kRun, asks for, checked by the rules of
// launch specs; `text` is that of its file, and empty when a profile made it.
absl::StatusOr<v1::LaunchSpec> SpecToRun(const Command& command,
                                         std::string& text);

// Performs `command`, a kProfileList or kProfileShow.
absl::Status PrintProfiles(const Command& command, std::ostream& out);

// Performs `command`, a kProfileNew: becomes holdfast-probe, so that it returns
// only when that cannot be.
absl::Status NewProfile(const Command& command);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_LIBRARY_H_

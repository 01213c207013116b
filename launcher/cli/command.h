#ifndef HOLDFAST_LAUNCHER_CLI_COMMAND_H_
#define HOLDFAST_LAUNCHER_CLI_COMMAND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "protos/management.pb.h"

namespace holdfast::cli {

// What the command line of `holdfast` asks for.
struct Command {
  enum class Verb {
    kHelp,
    kRun,
    kList,
    kStatus,
    kEvents,
    kStop,
    kRestart,
    kReplace,
    kResize,
    kStateDump,
    kStateDiff,
    kInject,
    kCompletion,
    kProfileList,
    kProfileShow,
    kProfileNew,
  };

  Verb verb = Verb::kHelp;
  std::string topic;  // kHelp: the command, or empty for all.
  std::string run_dir = "/run/holdfast";
  bool json = false;
  std::string instance;  // kStatus: empty for all. kRun: --name.
  std::string file;      // kRun: the spec. kStateDump, kStateDiff: a segment.
                         // kProfileNew: the profile.
  std::string input;     // kStateDump: a segment that was saved, in place of an
                         // instance's.
  bool follow = false;   // kEvents
  uint64_t since = 0;    // kEvents
  v1::Fault fault{};
  v1::FaultTarget target{};
  std::string shell;  // kCompletion
  // kProfileShow; kRun: not empty, then `wrapped` is a program and its
  // arguments, and there is no `file`. kReplace and kProfileNew have these,
  // too.
  std::string profile;
  std::vector<std::string> wrapped;
  std::string socket_path;  // Empty: in the run directory.
  std::string lib_dir;      // Empty: beside this program.
  bool no_standby = false;
  bool print = false;  // The spec, in place of running it.

  std::string socket() const { return run_dir + "/api.sock"; }
};

// Pure. kInvalidArgument says what is wrong and which help to read. `args`
// without argv[0].
absl::StatusOr<Command> ParseCommand(absl::Span<const std::string> args);

// The help of one command, or of all when `topic` names none.
std::string HelpText(absl::string_view topic);

// A script for `shell`, one that ParseCommand knows, made of the grammar.
std::string CompletionScript(absl::string_view shell);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_COMMAND_H_

// How a device program answers on its command line: QEMU's "Backend program
// conventions" (docs/interop/vhost-user.rst), and what Holdfast adds.

#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "devices/testing/conformance.h"
#include "devices/testing/conformance_steps.h"
#include "devices/testing/device_program.h"

namespace holdfast::testing {
namespace {

using Arguments = std::vector<std::string>;
using Ending = DeviceProgram::Ending;

constexpr int kUsage = 2;
constexpr int kFailure = 1;

absl::StatusOr<Ending> Run(const ConformanceTarget& target,
                           const Arguments& arguments) {
  ASSIGN_OR_RETURN(auto program,
                   DeviceProgram::Start(target.program, arguments));
  absl::StatusOr<Ending> ending = program->Wait(target.patience);
  if (!ending.ok()) {
    return absl::DeadlineExceededError(absl::StrCat(
        absl::StrJoin(arguments, " "), ": ", ending.status().message()));
  }
  return ending;
}

// Runs it and expects this exit code and each of `words` on standard error
// (standard output for success).
absl::Status Expect(const ConformanceTarget& target, const Arguments& arguments,
                    int exit_code, const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Ending ending, Run(target, arguments));
  const std::string& said = exit_code == 0 ? ending.out : ending.err;
  const std::string call =
      absl::StrCat("'", absl::StrJoin(arguments, " "), "'");
  if (ending.exit_code != exit_code) {
    return absl::InternalError(
        absl::StrCat(call, " ended with ", ending.exit_code, " (signal ",
                     ending.signal, "), not ", exit_code, ": ", ending.err));
  }
  for (const std::string& word : words) {
    if (!absl::StrContains(said, word)) {
      return absl::InternalError(
          absl::StrCat(call, " does not speak of '", word, "': ", said));
    }
  }
  return absl::OkStatus();
}

absl::Status HelpNamesEveryOption(const ConformanceTarget& target) {
  Arguments words = {"Usage:",
                     "--socket-path=",
                     "--fd=",
                     "--print-capabilities",
                     "--compat-version=",
                     "--help"};
  for (const auto& [name, size] : target.resources) {
    words.push_back(absl::StrCat("--", name, "="));
  }
  return Expect(target, {"--help"}, 0, words);
}

// The number after `key` in what --print-capabilities says.
absl::StatusOr<uint32_t> NumberIn(absl::string_view json,
                                  absl::string_view key) {
  const std::string quoted = absl::StrCat("\"", key, "\":");
  const size_t at = json.find(quoted);
  if (at == absl::string_view::npos) {
    return absl::NotFoundError(absl::StrCat("no ", key, " in ", json));
  }
  json.remove_prefix(at + quoted.size());
  uint32_t number;
  if (!absl::SimpleAtoi(json.substr(0, json.find_first_not_of("0123456789")),
                        &number)) {
    return absl::InternalError(absl::StrCat(key, " is no number"));
  }
  return number;
}

absl::StatusOr<uint32_t> NewestVersion(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const Ending ending, Run(target, {"--print-capabilities"}));
  return NumberIn(ending.out, "compat-version");
}

// Whether it is JSON, and true, is the descriptor test's question.
absl::Status CapabilitiesArePrintedWithoutAnythingElse(
    const ConformanceTarget& target) {
  RETURN_IF_ERROR(Expect(target, {"--print-capabilities"}, 0,
                         {"{\"type\":", "\"features\":[", "\"queues\":["}));
  ASSIGN_OR_RETURN(const Ending ending, Run(target, {"--print-capabilities"}));
  if (!ending.err.empty()) {
    return absl::InternalError(absl::StrCat("it also says: ", ending.err));
  }
  return absl::OkStatus();
}

absl::Status EveryCompatVersionIsServed(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const uint32_t newest, NewestVersion(target));
  for (uint32_t version = 1; version <= newest; ++version) {
    RETURN_IF_ERROR(Expect(
        target,
        {absl::StrCat("--compat-version=", version), "--print-capabilities"}, 0,
        {}));
  }
  return absl::OkStatus();
}

absl::Status OtherCompatVersionsAreRefused(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const uint32_t newest, NewestVersion(target));
  for (const std::string& version :
       {absl::StrCat(newest + 1), std::string("4294967296"), std::string("-1"),
        std::string("new"), std::string()}) {
    RETURN_IF_ERROR(
        Expect(target, {"--compat-version=" + version, "--print-capabilities"},
               kUsage, {"--compat-version"}));
  }
  return absl::OkStatus();
}

absl::Status MistakesAreNamed(const ConformanceTarget& target) {
  const std::vector<std::pair<Arguments, std::string>> mistakes = {
      {{"--no-such-option"}, "--no-such-option"},
      {{"--no-such-option=1"}, "--no-such-option"},
      {{"something"}, "'something'"},
      {{"-x"}, "'-x'"},
      {{"--socket-path"}, "--socket-path"},
      {{"--fd"}, "--fd"},
      {{"--fd=three"}, "--fd=three"},
      {{"--fd=-1"}, "--fd=-1"},
      {{"--fd=5", "--socket-path=/x"}, "exclude each other"},
      {{}, "--socket-path"},
  };
  for (const auto& [arguments, word] : mistakes) {
    RETURN_IF_ERROR(Expect(target, arguments, kUsage, {word}));
  }
  return absl::OkStatus();
}

absl::Status UnusableSocketsAreReported(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto files, ResourceFiles::Make(target));
  const TempDir dir;
  const auto with = [&](const std::string& argument) {
    Arguments arguments = files->Arguments(target);
    arguments.push_back(argument);
    return arguments;
  };
  RETURN_IF_ERROR(Expect(target, with("--socket-path=/nowhere/x.sock"),
                         kFailure, {"/nowhere/x.sock"}));
  const std::string too_long = "/tmp/" + std::string(200, 'x');
  RETURN_IF_ERROR(
      Expect(target, with("--socket-path=" + too_long), kFailure, {"107"}));
  const std::string taken = dir.File("taken");
  ASSIGN_OR_RETURN(const UniqueFd other, ListenAt(taken));
  RETURN_IF_ERROR(
      Expect(target, with("--socket-path=" + taken), kFailure, {taken}));
  return Expect(target, with("--fd=77"), kFailure, {"77"});
}

absl::Status MissingResourcesAreReported(const ConformanceTarget& target) {
  const TempDir dir;
  for (const auto& [name, size] : target.resources) {
    const std::string missing = dir.File("missing");
    RETURN_IF_ERROR(Expect(target,
                           {"--socket-path=" + dir.File("s"),
                            absl::StrCat("--", name, "=", missing)},
                           kFailure, {missing}));
    RETURN_IF_ERROR(Expect(target, {"--socket-path=" + dir.File("t")}, kFailure,
                           {absl::StrCat("--", name)}));
  }
  return absl::OkStatus();
}

absl::Status SocketPathServesOneVmmAfterAnother(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  for (int vmm = 0; vmm < 3; ++vmm) {
    ASSIGN_OR_RETURN(auto front_end, device->Connect());
    RETURN_IF_ERROR(Serves(*front_end, target));
  }
  return device->CheckAlive();
}

absl::Status FdMayBeAListeningSocket(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto files, ResourceFiles::Make(target));
  const TempDir dir;
  const std::string path = dir.File("vmm");
  ASSIGN_OR_RETURN(const UniqueFd socket, ListenAt(path));
  Arguments arguments = files->Arguments(target);
  arguments.push_back(absl::StrCat("--fd=", DeviceProgram::kInheritedFd));
  ASSIGN_OR_RETURN(auto program,
                   DeviceProgram::Start(target.program, arguments, socket));
  for (int vmm = 0; vmm < 2; ++vmm) {
    ASSIGN_OR_RETURN(auto front_end,
                     FrontEnd::Connect(path, FrontEndOptions(target)));
    RETURN_IF_ERROR(front_end->Start());
    RETURN_IF_ERROR(Serves(*front_end, target));
  }
  return program->Alive() ? absl::OkStatus()
                          : absl::InternalError("it ended with the VMM");
}

// A connected one is all there is to serve: the program ends with it.
absl::Status FdMayBeAConnectedSocket(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto files, ResourceFiles::Make(target));
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return ErrnoStatus("socketpair");
  }
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  Arguments arguments = files->Arguments(target);
  arguments.push_back(absl::StrCat("--fd=", DeviceProgram::kInheritedFd));
  ASSIGN_OR_RETURN(auto program,
                   DeviceProgram::Start(target.program, arguments, theirs));
  theirs.Reset();
  {
    ASSIGN_OR_RETURN(auto vmm,
                     FrontEnd::Adopt(std::move(ours), FrontEndOptions(target)));
    RETURN_IF_ERROR(vmm->Start());
    RETURN_IF_ERROR(Serves(*vmm, target));
  }
  ASSIGN_OR_RETURN(const Ending ending, program->Wait(target.patience));
  return ending.exit_code == 0 ? absl::OkStatus()
                               : absl::InternalError(absl::StrCat(
                                     "after its VMM it ended with ",
                                     ending.exit_code, ": ", ending.err));
}

// Run by hand a device has no recovery, and says so.
absl::Status RunByHandItSaysThatItHasNoRecovery(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  const std::string said = device->Kill();
  return absl::StrContains(said, "stand-alone")
             ? absl::OkStatus()
             : absl::InternalError(absl::StrCat("it only says: ", said));
}

constexpr ConformanceCheck kChecks[] = {
    {"HelpNamesEveryOption", HelpNamesEveryOption},
    {"CapabilitiesArePrintedWithoutAnythingElse",
     CapabilitiesArePrintedWithoutAnythingElse},
    {"EveryCompatVersionIsServed", EveryCompatVersionIsServed},
    {"OtherCompatVersionsAreRefused", OtherCompatVersionsAreRefused},
    {"MistakesAreNamed", MistakesAreNamed},
    {"UnusableSocketsAreReported", UnusableSocketsAreReported},
    {"MissingResourcesAreReported", MissingResourcesAreReported},
    {"SocketPathServesOneVmmAfterAnother", SocketPathServesOneVmmAfterAnother},
    {"FdMayBeAListeningSocket", FdMayBeAListeningSocket},
    {"FdMayBeAConnectedSocket", FdMayBeAConnectedSocket},
    {"RunByHandItSaysThatItHasNoRecovery", RunByHandItSaysThatItHasNoRecovery},
};

}  // namespace

absl::Span<const ConformanceCheck> CommandLineChecks() { return kChecks; }

}  // namespace holdfast::testing

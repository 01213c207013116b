#include "sandbox/testing/run_jailed_sys.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace holdfast::sandbox::testing {

std::string Describe(const Ending& ending) {
  return absl::StrCat(
      ending.code == CLD_EXITED ? "exited " : "killed by signal ",
      ending.status);
}

std::string Program(const std::string& name) {
  return absl::StrCat("sandbox/testing/", name);
}

JailSpec SpecFor(const std::string& program) {
  JailSpec spec;
  spec.program = program;
  spec.argv = {"device"};
  spec.uid = 70000;
  spec.gid = 70000;
  spec.die_with_parent = true;
  return spec;
}

absl::StatusOr<Ending> WaitFor(const JailedProcess& process) {
  siginfo_t info = {};
  while (waitid(static_cast<idtype_t>(P_PIDFD), process.pidfd.get(), &info,
                WEXITED) < 0) {
    if (errno != EINTR) return ErrnoStatus("waitid");
  }
  Ending ending;
  ending.code = info.si_code;
  ending.status = info.si_status;
  ending.degraded = process.degraded;
  return ending;
}

absl::StatusOr<Ending> RunToEnd(JailSpec spec) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("pipe2");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return ErrnoStatus("open the null device");
  spec.fds.push_back({null, 0});
  spec.fds.push_back({writer, 1});
  ASSIGN_OR_RETURN(const JailedProcess process, Spawn(spec));
  writer.Reset();
  std::string output;
  char buffer[4096];
  ssize_t n;
  while ((n = read(reader.get(), buffer, sizeof(buffer))) > 0) {
    output.append(buffer, static_cast<size_t>(n));
  }
  ASSIGN_OR_RETURN(Ending ending, WaitFor(process));
  ending.output = std::move(output);
  return ending;
}

std::map<std::string, std::string> Lines(const std::string& output) {
  std::map<std::string, std::string> lines;
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    const std::pair<std::string, std::string> split =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (!split.first.empty()) lines[split.first] = split.second;
  }
  return lines;
}

}  // namespace holdfast::sandbox::testing

#ifndef HOLDFAST_SANDBOX_TESTING_RUN_JAILED_SYS_H_
#define HOLDFAST_SANDBOX_TESTING_RUN_JAILED_SYS_H_

#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sandbox/jail_sys.h"

namespace holdfast::sandbox::testing {

// How a jailed program ended.
struct Ending {
  std::string output;  // What it wrote to descriptor 1.
  int code = 0;        // CLD_EXITED, CLD_KILLED, CLD_DUMPED.
  int status = 0;      // Exit status or signal.
  std::vector<std::string> degraded;

  bool Exited(int with) const { return code == CLD_EXITED && status == with; }
  bool KilledBy(int signal) const {
    return (code == CLD_KILLED || code == CLD_DUMPED) && status == signal;
  }
};

// "exited 0", "killed by signal 31".
std::string Describe(const Ending& ending);

// The runfiles path of a test program, "sandbox/testing/<name>".
std::string Program(const std::string& name);

// A spec for `program` with uid and gid 70000 and no descriptor; the process
// dies with the test.
JailSpec SpecFor(const std::string& program);

// Spawns, adds a pipe as descriptor 1 and the null device as 0, and waits.
absl::StatusOr<Ending> RunToEnd(JailSpec spec);

// Waits for a process that Spawn returned.
absl::StatusOr<Ending> WaitFor(const JailedProcess& process);

// "key value" lines as a map.
std::map<std::string, std::string> Lines(const std::string& output);

}  // namespace holdfast::sandbox::testing

#endif  // HOLDFAST_SANDBOX_TESTING_RUN_JAILED_SYS_H_

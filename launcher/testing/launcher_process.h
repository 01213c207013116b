#ifndef HOLDFAST_LAUNCHER_TESTING_LAUNCHER_PROCESS_H_
#define HOLDFAST_LAUNCHER_TESTING_LAUNCHER_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/testing/temp_dir.h"
#include "launcher/core_client_sys.h"
#include "launcher/testing/fake_device.h"

namespace holdfast::launcher {

// A holdfastd of a test, with directories of its own; ended with the test, or
// by its death. Needs real root. Not thread-safe.
class LauncherProcess {
 public:
  // `in_child` runs in the new process before it executes holdfastd.
  explicit LauncherProcess(
      std::vector<std::string> more_args = {},
      std::function<void()> in_child = [] {});
  LauncherProcess(const LauncherProcess&) = delete;
  LauncherProcess& operator=(const LauncherProcess&) = delete;
  ~LauncherProcess();

  // A spec of fake_device that runs in full confinement, with a socket and
  // without a crash budget.
  LaunchSpec Spec(const std::string& name,
                  std::vector<std::string> args = {}) const;
  std::string File(const std::string& name) const { return dir_.File(name); }

  // Asks the core, connecting anew where a restarted core needs it, until the
  // answer is OK or `tries` of 10 ms are over.
  absl::Status Ask(const std::function<absl::Status(CoreClient&)>& question,
                   int tries = 1000);
  // Run, until the answer is OK.
  absl::Status Run(const LaunchSpec& spec);
  // The core's answer to one Run, whatever it is.
  absl::Status RunOnce(const LaunchSpec& spec);
  // Until `wanted` holds for the status of `instance`: that status.
  absl::StatusOr<InstanceStatus> Await(
      const std::string& instance,
      const std::function<bool(const InstanceStatus&)>& wanted);
  // An active child and a ready standby.
  absl::StatusOr<InstanceStatus> AwaitWhole(const std::string& instance);
  // A copy of what the fake device wrote.
  absl::StatusOr<FakeSegment> Segment(const std::string& instance);
  // All events after this number so far.
  std::vector<LaunchEvent> Events(uint64_t after = 0);
  // The last event of this type, waited for.
  absl::StatusOr<LaunchEvent> AwaitEvent(const std::string& type,
                                         uint64_t after = 0);

  pid_t pid() const { return pid_; }
  // SIGTERM to the parent and wait; its exit status.
  int Stop();
  // SIGKILL to parent and core, so that neither can take the other's place.
  void KillWhole();
  // A new holdfastd in the same directories, after Stop() or KillWhole().
  void StartAgain();
  // Waits for it to end by itself; its exit status.
  int Wait();
  // All that this test has started and that lives: also what the death of the
  // parent orphaned, since the test is made their reaper.
  std::vector<pid_t> Processes() const;
  // Reaps such orphans, as init would.
  void ReapOrphans() const;
  // After the parent was killed: who took its role.
  void Adopt(pid_t pid);

 private:
  testing::TempDir dir_;
  std::vector<std::string> args_;
  std::function<void()> in_child_;
  pid_t pid_ = -1;
  std::optional<CoreClient> client_;
};

// Path of a file of the test's runfiles.
std::string Runfile(const std::string& path);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_TESTING_LAUNCHER_PROCESS_H_

// The ends of children and instances, and what is told about them: exactly.

#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

// "exited SIGKILL as asked": an event without its numbers.
std::vector<std::string> Told(const std::vector<LaunchEvent>& events) {
  std::vector<std::string> all;
  for (const LaunchEvent& event : events) {
    std::string text = event.type;
    for (const std::string& part : {event.cause, event.detail}) {
      if (!part.empty()) text += " " + part;
    }
    all.push_back(text);
  }
  return all;
}

// A launcher with one whole instance; remembers what was told by then.
class LauncherStop : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> args = {}) {
    ASSERT_OK(launcher_.Run(launcher_.Spec("disk0", std::move(args))));
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
    before_ = launcher_.Events().back().sequence;
  }

  LauncherProcess launcher_;
  uint64_t before_ = 0;
};

TEST_F(LauncherStop, OrderedStopTellsTheEndOfBothChildrenAndNothingElse) {
  Start();
  ASSERT_OK(launcher_.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  EXPECT_THAT(Told(launcher_.Events(before_)),
              UnorderedElementsAre("ended standby", "ended active",
                                   "exited exit status 0 as asked",
                                   "exited exit status 0 as asked", "stopped"));
}

TEST_F(LauncherStop, StopOfDeafChildrenTellsThatTheyWereKilled) {
  Start({"--ignore-stop"});
  ASSERT_OK(launcher_.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  EXPECT_THAT(Told(launcher_.Events(before_)),
              UnorderedElementsAre("ended standby", "ended active",
                                   "exited SIGKILL as asked",
                                   "exited SIGKILL as asked", "stopped"));
}

TEST_F(LauncherStop, RestartTellsNoLoss) {
  Start();
  ASSERT_OK(launcher_.Ask([](CoreClient& c) { return c.Restart("disk0"); }));
  ASSERT_OK(launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready;
  }));
  ASSERT_OK(launcher_.AwaitEvent("exited", before_));
  EXPECT_THAT(Told(launcher_.Events(before_)),
              UnorderedElementsAre("restart", "ended active", "promoted",
                                   "exited exit status 0 as asked", "started",
                                   "ready"));
}

TEST_F(LauncherStop, KillTellsALossAndItsCauseAndNothingElse) {
  Start();
  ASSERT_OK(launcher_.Ask([](CoreClient& core) {
    return core.Inject("disk0", Fault::kKill, FaultTarget::kActive);
  }));
  ASSERT_OK(launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready;
  }));
  ASSERT_OK(launcher_.AwaitEvent("exited", before_));
  EXPECT_THAT(Told(launcher_.Events(before_)),
              UnorderedElementsAre("lost active", "promoted", "exited SIGKILL",
                                   "started", "ready"));
}

// The control of the tests above: a child that leaves and lives is told of,
// and is ended.
TEST_F(LauncherStop, ChildThatLeavesTheStoreIsNamedAndKilled) {
  LaunchSpec spec = launcher_.Spec("disk0", {"--leave-when-active"});
  spec.restart.budget = 1;
  ASSERT_OK(launcher_.Run(spec));
  ASSERT_OK(launcher_.AwaitEvent("exited"));
  const std::vector<std::string> told = Told(launcher_.Events());
  EXPECT_THAT(told, Contains("misbehaved closed its channel to the store"));
  EXPECT_THAT(told, Contains("exited SIGKILL"));
  EXPECT_THAT(told, Not(Contains(HasSubstr("protocol error"))));
}

}  // namespace
}  // namespace holdfast::launcher

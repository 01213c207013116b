// The control groups of instances: their limits, and that nothing is left.
// Needs a machine with groups; on one without, only that this is told.

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/text_file_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cgroup_plan.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class LauncherLimits : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(launcher_.File("disk.img")) << "content";
    ASSERT_OK(launcher_.AwaitEvent("core-started"));
    if (Trees().empty()) GTEST_SKIP() << "no control groups on this machine";
  }

  // The groups of this launcher, in every hierarchy that has them.
  std::vector<std::string> Trees() const {
    const std::string run_dir =
        std::filesystem::path(launcher_.File("x")).parent_path();
    std::vector<std::string> trees;
    for (const CgroupHome& home :
         FindCgroupHomes(ReadTextFile("/proc/self/mountinfo"),
                         ReadTextFile("/proc/self/cgroup"))) {
      const std::string tree = home.directory + "/" + CgroupNameOf(run_dir);
      if (std::filesystem::exists(tree)) trees.push_back(tree);
    }
    return trees;
  }

  // Everybody in the instance's groups.
  std::vector<int> Members(const std::string& instance) const {
    std::vector<int> all;
    for (const std::string& tree : Trees()) {
      const std::string group = tree + "/" + instance + "/cgroup.procs";
      for (int pid : ParseProcesses(ReadTextFile(group))) all.push_back(pid);
    }
    return all;
  }

  LaunchSpec DiskSpec(std::vector<std::string> args = {}) const {
    LaunchSpec spec = launcher_.Spec("disk0", std::move(args));
    spec.resources.push_back({"image", launcher_.File("disk.img")});
    spec.limits.threads = 1000;  // Not what stops anybody here.
    return spec;
  }

  LauncherProcess launcher_;
};

TEST_F(LauncherLimits, ChildrenAreInTheInstancesGroupAndItEndsWithThem) {
  ASSERT_OK(launcher_.Run(DiskSpec()));
  const auto status = launcher_.AwaitWhole("disk0");
  ASSERT_OK(status);
  EXPECT_THAT(Members("disk0"),
              IsSupersetOf({status->active_pid, status->standby_pid}));
  EXPECT_THAT(Members("_store"), Not(IsEmpty()));
  ASSERT_OK(launcher_.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  for (const std::string& tree : Trees()) {
    EXPECT_FALSE(std::filesystem::exists(tree + "/disk0")) << tree;
  }
  launcher_.Stop();
  EXPECT_THAT(Trees(), IsEmpty());
}

TEST_F(LauncherLimits, MemoryBeyondTheLimitIsAnOutOfMemoryExit) {
  LaunchSpec spec = DiskSpec({"--eat-when-active"});
  spec.group_limits.memory = 32 << 20;
  spec.restart.budget = 1;
  ASSERT_OK(launcher_.Run(spec));
  const auto exited = launcher_.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->cause, "out of memory (SIGKILL)");
  const auto limit = launcher_.AwaitEvent("limit");
  ASSERT_OK(limit);
  EXPECT_THAT(limit->detail,
              HasSubstr("group_limits.memory is 33554432 bytes: "));
  EXPECT_OK(launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.state == "QUARANTINED" && !s.restarts.empty() &&
           s.restarts[0].first == "out of memory (SIGKILL)";
  }));
}

// The control: the same program lives where the limit is off.
TEST_F(LauncherLimits, WithoutALimitTheSameProgramLives) {
  ASSERT_OK(
      launcher_.Run(DiskSpec({"--eat-when-active", "--fork-when-active"})));
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  for (int i = 0; i < 1000 && Members("disk0").size() < 66; ++i) usleep(10000);
  EXPECT_GE(Members("disk0").size(), 66u);
  EXPECT_THAT(launcher_.Events(),
              Not(Contains(Field(&LaunchEvent::type, "limit"))));
}

// A SIGKILL of somebody else is not called out of memory.
TEST_F(LauncherLimits, KillUnderALimitIsAKill) {
  LaunchSpec spec = DiskSpec();
  spec.group_limits.memory = 32 << 20;
  ASSERT_OK(launcher_.Run(spec));
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  ASSERT_OK(launcher_.Ask([](CoreClient& core) {
    return core.Inject("disk0", Fault::kKill, FaultTarget::kActive);
  }));
  const auto exited = launcher_.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->cause, "SIGKILL");
}

TEST_F(LauncherLimits, RefusedForkIsTold) {
  LaunchSpec spec = DiskSpec({"--fork-when-active"});
  spec.group_limits.tasks = 20;
  ASSERT_OK(launcher_.Run(spec));
  const auto limit = launcher_.AwaitEvent("limit");
  ASSERT_OK(limit);
  EXPECT_EQ(limit->instance, "disk0");
  EXPECT_THAT(limit->detail, HasSubstr("group_limits.tasks is 20: "));
  for (const std::string& tree : Trees()) {
    // Who is put into a group is not refused: the standby may be beyond it.
    EXPECT_LE(ParseProcesses(ReadTextFile(tree + "/disk0/cgroup.procs")).size(),
              21u);
  }
}

TEST_F(LauncherLimits, ProcessorTimeIsLimited) {
  LaunchSpec spec = DiskSpec();
  spec.group_limits.cpu_percent = 50;
  ASSERT_OK(launcher_.Run(spec));
  std::vector<std::string> quotas;
  for (const std::string& tree : Trees()) {
    for (const char* file : {"cpu.cfs_quota_us", "cpu.max"}) {
      const std::string text = ReadTextFile(tree + "/disk0/" + file);
      if (!text.empty()) quotas.push_back(text.substr(0, 6));
    }
  }
  EXPECT_THAT(quotas, UnorderedElementsAre("50000\n"));
}

TEST_F(LauncherLimits, NextCoreTakesTheGroupsOver) {
  LaunchSpec spec = DiskSpec();
  spec.group_limits.tasks = 100;
  ASSERT_OK(launcher_.Run(spec));
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  const auto core = launcher_.AwaitEvent("core-started");
  ASSERT_OK(core);
  kill(launcher_.pid(), SIGKILL);
  launcher_.Adopt(core->pid);
  ASSERT_OK(launcher_.AwaitEvent("core-started", core->sequence));
  const auto after = launcher_.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  EXPECT_THAT(after->degraded, Not(Contains(HasSubstr("cgroups"))));
  // A child of the new core is in the old group.
  ASSERT_OK(launcher_.Ask([](CoreClient& client) {
    return client.Inject("disk0", Fault::kKill, FaultTarget::kStandby);
  }));
  const auto whole = launcher_.Await("disk0", [&](const InstanceStatus& s) {
    return s.standby_ready && s.standby_pid != before->standby_pid;
  });
  ASSERT_OK(whole);
  EXPECT_THAT(Members("disk0"),
              IsSupersetOf({whole->active_pid, whole->standby_pid}));
  launcher_.Stop();
  EXPECT_THAT(Trees(), IsEmpty());
}

// Parent and core die together: children and store live on, with the lock of
// the image, and nobody knows them. The next holdfastd ends them.
TEST_F(LauncherLimits, WhatAWholeLauncherLeftIsEndedByTheNext) {
  ASSERT_OK(launcher_.Run(DiskSpec({"--ignore-stop"})));
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  const std::vector<int> store = Members("_store");
  launcher_.KillWhole();
  EXPECT_EQ(kill(before->active_pid, 0), 0);
  launcher_.StartAgain();
  const auto killed = launcher_.AwaitEvent("killed");
  ASSERT_OK(killed);
  EXPECT_EQ(killed->detail, "left behind by an earlier holdfastd");
  for (pid_t pid : launcher_.Processes()) {
    EXPECT_NE(pid, before->active_pid);
    EXPECT_NE(pid, before->standby_pid);
    EXPECT_THAT(store, Not(Contains(pid)));
  }
  // Neither lock nor socket is in the way.
  ASSERT_OK(launcher_.Run(DiskSpec()));
  EXPECT_OK(launcher_.AwaitWhole("disk0"));
  launcher_.Stop();
  EXPECT_THAT(Trees(), IsEmpty());
}

// A child without a pid namespace leaves its descendants to us.
TEST_F(LauncherLimits, DescendantsOfAnUnconfinedChildEndWithTheInstance) {
  LaunchSpec spec = DiskSpec({"--fork-when-active"});
  spec.confined = false;
  spec.standby = false;
  ASSERT_OK(launcher_.Run(spec));
  ASSERT_OK(launcher_.Await(
      "disk0", [](const InstanceStatus& s) { return s.state == "RUNNING"; }));
  for (int i = 0; i < 1000 && Members("disk0").size() < 65; ++i) usleep(10000);
  const std::vector<int> members = Members("disk0");
  EXPECT_GE(members.size(), 65u);
  ASSERT_OK(launcher_.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  EXPECT_THAT(Members("disk0"), IsEmpty());
  launcher_.Stop();
  EXPECT_THAT(Trees(), IsEmpty());
}

}  // namespace
}  // namespace holdfast::launcher

#include "launcher/cgroup_sys.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/text_file_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Directories in place of groups: they have no files but those of the test, so
// this shows what is written where, and what is said where that fails.
class CgroupDirectories : public ::testing::Test {
 protected:
  CgroupHome Home(const std::string& name, bool unified,
                  std::vector<Controller> controllers) {
    std::filesystem::create_directory(dir_.File(name));
    return {dir_.File(name), unified, std::move(controllers)};
  }
  void Write(const std::string& name, const std::string& text = "") {
    std::filesystem::create_directories(
        std::filesystem::path(dir_.File(name)).parent_path());
    std::ofstream(dir_.File(name)) << text;
  }
  std::string Read(const std::string& name) const {
    return ReadTextFile(dir_.File(name));
  }

  testing::TempDir dir_;
};

TEST_F(CgroupDirectories, WithoutAHierarchyItIsSaidWhetherThereAreLimitsOrNot) {
  const CgroupTree tree = CgroupTree::CreateIn({}, "tree");
  EXPECT_THAT(tree.Make("disk0", {}).degraded(),
              ElementsAre("degraded: cgroups: no hierarchy with memory, pids "
                          "or cpu is mounted"));
  EXPECT_THAT(tree.Make("disk0", {1, 2, 3}).degraded(), SizeIs(1));
  Cgroup none = tree.Make("disk0", {});
  EXPECT_TRUE(none.Remove());
  EXPECT_THAT(none.OpenProcesses(), testing::IsOkAndHolds(IsEmpty()));
}

TEST_F(CgroupDirectories, LimitsAreWrittenIntoTheInstancesGroup) {
  const CgroupTree tree =
      CgroupTree::CreateIn({Home("pids", false, {Controller::kTasks}),
                            Home("memory", false, {Controller::kMemory})},
                           "tree");
  Write("pids/tree/disk0/pids.max", "max");
  Write("memory/tree/disk0/memory.limit_in_bytes", "0");
  const Cgroup group = tree.Make("disk0", {64 << 20, 7, 0});
  EXPECT_EQ(Read("pids/tree/disk0/pids.max"), "7ax");  // As a file, not cut.
  EXPECT_EQ(Read("memory/tree/disk0/memory.limit_in_bytes"), "67108864");
  EXPECT_THAT(group.degraded(), IsEmpty());
}

TEST_F(CgroupDirectories, LimitThatCannotBeSetIsNamed) {
  const CgroupTree tree =
      CgroupTree::CreateIn({Home("pids", false, {Controller::kTasks})}, "tree");
  const Cgroup group = tree.Make("disk0", {64 << 20, 7, 50});
  EXPECT_THAT(
      group.degraded(),
      ElementsAre(
          AllOf(HasSubstr("degraded: cgroups: "), HasSubstr("pids.max")),
          HasSubstr("no controller 'memory': its limit is not applied"),
          HasSubstr("no controller 'cpu': its limit is not applied")));
}

TEST_F(CgroupDirectories, GroupsThatLimitNothingAreNotMade) {
  const CgroupTree tree =
      CgroupTree::CreateIn({Home("pids", false, {Controller::kTasks}),
                            Home("memory", false, {Controller::kMemory}),
                            Home("cpu", false, {Controller::kCpu})},
                           "tree");
  Cgroup group = tree.Make("disk0", {});
  EXPECT_THAT(group.degraded(), IsEmpty());
  EXPECT_TRUE(std::filesystem::exists(dir_.File("pids/tree/disk0")));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("memory/tree/disk0")));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("cpu/tree/disk0")));
  EXPECT_TRUE(group.Remove());
  tree.Remove();
  EXPECT_FALSE(std::filesystem::exists(dir_.File("pids/tree")));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("memory/tree")));
}

TEST_F(CgroupDirectories, UnifiedHierarchyDelegatesWhatItHas) {
  const CgroupHome home = Home("unified", true, {});
  Write("unified/cgroup.controllers", "cpuset io pids\n");
  Write("unified/cgroup.subtree_control");
  Write("unified/tree/cgroup.subtree_control");
  Write("unified/tree/disk0/pids.max");
  const CgroupTree tree = CgroupTree::CreateIn({home}, "tree");
  EXPECT_EQ(Read("unified/cgroup.subtree_control"), "+pids");
  EXPECT_EQ(Read("unified/tree/cgroup.subtree_control"), "+pids");
  const Cgroup group = tree.Make("disk0", {64 << 20, 7, 0});
  EXPECT_EQ(Read("unified/tree/disk0/pids.max"), "7");
  EXPECT_THAT(group.degraded(),
              ElementsAre(HasSubstr("no controller 'memory'")));
}

TEST_F(CgroupDirectories, UnifiedHierarchyWithoutControllersIsNone) {
  const CgroupHome home = Home("unified", true, {});
  Write("unified/cgroup.controllers", "hugetlb\n");
  const CgroupTree tree = CgroupTree::CreateIn({home}, "tree");
  EXPECT_FALSE(std::filesystem::exists(dir_.File("unified/tree")));
  EXPECT_THAT(tree.Make("disk0", {}).degraded(), SizeIs(1));
}

// Version 2 refuses controllers to a group with processes in it; those of
// others are left where they are.
TEST_F(CgroupDirectories, SharedGroupIsNamedWithWhoElseIsInIt) {
  const CgroupHome home = Home("unified", true, {});
  Write("unified/cgroup.controllers", "pids\n");
  Write("unified/cgroup.procs", "1\n");
  const CgroupTree tree = CgroupTree::CreateIn({home}, "tree");
  EXPECT_THAT(
      tree.Make("disk0", {}).degraded(),
      ElementsAre(AllOf(HasSubstr("pid 1 is in"), HasSubstr("Delegate=yes"))));
}

TEST_F(CgroupDirectories, CostsAreReadFromTheFilesOfEachVersion) {
  const CgroupHome unified = Home("unified", true, {});
  Write("unified/cgroup.controllers", "pids memory\n");
  Write("unified/cgroup.subtree_control");
  Write("unified/tree/cgroup.subtree_control");
  Write("unified/tree/disk0/pids.events", "max 3\n");
  Write("unified/tree/disk0/memory.events", "oom 9\noom_kill 4\n");
  const Cgroup two = CgroupTree::CreateIn({unified}, "tree").Make("disk0", {});
  EXPECT_EQ(two.ReadCosts().forks_refused, 3u);
  EXPECT_EQ(two.ReadCosts().oom_kills, 4u);
  Write("memory/tree/disk0/memory.oom_control", "under_oom 0\noom_kill 5\n");
  const Cgroup one = CgroupTree::CreateIn(
                         {Home("memory", false, {Controller::kMemory})}, "tree")
                         .Make("disk0", {64 << 20, 0, 0});
  EXPECT_EQ(one.ReadCosts().oom_kills, 5u);
}

}  // namespace
}  // namespace holdfast::launcher

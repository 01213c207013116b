#include "launcher/cgroup_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kVersion1Mounts[] =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup "
    "rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
constexpr char kVersion1Self[] =
    "8:pids:/\n5:freezer:/\n4:memory:/process/69\n1:cpu,cpuacct:/\n0::/\n";

TEST(CgroupPlan, HierarchiesOfVersion1AreFoundWithTheOwnGroup) {
  const auto homes = FindCgroupHomes(kVersion1Mounts, kVersion1Self);
  ASSERT_EQ(homes.size(), 3u);
  EXPECT_EQ(homes[0].directory, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_THAT(homes[0].controllers, ElementsAre(Controller::kCpu));
  EXPECT_EQ(homes[1].directory, "/sys/fs/cgroup/memory/process/69");
  EXPECT_TRUE(homes[1].Has(Controller::kMemory));
  EXPECT_FALSE(homes[1].Has(Controller::kTasks));
  EXPECT_EQ(homes[2].directory, "/sys/fs/cgroup/pids");
  for (const CgroupHome& home : homes) EXPECT_FALSE(home.unified);
}

TEST(CgroupPlan, UnifiedHierarchyIsFound) {
  const auto homes = FindCgroupHomes(
      "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
      "0::/system.slice/holdfast.service\n");
  ASSERT_EQ(homes.size(), 1u);
  EXPECT_TRUE(homes[0].unified);
  EXPECT_EQ(homes[0].directory, "/sys/fs/cgroup/system.slice/holdfast.service");
}

TEST(CgroupPlan, SupervisorGroupIsNotTheHome) {
  const auto homes =
      FindCgroupHomes("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                      "0::/a.service/holdfast-supervisor\n");
  ASSERT_EQ(homes.size(), 1u);
  EXPECT_EQ(homes[0].directory, "/sys/fs/cgroup/a.service");
}

// In a container a part of the hierarchy is mounted.
TEST(CgroupPlan, MountedPartIsTakenIntoAccount) {
  constexpr char kMount[] =
      "30 23 0:26 /docker/abc /sys/fs/cgroup\\040x rw - cgroup2 none rw\n";
  EXPECT_EQ(FindCgroupHomes(kMount, "0::/docker/abc/in\n")[0].directory,
            "/sys/fs/cgroup x/in");
  EXPECT_EQ(FindCgroupHomes(kMount, "0::/docker/abc\n")[0].directory,
            "/sys/fs/cgroup x");
  EXPECT_EQ(FindCgroupHomes(kMount, "0::/docker/abcd\n")[0].directory,
            "/sys/fs/cgroup x");
}

TEST(CgroupPlan, SecondMountOfAHierarchyIsLeftOut) {
  const std::string twice =
      "30 23 0:26 / /a rw - cgroup2 cgroup2 rw\n"
      "31 23 0:26 / /b rw - cgroup2 cgroup2 rw\n";
  const auto homes = FindCgroupHomes(twice, "0::/\n");
  ASSERT_EQ(homes.size(), 1u);
  EXPECT_EQ(homes[0].directory, "/a");
}

TEST(CgroupPlan, NonsenseGivesNothing) {
  EXPECT_THAT(FindCgroupHomes("", ""), IsEmpty());
  EXPECT_THAT(FindCgroupHomes(kVersion1Mounts, ""), IsEmpty());
  EXPECT_THAT(FindCgroupHomes(kVersion1Mounts, "x\n:\n::\n"), IsEmpty());
  EXPECT_THAT(FindCgroupHomes("- cgroup2\n a b - cgroup2 x\n - \n", "0::/\n"),
              IsEmpty());
  EXPECT_THAT(
      FindCgroupHomes("1 2 3 / /x\\04 rw - ext4 /dev/sda rw\n", "0::/\n"),
      IsEmpty());
}

TEST(CgroupPlan, ControllersAreWholeWords) {
  EXPECT_THAT(
      ParseControllers("cpuset cpu io memory pids\n"),
      ElementsAre(Controller::kCpu, Controller::kMemory, Controller::kTasks));
  EXPECT_THAT(ParseControllers("hugetlb cpuset\n"), IsEmpty());
}

TEST(CgroupPlan, NoLimitWritesNothing) {
  for (int i = 0; i < kControllerCount; ++i) {
    for (bool unified : {false, true}) {
      EXPECT_THAT(SettingsOf(static_cast<Controller>(i), unified, {}),
                  IsEmpty());
    }
  }
}

std::vector<std::string> Written(Controller controller, bool unified) {
  const GroupLimits limits = {64 << 20, 100, 150};
  std::vector<std::string> all;
  for (const CgroupSetting& s : SettingsOf(controller, unified, limits)) {
    all.push_back(s.file + "=" + s.value + (s.optional ? "?" : ""));
  }
  return all;
}

TEST(CgroupPlan, LimitsAreWrittenInTheWordsOfEachVersion) {
  EXPECT_THAT(Written(Controller::kMemory, false),
              ElementsAre("memory.limit_in_bytes=67108864",
                          "memory.memsw.limit_in_bytes=67108864?"));
  EXPECT_THAT(Written(Controller::kMemory, true),
              ElementsAre("memory.max=67108864", "memory.swap.max=0?"));
  EXPECT_THAT(Written(Controller::kTasks, false), ElementsAre("pids.max=100"));
  EXPECT_THAT(Written(Controller::kTasks, true), ElementsAre("pids.max=100"));
  EXPECT_THAT(
      Written(Controller::kCpu, false),
      ElementsAre("cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"));
  EXPECT_THAT(Written(Controller::kCpu, true),
              ElementsAre("cpu.max=150000 100000"));
}

TEST(CgroupPlan, CounterIsReadBehindItsWordAlone) {
  constexpr char kText[] = "low 1\noom 2\noom_kill 3\noom_group_kill 4\n";
  EXPECT_EQ(ParseCounter(kText, "oom_kill"), 3u);
  EXPECT_EQ(ParseCounter(kText, "oom"), 2u);
  EXPECT_EQ(ParseCounter("max 18446744073709551615", "max"), UINT64_MAX);
  EXPECT_EQ(ParseCounter(kText, "max"), std::nullopt);
  EXPECT_EQ(ParseCounter("max\nmax x\nmax -1\n", "max"), std::nullopt);
}

TEST(CgroupPlan, ProcessesAreNumbersAboveZero) {
  EXPECT_THAT(ParseProcesses("12\n0\n-1\nx\n\n77\n"), ElementsAre(12, 77));
}

TEST(CgroupPlan, NameIsTheRunDirectorys) {
  EXPECT_THAT(CgroupNameOf("/run/holdfast"), StartsWith("holdfast-"));
  EXPECT_EQ(CgroupNameOf("/run/holdfast"), CgroupNameOf("/run/holdfast"));
  EXPECT_NE(CgroupNameOf("/run/a-b"), CgroupNameOf("/run/a/b"));
}

}  // namespace
}  // namespace holdfast::launcher

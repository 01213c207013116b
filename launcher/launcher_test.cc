// holdfastd as a whole, with real processes: life, faults, limits and the end
// of an instance.

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/donation.h"
#include "launcher/instance_record.h"
#include "launcher/resources_sys.h"
#include "launcher/testing/launcher_process.h"
#include "statestore/store/protocol.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

absl::Status Inject(LauncherProcess& launcher, const std::string& instance,
                    FaultTarget target, Fault fault = Fault::kKill) {
  return launcher.Ask(
      [&](CoreClient& core) { return core.Inject(instance, fault, target); });
}

// One byte to the instance's socket and the answer to it.
int AskVmm(BorrowedFd vmm) {
  uint8_t byte = 1;
  if (write(vmm.get(), &byte, 1) != 1) return -1;
  if (read(vmm.get(), &byte, 1) != 1) return -2;
  return byte;
}

TEST(Launcher, RunsAnActiveChildAndAStandby) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const auto status = launcher.AwaitWhole("disk0");
  ASSERT_OK(status);
  EXPECT_GT(status->active_pid, 0);
  EXPECT_GT(status->standby_pid, 0);
  EXPECT_NE(status->active_pid, status->standby_pid);
  EXPECT_EQ(status->epoch, 1u);
  const auto segment = launcher.Segment("disk0");
  ASSERT_OK(segment);
  EXPECT_EQ(segment->epoch, 1u);
  EXPECT_EQ(segment->promotions, 1u);
}

TEST(Launcher, ChildIsBornWithExactlyThePlannedDescriptors) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  uint64_t planned = 0;
  for (const Donation& donation : DeviceDonations()) {
    planned |= uint64_t{1} << donation.number;
  }
  EXPECT_EQ(launcher.Segment("disk0")->descriptors, planned);
}

TEST(Launcher, KilledActiveChildIsReplacedByTheStandby) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const auto before = launcher.AwaitWhole("disk0");
  ASSERT_OK(before);
  ASSERT_OK(Inject(launcher, "disk0", FaultTarget::kActive));
  const auto after = launcher.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready && !s.restarts.empty();
  });
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->standby_pid);
  EXPECT_EQ(after->recoveries, 1u);
  EXPECT_THAT(after->restarts, Contains(CauseCount{"SIGKILL", 1}));
  EXPECT_EQ(launcher.Segment("disk0")->promotions, 2u);
}

TEST(Launcher, EventsTellTheWholeStoryOfAKill) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const auto before = launcher.AwaitWhole("disk0");
  ASSERT_OK(before);
  ASSERT_OK(Inject(launcher, "disk0", FaultTarget::kActive));
  const auto exited = launcher.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->pid, before->active_pid);
  EXPECT_EQ(exited->cause, "SIGKILL");
  const auto promoted = launcher.AwaitEvent("promoted");
  ASSERT_OK(promoted);
  EXPECT_EQ(promoted->pid, before->standby_pid);
  EXPECT_EQ(promoted->instance, "disk0");
}

TEST(Launcher, KilledStandbyIsReplacedWithoutAPromotion) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const auto before = launcher.AwaitWhole("disk0");
  ASSERT_OK(before);
  ASSERT_OK(Inject(launcher, "disk0", FaultTarget::kStandby));
  const auto after = launcher.Await("disk0", [&](const InstanceStatus& s) {
    return s.standby_ready && s.standby_pid != before->standby_pid;
  });
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  EXPECT_EQ(after->epoch, 1u);
}

TEST(Launcher, SegmentationFaultIsNamed) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(Inject(launcher, "disk0", FaultTarget::kActive, Fault::kSegv));
  const auto exited = launcher.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->cause, "SIGSEGV");
}

TEST(Launcher, VmmKeepsItsConnectionOverKills) {
  LauncherProcess launcher;
  const LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  const auto vmm = ConnectTo(spec.socket_path);
  ASSERT_OK(vmm);
  for (int i = 1; i <= 5; ++i) {
    EXPECT_EQ(AskVmm(*vmm), i);
    ASSERT_OK(Inject(launcher, "disk0", FaultTarget::kActive));
    ASSERT_OK(launcher.Await("disk0", [&](const InstanceStatus& s) {
      return s.epoch == static_cast<uint64_t>(i + 1) && s.standby_ready;
    }));
  }
  EXPECT_EQ(AskVmm(*vmm), 6);
  EXPECT_TRUE(launcher.AwaitWhole("disk0")->connected);
}

TEST(Launcher, VmmThatLeavesMayComeBack) {
  LauncherProcess launcher;
  const LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  for (int i = 1; i <= 3; ++i) {
    const auto vmm = ConnectTo(spec.socket_path);
    ASSERT_OK(vmm);
    EXPECT_EQ(AskVmm(*vmm), i);
    ASSERT_OK(launcher.Await(
        "disk0", [](const InstanceStatus& s) { return s.connected; }));
    shutdown(vmm->get(), SHUT_RDWR);
    ASSERT_OK(launcher.Await(
        "disk0", [](const InstanceStatus& s) { return !s.connected; }));
  }
}

TEST(Launcher, CrashLoopEndsInQuarantineAndAnOperatorCanGoOn) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0", {"--crash-when-active"});
  spec.restart.budget = 3;
  ASSERT_OK(launcher.Run(spec));
  const auto quarantined = launcher.Await("disk0", [](const InstanceStatus& s) {
    return s.state == "QUARANTINED";
  });
  ASSERT_OK(quarantined);
  EXPECT_EQ(quarantined->active_pid, 0);
  EXPECT_OK(launcher.AwaitEvent("quarantined"));
  ASSERT_OK(launcher.Ask([](CoreClient& c) { return c.Restart("disk0"); }));
  EXPECT_OK(launcher.Await("disk0", [&](const InstanceStatus& s) {
    return s.epoch > quarantined->epoch && s.state == "QUARANTINED";
  }));
}

TEST(Launcher, ChildThatCannotStartNeverServes) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0", {"--crash-at-start"});
  spec.restart.budget = 2;
  ASSERT_OK(launcher.Run(spec));
  const auto status = launcher.Await("disk0", [](const InstanceStatus& s) {
    return s.state == "QUARANTINED";
  });
  ASSERT_OK(status);
  EXPECT_EQ(status->epoch, 0u);
}

TEST(Launcher, QuarantineOfOneLeavesItsNeighbourAlone) {
  LauncherProcess launcher;
  LaunchSpec bad = launcher.Spec("bad", {"--crash-when-active"});
  bad.restart.budget = 1;
  ASSERT_OK(launcher.Run(launcher.Spec("good")));
  ASSERT_OK(launcher.AwaitWhole("good"));
  ASSERT_OK(launcher.Run(bad));
  ASSERT_OK(launcher.Await(
      "bad", [](const InstanceStatus& s) { return s.state == "QUARANTINED"; }));
  const auto good = launcher.AwaitWhole("good");
  ASSERT_OK(good);
  EXPECT_EQ(good->epoch, 1u);
  EXPECT_THAT(good->restarts, IsEmpty());
}

TEST(Launcher, RestartReplacesTheActiveChildInOrder) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const auto before = launcher.AwaitWhole("disk0");
  ASSERT_OK(before);
  ASSERT_OK(launcher.Ask([](CoreClient& c) { return c.Restart("disk0"); }));
  const auto after = launcher.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready;
  });
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->standby_pid);
  EXPECT_THAT(after->restarts, IsEmpty());
}

TEST(Launcher, StopLeavesNothingBehind) {
  LauncherProcess launcher;
  const LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  const auto status = launcher.AwaitWhole("disk0");
  ASSERT_OK(status);
  ASSERT_OK(launcher.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  EXPECT_NE(kill(status->active_pid, 0), 0);
  EXPECT_NE(kill(status->standby_pid, 0), 0);
  EXPECT_FALSE(std::filesystem::exists(spec.socket_path));
  absl::StatusOr<std::vector<InstanceStatus>> list;
  ASSERT_OK(launcher.Ask([&](CoreClient& core) {
    list = core.List();
    return list.status();
  }));
  EXPECT_THAT(*list, IsEmpty());
  // The name is free again.
  EXPECT_OK(launcher.Run(spec));
}

TEST(Launcher, ChildThatIgnoresAStopIsKilled) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0", {"--ignore-stop"})));
  const auto status = launcher.AwaitWhole("disk0");
  ASSERT_OK(status);
  ASSERT_OK(launcher.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  EXPECT_NE(kill(status->active_pid, 0), 0);
}

TEST(Launcher, SigtermEndsEverythingInOrder) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.Run(launcher.Spec("disk1")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(launcher.AwaitWhole("disk1"));
  const std::vector<pid_t> all = launcher.Processes();
  EXPECT_GE(all.size(), 7u);  // Parent, core, store and two pairs.
  EXPECT_EQ(launcher.Stop(), 0);
  for (pid_t pid : all) EXPECT_NE(kill(pid, 0), 0) << pid;
  EXPECT_TRUE(std::filesystem::is_empty(
      std::filesystem::path(launcher.File("x")).parent_path()));
}

TEST(Launcher, ImageReachesTheChildUnderItsSlot) {
  LauncherProcess launcher;
  std::ofstream(launcher.File("disk.img")) << "content";
  LaunchSpec spec = launcher.Spec("disk0");
  spec.resources.push_back({"image", launcher.File("disk.img")});
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  const auto segment = launcher.Segment("disk0");
  ASSERT_OK(segment);
  EXPECT_EQ(segment->resource_slot, store::kSlotFirstResource);
  EXPECT_NE(segment->slots & (1u << store::kSlotFirstResource), 0u);
}

TEST(Launcher, ImageInUseIsRefusedWithItsHolder) {
  LauncherProcess launcher;
  std::ofstream(launcher.File("disk.img")) << "content";
  LaunchSpec spec = launcher.Spec("disk0");
  spec.resources.push_back({"image", launcher.File("disk.img")});
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  spec.name = "disk1";
  spec.socket_path = launcher.File("disk1.sock");
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("resources[0]"),
                             HasSubstr("is in use by pid"))));
  EXPECT_FALSE(std::filesystem::exists(spec.socket_path));
}

TEST(Launcher, LockEndsWithTheInstance) {
  LauncherProcess launcher;
  std::ofstream(launcher.File("disk.img")) << "content";
  LaunchSpec spec = launcher.Spec("disk0");
  spec.resources.push_back({"image", launcher.File("disk.img")});
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(launcher.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  spec.name = "disk1";
  EXPECT_OK(launcher.Run(spec));
}

TEST(Launcher, SpecOutsideOfItsLimitsIsRefusedWithTheField) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("disk0")));
  spec.name = "disk1";
  spec.binary = "/bin/true";
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("binary: /bin/true is outside of every "
                                 "--allow-binary-dir")));
  spec = launcher.Spec("disk1");
  spec.backend.binary = "/bin/true";
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("backend.binary: /bin/true is outside")));
  spec = launcher.Spec("disk1");
  spec.socket_path = "/etc/disk1.sock";
  EXPECT_THAT(
      launcher.RunOnce(spec),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("socket_path")));
  spec = launcher.Spec("disk1");
  spec.resources.push_back({"image", "/etc/passwd"});
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("resources[0]: /etc/passwd")));
  spec = launcher.Spec("disk1");
  spec.uid = 1;
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("uid")));
}

// It would be started again and again, and nobody had been told.
TEST(Launcher, WhatIsWrappedAndEndsAtOnceIsRefusedAndNothingIsLeft) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.backend.binary = spec.binary;  // Nobody has given it what it needs.
  for (const bool standby : {false, true}) {
    spec.backend.standby = standby;
    EXPECT_THAT(launcher.RunOnce(spec),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr("it has"), HasSubstr("exit status"),
                               HasSubstr("the log of holdfastd"))));
    absl::StatusOr<InstanceStatus> status;
    ASSERT_OK(launcher.Ask([&](CoreClient& core) {
      status = core.Status("disk0");
      return absl::OkStatus();
    }));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, ::testing::_));
  }
  // The name is free.
  EXPECT_OK(launcher.Run(launcher.Spec("disk0")));
}

TEST(Launcher, UnknownInstanceIsNotFound) {
  LauncherProcess launcher;
  absl::Status status, stop;
  ASSERT_OK(launcher.Ask([&](CoreClient& core) {
    status = core.Status("nobody").status();
    stop = core.Stop("nobody");
    return absl::OkStatus();
  }));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound,
                               ::testing::HasSubstr("no instance 'nobody': ")));
  EXPECT_THAT(stop, StatusIs(absl::StatusCode::kNotFound,
                             ::testing::HasSubstr("no instance 'nobody': ")));
}

TEST(Launcher, SecondLauncherInTheSameDirectoryIsRefused) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  LauncherProcess second(
      {"--run-dir=" +
       std::filesystem::path(launcher.File("x")).parent_path().string()});
  EXPECT_EQ(WEXITSTATUS(second.Wait()), 1);
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

TEST(Launcher, SpecDirectoryIsRunAtTheStart) {
  testing::TempDir specs;
  LauncherProcess unused;
  LaunchSpec spec = unused.Spec("disk0");
  spec.socket_path.clear();
  const std::vector<uint8_t> bytes = EncodeSpec(spec);
  std::ofstream(specs.File("a.spec"), std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  std::ofstream(specs.File("b.spec")) << "nonsense";
  LauncherProcess launcher({"--spec-dir=" + specs.path()});
  EXPECT_OK(launcher.AwaitWhole("disk0"));
  const auto refused = launcher.AwaitEvent("spec-refused");
  ASSERT_OK(refused);
  EXPECT_THAT(refused->detail, HasSubstr("b.spec"));
}

TEST(Launcher, StateDumpCannotWriteTheSegment) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  absl::StatusOr<UniqueFd> segment;
  ASSERT_OK(launcher.Ask([&](CoreClient& core) {
    segment = core.StateDump("disk0");
    return segment.status();
  }));
  EXPECT_EQ(pwrite(segment->get(), "x", 1, 0), -1);
}

}  // namespace
}  // namespace holdfast::launcher

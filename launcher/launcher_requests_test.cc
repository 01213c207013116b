// What the core answers when it cannot do what it is asked: the code, the
// field, and what to do.

#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/control_sys.h"
#include "launcher/core_client_sys.h"
#include "launcher/core_protocol.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The core's answer to one question, whatever it is.
template <typename Question>
absl::Status AnswerTo(LauncherProcess& launcher, Question question) {
  absl::Status answer;
  const absl::Status asked = launcher.Ask([&](CoreClient& core) {
    answer = question(core);
    return absl::OkStatus();
  });
  return asked.ok() ? answer : asked;
}

absl::Status Inject(LauncherProcess& launcher, FaultTarget target) {
  return AnswerTo(launcher, [target](CoreClient& core) {
    return core.Inject("disk0", Fault::kKill, target);
  });
}

// ---- users ----

TEST(LauncherRequests, UsersAreGivenOnceAndComeBack) {
  // One of them is the store's.
  LauncherProcess launcher({"--uid-base=870000", "--uid-count=3"});
  LaunchSpec first = launcher.Spec("disk0");
  first.uid = 870002;
  ASSERT_OK(launcher.Run(first));
  LaunchSpec second = launcher.Spec("disk1");
  second.uid = 870002;
  EXPECT_THAT(launcher.RunOnce(second),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       "uid: 870002 belongs to another instance: leave it "
                       "out"));
  second.uid = 0;
  ASSERT_OK(launcher.Run(second));
  EXPECT_THAT(launcher.RunOnce(launcher.Spec("disk2")),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       EndsWith("start holdfastd with a larger --uid-count")));
  ASSERT_OK(launcher.Ask([](CoreClient& core) { return core.Stop("disk0"); }));
  EXPECT_OK(launcher.Run(launcher.Spec("disk2")));
}

TEST(LauncherRequests, UsersOfTheStoreAndBeyondTheRangeAreRefused) {
  LauncherProcess launcher({"--uid-base=870000", "--uid-count=3"});
  for (uint32_t uid : {1u, 870000u, 870003u, 0x7fffffffu}) {
    LaunchSpec spec = launcher.Spec("disk0");
    spec.uid = uid;
    EXPECT_THAT(launcher.RunOnce(spec),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         absl::StrCat("uid: ", uid,
                                      " is outside of holdfastd's range 870001 "
                                      "to 870002: leave it out")));
  }
}

// ---- names ----

TEST(LauncherRequests, MistypedNameIsAnsweredWithThoseThatThereAre) {
  LauncherProcess launcher;
  const auto status = [](CoreClient& core) {
    return core.Status("dosk0").status();
  };
  EXPECT_THAT(AnswerTo(launcher, status),
              StatusIs(absl::StatusCode::kNotFound,
                       "no instance 'dosk0': there is none at all"));
  for (int i = 0; i < 10; ++i) {
    LaunchSpec spec = launcher.Spec(absl::StrCat("disk", i));
    spec.standby = false;
    ASSERT_OK(launcher.Run(spec));
  }
  EXPECT_THAT(AnswerTo(launcher, status),
              StatusIs(absl::StatusCode::kNotFound,
                       "no instance 'dosk0': there is disk0, disk1, disk2, "
                       "disk3, disk4, disk5, disk6, disk7, and 2 more"));
}

TEST(LauncherRequests, NameOfControlCharactersDoesNotReachATerminal) {
  LauncherProcess launcher;
  EXPECT_THAT(
      AnswerTo(launcher,
               [](CoreClient& core) { return core.Stop("a\x1b[2J\n"); }),
      StatusIs(absl::StatusCode::kNotFound,
               "no instance 'a?[2J?': there is none at all"));
}

TEST(LauncherRequests, EveryRequestForAnUnknownInstanceIsNotFound) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const std::function<absl::Status(CoreClient&)> questions[] = {
      [](CoreClient& core) { return core.Restart("none"); },
      [&launcher](CoreClient& core) {
        return core.Replace(launcher.Spec("none"));
      },
      [](CoreClient& core) { return core.Resize("none"); },
      [](CoreClient& core) { return core.StateDump("none").status(); },
      [](CoreClient& core) {
        return core.Inject("none", Fault::kKill, FaultTarget::kActive);
      }};
  for (const auto& question : questions) {
    EXPECT_THAT(AnswerTo(launcher, question),
                StatusIs(absl::StatusCode::kNotFound,
                         "no instance 'none': there is disk0"));
  }
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

TEST(LauncherRequests, WhatWrapsNothingIsNotReplaced) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  spec.backend.binary = spec.binary;
  EXPECT_THAT(
      AnswerTo(launcher, [&](CoreClient& core) { return core.Replace(spec); }),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               "disk0 wraps no back-end"));
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

// ---- policies ----

TEST(LauncherRequests, PolicyIsReadBeforeAnythingIsMade) {
  testing::TempDir policies;
  LauncherProcess launcher({"--policy-dir=" + policies.path()});
  LaunchSpec spec = launcher.Spec("disk0");
  spec.policy = policies.File("disk.policy");
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kNotFound, StartsWith("policy: ")));
  std::ofstream(spec.policy) << "steady:\nopne  # typo\n";
  EXPECT_THAT(
      launcher.RunOnce(spec),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(StartsWith("policy: "), HasSubstr("disk.policy:2"))));
  spec.policy = "/etc/passwd";
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("outside of every --policy-dir")));
  EXPECT_FALSE(std::filesystem::exists(spec.socket_path));
}

// ---- programs ----

// With a filter, under which a child cannot say so itself.
TEST(LauncherRequests, ProgramThatCannotBeExecutedIsSaidToBeSo) {
  testing::TempDir own;
  std::filesystem::permissions(own.path(), std::filesystem::perms(0755));
  std::ofstream(own.File("p.policy")) << "startup:\nexecveat  # begins\n";
  // For an interpreter that is not in a child's empty root.
  std::ofstream(own.File("script")) << "#!/bin/sh\n";
  std::filesystem::permissions(own.File("script"),
                               std::filesystem::perms(0755));
  LauncherProcess launcher(
      {"--policy-dir=" + own.path(), "--allow-binary-dir=" + own.path()});
  LaunchSpec spec = launcher.Spec("disk0");
  spec.binary = own.File("script");
  spec.policy = own.File("p.policy");
  spec.restart.budget = 1;
  ASSERT_OK(launcher.Run(spec));
  const auto event = launcher.AwaitEvent("start-failed");
  ASSERT_OK(event);
  EXPECT_THAT(event->detail,
              AllOf(HasSubstr(spec.binary), HasSubstr("link it statically")));
}

// ---- resources ----

TEST(LauncherRequests, DirectImageOnAFileSystemWithoutDirectIoIsRefused) {
  testing::TempDir images;
  LauncherProcess launcher({"--allow-resource-dir=" + images.path()}, [&] {
    // For the launcher alone: a file system of memory.
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("ramfs", images.path().c_str(), "ramfs", 0, nullptr) != 0) {
      _exit(126);
    }
    std::ofstream(images.File("disk.img")) << std::string(4096, 'x');
  });
  LaunchSpec spec = launcher.Spec("disk0");
  spec.resources.push_back({"image", images.File("disk.img")});
  spec.resources[0].direct = true;
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "resources[0]: direct: " + images.File("disk.img") +
                           " is on a file system without direct I/O "
                           "(O_DIRECT): move it to one that has it, such as "
                           "ext4 or xfs, or leave the field out"));
  spec.resources[0].direct = false;
  EXPECT_OK(launcher.RunOnce(spec));
}

// ---- faults ----

TEST(LauncherRequests, FaultWithoutItsTargetSaysWhere) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.standby = false;
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.Await("disk0", [](const InstanceStatus& status) {
    return status.state == "RUNNING";
  }));
  EXPECT_THAT(
      Inject(launcher, FaultTarget::kStandby),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               "disk0 has no standby process at the moment (RUNNING): it runs "
               "without a standby: set standby in its spec"));
  EXPECT_THAT(Inject(launcher, FaultTarget::kApi),
              StatusIs(absl::StatusCode::kUnavailable,
                       "this launcher runs no api: start holdfastd with "
                       "--api"));
}

TEST(LauncherRequests, ResizeWithoutAnActiveProcessSaysWhenToTryAgain) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0", {"--crash-at-start"});
  spec.restart.budget = 1;
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.Await("disk0", [](const InstanceStatus& status) {
    return status.state == "QUARANTINED";
  }));
  EXPECT_THAT(
      AnswerTo(launcher, [](CoreClient& core) { return core.Resize("disk0"); }),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               "disk0 has no active process at the moment (QUARANTINED): it "
               "has crashed too often: see holdfast events; then holdfast "
               "restart disk0"));
}

// The process that is asked to make room may not read it any more: the next one
// is told.
TEST(LauncherRequests, ResizeBesideARestartReachesTheNextActiveProcess) {
  constexpr uint64_t kTimes = 20;
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  for (uint64_t i = 0; i < kTimes; ++i) {
    ASSERT_OK(AnswerTo(launcher, [](CoreClient& core) -> absl::Status {
      const absl::Status restart = core.Restart("disk0");
      const absl::Status resize = core.Resize("disk0");
      return restart.ok() ? resize : restart;
    })) << i;
  }
  // Those that are promoted at that moment may hear it as standbys.
  EXPECT_TRUE(PollUntil([&] {
    const auto segment = launcher.Segment("disk0");
    return segment.ok() &&
           segment->resized + segment->standby_resized >= kTimes;
  }));
}

TEST(LauncherRequests, RequestsBesideAStopSayThatItIsStopped) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0", {"--ignore-stop"})));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  auto stopper = CoreClient::Connect(launcher.File("core.sock"));
  ASSERT_OK(stopper);
  std::thread thread([&] { EXPECT_OK(stopper->Stop("disk0")); });
  ASSERT_OK(launcher.Await("disk0", [](const InstanceStatus& status) {
    return status.state == "STOPPING";
  }));
  const auto restart = [](CoreClient& core) { return core.Restart("disk0"); };
  EXPECT_THAT(AnswerTo(launcher, restart),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "disk0 is being stopped: run it again when it is gone"));
  const auto resize = [](CoreClient& core) { return core.Resize("disk0"); };
  EXPECT_THAT(AnswerTo(launcher, resize),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "disk0 is being stopped"));
  EXPECT_THAT(launcher.RunOnce(launcher.Spec("disk0")),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       "instance 'disk0' is being stopped: run it again when "
                       "it is gone"));
  thread.join();
}

// ---- several at once ----

TEST(LauncherRequests, TwoThatStopOneInstanceAreBothAnswered) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  auto first = CoreClient::Connect(launcher.File("core.sock"));
  auto second = CoreClient::Connect(launcher.File("core.sock"));
  ASSERT_OK(first);
  ASSERT_OK(second);
  absl::Status other;
  std::thread thread([&] { other = second->Stop("disk0"); });
  EXPECT_OK(first->Stop("disk0"));
  thread.join();
  // Or it came when all was over.
  if (!other.ok()) {
    EXPECT_THAT(other, StatusIs(absl::StatusCode::kNotFound,
                                StartsWith("no instance 'disk0'")));
  }
}

TEST(LauncherRequests, ThoseThatWaitAreLimitedForEachClient) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  const auto greedy = ConnectSeqpacket(launcher.File("core.sock"));
  ASSERT_OK(greedy);
  Request wait;
  wait.op = Op::kEvents;
  wait.wait = true;
  wait.since = launcher.Events().back().sequence;
  for (wait.tag = 1; wait.tag <= 17; ++wait.tag) {
    const std::vector<uint8_t> bytes = EncodeRequest(wait);
    ASSERT_EQ(send(greedy->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  std::vector<uint8_t> packet(kMaxCorePacket);
  const auto next = [&]() -> absl::StatusOr<Answer> {
    const ssize_t size = recv(greedy->get(), packet.data(), packet.size(), 0);
    if (size <= 0) return absl::UnavailableError("closed");
    return DecodeAnswer(absl::MakeConstSpan(packet.data(), size));
  };
  const auto refused = next();
  ASSERT_OK(refused);
  EXPECT_EQ(refused->tag, 17u);
  EXPECT_THAT(refused->status,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       "16 requests of this client wait already: read their "
                       "answers"));
  // Those that wait are answered by what happens next, in their order.
  ASSERT_OK(Inject(launcher, FaultTarget::kActive));
  for (uint32_t tag = 1; tag <= 16; ++tag) {
    const auto answer = next();
    ASSERT_OK(answer);
    EXPECT_OK(answer->status);
    EXPECT_EQ(answer->tag, tag);
    EXPECT_FALSE(answer->events.empty());
  }
}

}  // namespace
}  // namespace holdfast::launcher

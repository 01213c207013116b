// What a launcher must bear: impatient operators, useless programs, too many
// instances, no room for its log, no descriptors, clients and VMMs that do not
// keep to the rules.

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/log_limiter.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/control_sys.h"
#include "launcher/core_client_sys.h"
#include "launcher/core_protocol.h"
#include "launcher/testing/launcher_process.h"
#include "statestore/store/protocol.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::Contains;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Pair;

bool IsQuarantined(const InstanceStatus& status) {
  return status.state == "QUARANTINED";
}

absl::Status KillActive(LauncherProcess& launcher) {
  return launcher.Ask([](CoreClient& core) {
    return core.Inject("disk0", Fault::kKill, FaultTarget::kActive);
  });
}

TEST(LauncherAttack, StormOfSignalsIsOneOrderedStop) {
  LauncherProcess launcher;
  for (const char* name : {"disk0", "disk1", "disk2"}) {
    ASSERT_OK(launcher.Run(launcher.Spec(name)));
  }
  ASSERT_OK(launcher.AwaitWhole("disk2"));
  const auto core = launcher.AwaitEvent("core-started");
  ASSERT_OK(core);
  const std::vector<pid_t> all = launcher.Processes();
  for (int i = 0; i < 200; ++i) {
    kill(launcher.pid(), i % 2 == 0 ? SIGTERM : SIGINT);
    kill(core->pid, i % 3 == 0 ? SIGTERM : SIGINT);
  }
  EXPECT_EQ(launcher.Stop(), 0);
  for (pid_t pid : all) EXPECT_NE(kill(pid, 0), 0) << pid;
}

// As the terminal does when it is closed, or Ctrl-\ is typed.
TEST(LauncherAttack, SignalsOfTheTerminalAreAnOrderedStop) {
  for (int signal : {SIGHUP, SIGQUIT, SIGINT}) {
    LauncherProcess launcher;
    ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
    ASSERT_OK(launcher.AwaitWhole("disk0"));
    const auto core = launcher.AwaitEvent("core-started");
    ASSERT_OK(core);
    const std::vector<pid_t> all = launcher.Processes();
    kill(core->pid, signal);
    kill(launcher.pid(), signal);
    const int status = launcher.Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    for (pid_t pid : all) EXPECT_NE(kill(pid, 0), 0) << signal;
  }
}

TEST(LauncherAttack, UnderNohupTheTerminalMayEnd) {
  LauncherProcess launcher({}, [] { signal(SIGHUP, SIG_IGN); });
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const auto before = launcher.AwaitWhole("disk0");
  ASSERT_OK(before);
  const auto core = launcher.AwaitEvent("core-started");
  ASSERT_OK(core);
  kill(core->pid, SIGHUP);
  kill(launcher.pid(), SIGHUP);
  const auto after = launcher.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  const auto same = launcher.AwaitEvent("core-started");
  ASSERT_OK(same);
  EXPECT_EQ(same->pid, core->pid);
}

TEST(LauncherAttack, StopDuringARecoveryLeavesNothing) {
  LauncherProcess launcher;
  for (int round = 0; round < 5; ++round) {
    ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
    ASSERT_OK(launcher.AwaitWhole("disk0"));
    ASSERT_OK(KillActive(launcher));
    ASSERT_OK(launcher.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  }
  // Parent, core and store.
  EXPECT_EQ(launcher.Processes().size(), 3u);
}

TEST(LauncherAttack, ProgramThatEndsAtOnceIsQuarantinedWithItsStatus) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0", {"--exit-at-start"});
  spec.restart.budget = 3;
  spec.restart.backoff_base = absl::ZeroDuration();
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.Await("disk0", IsQuarantined));
  const auto status = launcher.Await("disk0", [](const InstanceStatus& s) {
    uint64_t sum = 0;
    for (const auto& [cause, count] : s.restarts) sum += count;
    return sum == 4;
  });
  ASSERT_OK(status);
  // One that is seen to close its channel before it is seen to end is killed.
  EXPECT_THAT(status->restarts, Contains(Pair("exit status 0", Ge(1u))));
  EXPECT_EQ(status->epoch, 0u);
}

TEST(LauncherAttack, ChildThatIsNeverReadyIsKilledAtItsDeadline) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0", {"--never-ready"});
  spec.restart.budget = 1;
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitEvent("start-timeout"));
  const auto exited = launcher.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->cause, "SIGKILL");
}

TEST(LauncherAttack, FiftyInstancesAreAsManyAsTheStoreHolds) {
  LauncherProcess launcher;
  size_t running = 0;
  for (int i = 0; i < 50; ++i) {
    LaunchSpec spec = launcher.Spec("disk" + std::to_string(i));
    spec.standby = false;
    const absl::Status status = launcher.RunOnce(spec);
    if (status.ok()) {
      ++running;
    } else {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                                   HasSubstr("32 instances exist: stop one")));
    }
  }
  EXPECT_EQ(running, store::kMaxInstances);
  for (size_t i = 0; i < running; ++i) {
    EXPECT_OK(launcher.Await(
        "disk" + std::to_string(i),
        [](const InstanceStatus& s) { return s.state == "RUNNING"; }));
  }
  EXPECT_EQ(launcher.Stop(), 0);
}

// Nothing that it writes gets anywhere, as on a full disk.
TEST(LauncherAttack, FullLogStopsNobody) {
  LauncherProcess launcher({}, [] {
    const int full = open("/dev/full", O_WRONLY);
    dup2(full, STDOUT_FILENO);
    dup2(full, STDERR_FILENO);
  });
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(KillActive(launcher));
  EXPECT_OK(launcher.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready;
  }));
  EXPECT_EQ(launcher.Stop(), 0);
}

// An instance that finds no descriptor left is refused; those that run go on,
// and there is room again when some have ended.
TEST(LauncherAttack, LauncherWithoutDescriptorsRefusesAndGoesOn) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  // The core alone: the store takes no more than it has descriptors for.
  const auto core = launcher.AwaitEvent("core-started");
  ASSERT_OK(core);
  const rlimit few = {96, 96};
  ASSERT_EQ(prlimit(core->pid, RLIMIT_NOFILE, &few, nullptr), 0);
  const auto vmm = ConnectTo(launcher.File("disk0.sock"));
  ASSERT_OK(vmm);
  // Without any back-off: starts that fail must not keep the core to itself.
  std::vector<std::string> others;
  absl::Status refused;
  for (int i = 1; i < 32 && refused.ok(); ++i) {
    const std::string name = "disk" + std::to_string(i);
    refused = launcher.RunOnce(launcher.Spec(name));
    if (refused.ok()) others.push_back(name);
  }
  EXPECT_FALSE(refused.ok());
  uint8_t byte = 1;
  ASSERT_EQ(send(vmm->get(), &byte, 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(recv(vmm->get(), &byte, 1, 0), 1);
  for (const std::string& name : others) {
    ASSERT_OK(launcher.Ask([&](CoreClient& c) {
      const absl::Status status = c.Stop(name);
      return absl::IsNotFound(status) ? absl::OkStatus() : status;
    }));
  }
  const auto status = launcher.AwaitWhole("disk0");
  ASSERT_OK(status);
  EXPECT_EQ(status->epoch, 1u);
  ASSERT_OK(launcher.Run(launcher.Spec("disk1")));
  EXPECT_OK(launcher.AwaitWhole("disk1"));
}

// ---- Clients of the control socket ----

TEST(LauncherAttack, SilentClientsKeepNobodyWaiting) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  auto first = CoreClient::Connect(launcher.File("core.sock"));
  ASSERT_OK(first);
  ASSERT_OK(first->Status("disk0"));
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 300; ++i) {
    auto client = ConnectSeqpacket(launcher.File("core.sock"));
    if (client.ok()) silent.push_back(*std::move(client));
  }
  // Who was there before goes on, and so does the instance.
  EXPECT_OK(first->Inject("disk0", Fault::kKill, FaultTarget::kActive));
  EXPECT_TRUE(PollUntil([&first] {
    const auto status = first->Status("disk0");
    return status.ok() && status->epoch == 2 && status->standby_ready;
  }));
  // Those beyond the limit were told so at once.
  char byte;
  EXPECT_EQ(recv(silent.back().get(), &byte, 1, 0), 0);
  // When they leave there is room again.
  silent.clear();
  EXPECT_OK(launcher.Ask([&](CoreClient&) {
    auto late = CoreClient::Connect(launcher.File("core.sock"));
    return late.ok() ? late->Status("disk0").status() : late.status();
  }));
}

TEST(LauncherAttack, ClientThatSendsNoWholeRequestIsClosed) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  Request request;
  request.op = Op::kStop;
  request.instance = "disk0";
  const std::vector<uint8_t> whole = EncodeRequest(request);
  for (size_t size = 1; size < whole.size(); ++size) {
    const auto client = ConnectSeqpacket(launcher.File("core.sock"));
    ASSERT_OK(client);
    ASSERT_EQ(send(client->get(), whole.data(), size, MSG_NOSIGNAL),
              static_cast<ssize_t>(size));
    // Why, and the end.
    std::vector<uint8_t> answer(kMaxCorePacket);
    EXPECT_GT(recv(client->get(), answer.data(), answer.size(), 0), 0) << size;
    EXPECT_LE(recv(client->get(), answer.data(), answer.size(), 0), 0) << size;
  }
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

// It has asked a thousand times to be told of what happens next, and then for
// the list without ever reading it.
TEST(LauncherAttack, ClientThatNeverReadsIsClosed) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  const auto client = ConnectSeqpacket(launcher.File("core.sock"));
  ASSERT_OK(client);
  Request wait;
  wait.op = Op::kEvents;
  wait.wait = true;
  wait.since = ~uint64_t{0};
  Request list;
  list.op = Op::kList;
  bool closed = false;
  for (int i = 0; i < 20'000 && !closed; ++i) {
    const std::vector<uint8_t> bytes = EncodeRequest(i < 1000 ? wait : list);
    closed = send(client->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0;
  }
  EXPECT_TRUE(closed);
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

TEST(LauncherAttack, OtherUsersAreTurnedAway) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  const std::string path = launcher.File("core.sock");
  // Whether user 64056 gets an answer.
  const auto answered = [&path] {
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (setgroups(0, nullptr) != 0 || setgid(64056) != 0 ||
          setuid(64056) != 0) {
        _exit(2);
      }
      auto client = CoreClient::Connect(path);
      _exit(client.ok() && client->Status("disk0").ok() ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) < 2) << status;
    return status == 0;
  };
  EXPECT_FALSE(answered());
  // Nor when an operator has opened the file by mistake.
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_FALSE(answered());
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

// ---- VMMs ----

// Its device is stuck in sending: alone, and only until it is to end.
TEST(LauncherAttack, VmmThatNeverReadsHarmsItsOwnDeviceAlone) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.Run(launcher.Spec("disk1")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(launcher.AwaitWhole("disk1"));
  const auto hostile = ConnectTo(launcher.File("disk0.sock"));
  const auto good = ConnectTo(launcher.File("disk1.sock"));
  ASSERT_OK(hostile);
  ASSERT_OK(good);
  const std::vector<uint8_t> flood(4096);
  pollfd room = {hostile->get(), POLLOUT, 0};
  while (poll(&room, 1, 300) == 1) {
    if (send(hostile->get(), flood.data(), flood.size(),
             MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
      break;
    }
  }
  uint8_t byte = 1;
  for (int i = 1; i <= 50; ++i) {
    ASSERT_EQ(send(good->get(), &byte, 1, MSG_NOSIGNAL), 1);
    ASSERT_EQ(recv(good->get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, i);
  }
  const auto status = launcher.AwaitWhole("disk0");
  ASSERT_OK(status);
  EXPECT_EQ(status->epoch, 1u);
  EXPECT_OK(launcher.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  EXPECT_OK(launcher.AwaitWhole("disk1"));
}

// A VMM in a loop of its supervisor's.
TEST(LauncherAttack, ReconnectingVmmDoesNotDriveOutTheEventsOfOthers) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.Run(launcher.Spec("disk1")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(launcher.AwaitWhole("disk1"));
  for (int i = 0; i < 600; ++i) {
    const auto vmm = ConnectTo(launcher.File("disk0.sock"));
    ASSERT_OK(vmm);
    uint8_t byte = 1;
    ASSERT_EQ(send(vmm->get(), &byte, 1, MSG_NOSIGNAL), 1);
    ASSERT_EQ(recv(vmm->get(), &byte, 1, 0), 1);
  }
  size_t of_vmms = 0, accepted = 0;
  for (const LaunchEvent& event : launcher.Events()) {
    if (event.type == "vmm-connected" || event.type == "vmm-gone") ++of_vmms;
    if (event.type == "accepted" && event.instance == "disk1") ++accepted;
  }
  EXPECT_EQ(accepted, 1u);
  EXPECT_GE(of_vmms, 2u);
  EXPECT_LE(of_vmms, 2 * LogLimiter::kBurst);
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

}  // namespace
}  // namespace holdfast::launcher

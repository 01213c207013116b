// kill -9 of every process of Holdfast, in any order, under a VMM that keeps
// asking; then nothing may be lost, nothing may be left.

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/pidfd_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/process_sys.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::Contains;
using ::testing::Not;

// A launcher with one instance and a VMM that is connected to it.
class LauncherFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    const LaunchSpec spec = launcher_.Spec("disk0");
    ASSERT_OK(
        launcher_.Ask([&spec](CoreClient& core) { return core.Run(spec); }));
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
    auto vmm = ConnectTo(spec.socket_path);
    ASSERT_OK(vmm);
    vmm_ = *std::move(vmm);
    const timeval patience = {10, 0};
    setsockopt(vmm_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience,
               sizeof(patience));
    ExpectAnswer();
  }

  // The VMM asks and gets the next number: nothing was lost or repeated.
  void ExpectAnswer() {
    uint8_t byte = 1;
    ASSERT_EQ(send(vmm_.get(), &byte, 1, MSG_NOSIGNAL), 1);
    ASSERT_EQ(recv(vmm_.get(), &byte, 1, 0), 1);
    ASSERT_EQ(byte, static_cast<uint8_t>(++answers_));
  }

  int LastPid(const std::string& event) {
    const auto found = launcher_.AwaitEvent(event);
    return found.ok() ? found->pid : 0;
  }
  int CorePid() { return LastPid("core-started"); }

  // Kills the core and waits for the next one.
  void KillCore() {
    const int before = CorePid();
    kill(before, SIGKILL);
    ASSERT_OK(launcher_.Ask([&](CoreClient& core) -> absl::Status {
      const auto read = core.ReadEvents(0, false);
      if (!read.ok()) return read.status();
      for (const LaunchEvent& event : read->events) {
        if (event.type == "core-started" && event.pid != before) {
          return absl::OkStatus();
        }
      }
      return absl::UnavailableError("no new core");
    }));
  }

  void KillStore() {
    const auto before = launcher_.Segment("disk0");
    ASSERT_OK(before);
    ASSERT_OK(launcher_.Ask([](CoreClient& core) {
      return core.Inject("", Fault::kKill, FaultTarget::kStore);
    }));
    // Both children have gone over to the new store.
    for (int i = 0; i < 1000; ++i) {
      const auto now = launcher_.Segment("disk0");
      ASSERT_OK(now);
      if (now->reattached >= before->reattached + 2) break;
      usleep(10000);
    }
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
  }

  void KillChild(FaultTarget target) {
    const auto before = launcher_.AwaitWhole("disk0");
    ASSERT_OK(before);
    ASSERT_OK(launcher_.Ask([&](CoreClient& core) {
      return core.Inject("disk0", Fault::kKill, target);
    }));
    ASSERT_OK(launcher_.Await("disk0", [&](const InstanceStatus& s) {
      return s.state == "RUNNING" && s.standby_ready &&
             s.standby_pid != before->standby_pid;
    }));
  }

  // Kills the parent; the core takes its role.
  void KillParent() {
    const int core = CorePid();
    kill(launcher_.pid(), SIGKILL);
    launcher_.Adopt(core);
    ASSERT_OK(launcher_.Ask([&](CoreClient& client) -> absl::Status {
      const auto read = client.ReadEvents(0, false);
      if (!read.ok()) return read.status();
      for (const LaunchEvent& event : read->events) {
        if (event.type == "core-started" && event.pid != core) {
          return absl::OkStatus();
        }
      }
      return absl::UnavailableError("no new core");
    }));
  }

  LauncherProcess launcher_;
  UniqueFd vmm_;
  uint64_t answers_ = 0;
};

TEST_F(LauncherFaults, NewCoreFindsEverythingInTheStore) {
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  KillCore();
  const auto after = launcher_.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  EXPECT_EQ(after->standby_pid, before->standby_pid);
  EXPECT_EQ(after->epoch, before->epoch);
  EXPECT_TRUE(after->connected);
  EXPECT_GE(after->uptime_us, before->uptime_us);
  ExpectAnswer();
}

// A child that the core has forked and that has not come to its exec yet has
// all of its descriptors. Here it is the test that has them.
TEST_F(LauncherFaults, NewCoreListensThoughAnotherHasTheOldListener) {
  const int core = CorePid();
  const auto pidfd = OpenPidfd(core);
  ASSERT_OK(pidfd);
  std::vector<UniqueFd> listeners;
  for (int number = 0; number < 256; ++number) {
    UniqueFd copy(
        static_cast<int>(syscall(SYS_pidfd_getfd, pidfd->get(), number, 0)));
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(copy.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) ==
            0 &&
        listens != 0) {
      listeners.push_back(std::move(copy));
    }
  }
  ASSERT_FALSE(listeners.empty());
  const auto file = [&] {
    struct stat status = {};
    return stat(launcher_.File("core.sock").c_str(), &status) == 0
               ? status.st_ino
               : 0;
  };
  const ino_t before = file();
  kill(core, SIGKILL);
  ASSERT_TRUE(PollUntil([&] { return file() != 0 && file() != before; }));
  listeners.clear();  // Or whoever came to the old one would wait for ever.
  EXPECT_OK(launcher_.AwaitWhole("disk0"));
  EXPECT_NE(CorePid(), core);
  ExpectAnswer();
}

TEST_F(LauncherFaults, CountersSurviveTheCore) {
  KillChild(FaultTarget::kActive);
  ASSERT_OK(launcher_.Await(
      "disk0", [](const InstanceStatus& s) { return !s.restarts.empty(); }));
  KillCore();
  const auto after = launcher_.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->recoveries, 1u);
  EXPECT_THAT(after->restarts,
              Contains(std::pair<std::string, uint64_t>("SIGKILL", 1)));
}

TEST_F(LauncherFaults, ChildOfAnEarlierCoreIsReplacedAndItsCauseKnown) {
  KillCore();
  KillChild(FaultTarget::kActive);
  ExpectAnswer();
  const auto exited = launcher_.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->cause, "SIGKILL");
}

TEST_F(LauncherFaults, DeathOfTheActiveChildIsRepairedWithoutACore) {
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  // The core is stopped, so it can do nothing; the store promotes alone.
  const int core = CorePid();
  kill(core, SIGSTOP);
  kill(before->active_pid, SIGKILL);
  ExpectAnswer();
  kill(core, SIGCONT);
  const auto after = launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready;
  });
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->standby_pid);
}

// Core and active child die; nobody of those who could tell is left, but the
// parent has reaped both.
TEST_F(LauncherFaults, ChildThatDiedWithoutACoreIsToldOfByTheNext) {
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  const int core = CorePid();
  kill(core, SIGSTOP);
  kill(before->active_pid, SIGKILL);
  ExpectAnswer();  // By the standby: the store has promoted it.
  kill(core, SIGKILL);
  const auto after = launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.standby_ready && !s.restarts.empty();
  });
  ASSERT_OK(after);
  EXPECT_EQ(after->recoveries, 1u);
  EXPECT_THAT(after->restarts,
              Contains(std::pair<std::string, uint64_t>("SIGKILL", 1)));
  const auto exited = launcher_.AwaitEvent("exited");
  ASSERT_OK(exited);
  EXPECT_EQ(exited->pid, before->active_pid);
  EXPECT_EQ(exited->cause, "SIGKILL");
  const auto lost = launcher_.AwaitEvent("lost");
  ASSERT_OK(lost);
  EXPECT_EQ(lost->detail, "while no core ran");
}

TEST_F(LauncherFaults, BudgetAndQuarantineSurviveTheCore) {
  LaunchSpec spec = launcher_.Spec("bad", {"--crash-when-active"});
  spec.restart.budget = 2;
  ASSERT_OK(launcher_.Run(spec));
  const auto is_quarantined = [](const InstanceStatus& s) {
    return s.state == "QUARANTINED";
  };
  const auto before = launcher_.Await("bad", is_quarantined);
  ASSERT_OK(before);
  KillCore();
  const auto after = launcher_.Await("bad", is_quarantined);
  ASSERT_OK(after);
  EXPECT_EQ(after->epoch, before->epoch);
  EXPECT_EQ(after->crash_budget, 0u);
  // An operator can go on, as before.
  ASSERT_OK(launcher_.Ask([](CoreClient& c) { return c.Restart("bad"); }));
  EXPECT_OK(launcher_.Await("bad", [&](const InstanceStatus& s) {
    return s.epoch > before->epoch && s.state == "QUARANTINED";
  }));
}

// The store's memory for events that the core does not read is bounded: a core
// that has missed some makes room for one that takes the inventory.
TEST_F(LauncherFaults, CoreThatMissedEventsIsReplaced) {
  const int core = CorePid();
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  kill(core, SIGSTOP);
  vmm_.Reset();
  for (int i = 0; i < 1000; ++i) {
    const auto vmm = ConnectTo(launcher_.File("disk0.sock"));
    ASSERT_OK(vmm);
    uint8_t byte = 1;
    // Turned away while the one before is still there; that is an event too.
    if (send(vmm->get(), &byte, 1, MSG_NOSIGNAL) == 1) {
      (void)!recv(vmm->get(), &byte, 1, 0);
    }
  }
  kill(core, SIGCONT);
  const auto status = launcher_.AwaitWhole("disk0");
  ASSERT_OK(status);
  EXPECT_EQ(status->epoch, 1u);
  EXPECT_EQ(status->active_pid, before->active_pid);
  // Nor does it cost the standby anything to be told of a thousand VMMs.
  EXPECT_EQ(status->standby_pid, before->standby_pid);
  EXPECT_NE(CorePid(), core);
}

// The store has done with a child that it may not kill, and tells a core that
// dies before it hears of it: the next one finds it so, and ends it.
TEST_F(LauncherFaults, ChildThatTheStoreHasDoneWithIsEndedByTheNextCore) {
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  const int core = CorePid();
  kill(core, SIGSTOP);
  uint8_t byte = kLeaveStore;
  ASSERT_EQ(send(vmm_.get(), &byte, 1, MSG_NOSIGNAL), 1);
  // It has closed its channel, answers and lives on.
  ASSERT_EQ(recv(vmm_.get(), &byte, 1, 0), 1);
  ++answers_;
  usleep(50'000);  // The store looks at it; later is no harm.
  kill(core, SIGKILL);
  ASSERT_OK(launcher_.Await("disk0", [&](const InstanceStatus& s) {
    return s.active_pid == before->standby_pid;
  }));
  ExpectAnswer();
  EXPECT_OK(launcher_.AwaitWhole("disk0"));
}

TEST_F(LauncherFaults, ChildrenServeThroughTheDeathOfTheStore) {
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  KillStore();
  ExpectAnswer();
  const auto after = launcher_.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  EXPECT_EQ(after->standby_pid, before->standby_pid);
  // The new store promotes, and knows the connection.
  KillChild(FaultTarget::kActive);
  ExpectAnswer();
}

TEST_F(LauncherFaults, StoreThatHangsIsReplaced) {
  ASSERT_OK(launcher_.Ask([](CoreClient& core) {
    return core.Inject("", Fault::kStop, FaultTarget::kStore);
  }));
  ASSERT_OK(launcher_.AwaitEvent("store-hung"));
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  ExpectAnswer();
  KillChild(FaultTarget::kActive);
  ExpectAnswer();
}

TEST_F(LauncherFaults, StoreDiesAfterTheCore) {
  KillCore();
  KillStore();
  ExpectAnswer();
  KillChild(FaultTarget::kActive);
  ExpectAnswer();
  // A VMM that comes later still finds the socket.
  vmm_.Reset();
  ASSERT_OK(launcher_.Await(
      "disk0", [](const InstanceStatus& s) { return !s.connected; }));
  EXPECT_OK(ConnectTo(launcher_.File("disk0.sock")));
}

TEST_F(LauncherFaults, CoreTakesTheRoleOfADeadParent) {
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  KillParent();
  const auto after = launcher_.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  ExpectAnswer();
  KillCore();
  ExpectAnswer();
  KillParent();
  ExpectAnswer();
}

size_t OpenDescriptors(int pid) {
  size_t count = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(
           "/proc/" + std::to_string(pid) + "/fd", ignored)) {
    (void)entry;
    ++count;
  }
  return count;
}

struct Footprint {
  size_t processes = 0;
  size_t descriptors = 0;
};

// Every order of every victim: HOLDFAST_KILLS of them, 50 if it is not set.
TEST_F(LauncherFaults, AnyProcessInAnyOrder) {
  const char* kills = std::getenv("HOLDFAST_KILLS");
  const int rounds = kills == nullptr ? 50 : std::atoi(kills);
  std::mt19937 random(20);
  Footprint first, last;
  for (int round = 0; round < rounds; ++round) {
    const int victim = static_cast<int>(random() % 5);
    SCOPED_TRACE("round " + std::to_string(round) + " victim " +
                 std::to_string(victim));
    switch (victim) {
      case 0:
        KillChild(FaultTarget::kActive);
        break;
      case 1:
        KillChild(FaultTarget::kStandby);
        break;
      case 2:
        KillStore();
        break;
      case 3:
        KillCore();
        break;
      case 4:
        KillParent();
        break;
    }
    ASSERT_NO_FATAL_FAILURE(ExpectAnswer());
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
    // The causes of what ended are known soon, and then it is forgotten.
    usleep(200000);
    last = Footprint();
    const std::vector<pid_t> all = launcher_.Processes();
    last.processes = all.size();
    for (pid_t pid : all) last.descriptors += OpenDescriptors(pid);
    // After one of each the descriptors of adopted things are settled.
    if (round == 10) first = last;
  }
  EXPECT_EQ(last.processes, 5u);
  EXPECT_LE(last.descriptors, first.descriptors + 4);
  const std::vector<pid_t> all = launcher_.Processes();
  launcher_.Stop();
  usleep(100000);
  for (pid_t pid : all) EXPECT_NE(kill(pid, 0), 0) << pid;
  EXPECT_TRUE(std::filesystem::is_empty(
      std::filesystem::path(launcher_.File("x")).parent_path()));
}

}  // namespace
}  // namespace holdfast::launcher

// holdfastd with its api, and the command line that people use, with real
// processes.

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/testing/cli_fixture.h"
#include "launcher/core_protocol.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Cli = CliTest;

TEST_F(Cli, LifeOfAnInstance) {
  AwaitApi();
  const Output run = Holdfast("run " + SpecFile("disk0"));
  EXPECT_EQ(run.text, "disk0 is started\n");
  ASSERT_EQ(run.status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  EXPECT_THAT(Holdfast("list").text,
              AllOf(HasSubstr("NAME "), HasSubstr("disk0  RUNNING")));
  EXPECT_THAT(Holdfast("list --json").text, HasSubstr("\"name\":\"disk0\""));
  EXPECT_THAT(Holdfast("status disk0").text, HasSubstr("epoch:          1\n"));

  const Output inject = Holdfast("inject disk0 kill");
  EXPECT_EQ(inject.text, "killed the active process of disk0\n");
  EXPECT_EQ(inject.status, 0);
  ASSERT_OK(launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 2 && s.standby_ready && !s.restarts.empty();
  }));
  EXPECT_THAT(Holdfast("status disk0").text, HasSubstr("1 x SIGKILL"));
  EXPECT_THAT(Holdfast("events").text, HasSubstr(" disk0 promoted pid="));
  EXPECT_THAT(Holdfast("events --json").text,
              HasSubstr("\"type\":\"promoted\""));

  const Output again = Holdfast("run " + SpecFile("disk0"));
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.text, HasSubstr("instance 'disk0' exists"));
  const std::string spec = SpecFile("disk1");
  std::ofstream(spec, std::ios::app) << "resources { name: \"a\"\n"
                                        "path: \"/etc/passwd\" }\n";
  EXPECT_THAT(Holdfast("run " + spec).text,
              HasSubstr("disk1.textproto:6: resources[0]: /etc/passwd is "));
  EXPECT_EQ(Holdfast("stop disk0").status, 0);
  EXPECT_THAT(Holdfast("list").text, Not(HasSubstr("disk0")));
  const Output gone = Holdfast("stop disk0");
  EXPECT_EQ(gone.status, 1);
  EXPECT_EQ(gone.text, "holdfast: no instance 'disk0': there is none at all\n");
}

TEST_F(Cli, ResizeReachesActiveAndStandby) {
  AwaitApi();
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  const Output resize = Holdfast("resize disk0");
  EXPECT_EQ(resize.text, "disk0 looks at its resources again\n");
  EXPECT_EQ(resize.status, 0);
  absl::StatusOr<FakeSegment> segment;
  for (int i = 0; i < 1000; ++i) {
    segment = launcher_.Segment("disk0");
    ASSERT_OK(segment);
    if (segment->resized != 0 && segment->standby_resized != 0) break;
    usleep(10000);
  }
  EXPECT_EQ(segment->resized, 1u);
  EXPECT_EQ(segment->standby_resized, 1u);
  EXPECT_THAT(Holdfast("events").text, HasSubstr("disk0 resource-changed"));
  EXPECT_EQ(Holdfast("resize nobody").text,
            "holdfast: no instance 'nobody': there is disk0\n");
}

TEST_F(Cli, ResizeOfAnInstanceThatServesNobodySaysSo) {
  AwaitApi();
  LaunchSpec spec = launcher_.Spec("disk0", {"--never-ready"});
  ASSERT_OK(launcher_.Ask([&](CoreClient& core) { return core.Run(spec); }));
  const Output resize = Holdfast("resize disk0");
  EXPECT_EQ(resize.status, 1);
  EXPECT_THAT(resize.text,
              AllOf(HasSubstr("no active process at the moment (STARTING)"),
                    HasSubstr("say it again when it runs")));
}

TEST_F(Cli, KilledApiIsReplacedAndNoDeviceNotices) {
  uint64_t last = AwaitApi().sequence;
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  for (int i = 0; i < 3; ++i) {
    const int pid = AwaitApi().pid;
    ASSERT_GT(pid, 0);
    kill(pid, SIGKILL);
    // Who comes before the next api is there is served by it.
    const Output list = Holdfast("list");
    EXPECT_EQ(list.status, 0) << list.text;
    const LaunchEvent next = AwaitApi(last);
    EXPECT_NE(next.pid, pid);
    last = next.sequence;
  }
  const Output inject = Holdfast("inject kill --target=api");
  EXPECT_EQ(inject.status, 0) << inject.text;
  AwaitApi(last);
  const auto lost = launcher_.AwaitEvent("api-lost");
  ASSERT_OK(lost);
  EXPECT_EQ(lost->cause, "SIGKILL");
  const auto after = launcher_.AwaitWhole("disk0");
  ASSERT_OK(after);
  EXPECT_EQ(after->active_pid, before->active_pid);
  EXPECT_EQ(after->epoch, before->epoch);
}

TEST_F(Cli, KilledCoreComesBackWithAnApi) {
  const uint64_t first = AwaitApi().sequence;
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  const Output inject = Holdfast("inject kill --target=core");
  EXPECT_EQ(inject.status, 0) << inject.text;
  AwaitApi(first);
  const Output status = Holdfast("status disk0");
  EXPECT_EQ(status.status, 0) << status.text;
  EXPECT_THAT(status.text, HasSubstr("RUNNING"));
}

TEST_F(Cli, ApiIsConfined) {
  const int pid = AwaitApi().pid;
  // It is served, so the api has tightened itself.
  ASSERT_EQ(Holdfast("list").status, 0);
  const std::string proc = "/proc/" + std::to_string(pid);
  std::ifstream file(proc + "/status");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(text, AllOf(HasSubstr("Uid:\t861999\t861999"),
                          HasSubstr("CapEff:\t0000000000000000"),
                          HasSubstr("CapBnd:\t0000000000000000"),
                          HasSubstr("NoNewPrivs:\t1"), HasSubstr("Seccomp:\t2"),
                          HasSubstr("Seccomp_filters:\t2")));
  // All threads, not just the one that asked for it.
  for (const auto& task : std::filesystem::directory_iterator(proc + "/task")) {
    std::ifstream one(task.path() / "status");
    const std::string status(std::istreambuf_iterator<char>(one), {});
    EXPECT_THAT(status, HasSubstr("Seccomp_filters:\t2")) << task.path();
  }
  EXPECT_TRUE(std::filesystem::is_empty(proc + "/root/"));
  for (const char* space : {"user", "pid", "mnt", "net", "ipc", "uts"}) {
    EXPECT_NE(
        std::filesystem::read_symlink(proc + "/ns/" + space),
        std::filesystem::read_symlink(std::string("/proc/self/ns/") + space))
        << space;
  }
  struct stat socket = {};
  ASSERT_EQ(stat(launcher_.File("api.sock").c_str(), &socket), 0);
  EXPECT_EQ(socket.st_mode & 077, 0u);
  EXPECT_EQ(socket.st_uid, 0u);
}

// Every kind of call, so that the filter is complete, many at a time, so that
// gRPC makes threads under it.
TEST_F(Cli, ConfinedApiServesEverythingAtOnce) {
  const uint64_t first = AwaitApi().sequence;
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  std::vector<std::thread> clients;
  for (const char* words :
       {"list", "status", "status disk0", "events",
        "state dump disk0 --output=/dev/null", "restart disk0", "resize disk0",
        "events --json", "list --json"}) {
    clients.emplace_back([this, words] {
      const Output output = Holdfast(words);
      EXPECT_EQ(output.status, 0) << words << ": " << output.text;
    });
  }
  for (std::thread& client : clients) client.join();
  const auto last = launcher_.AwaitEvent("api-started");
  ASSERT_OK(last);
  EXPECT_EQ(last->sequence, first) << "the api died meanwhile";
}

TEST_F(Cli, CallsThatTheApiDiesUnderAreAskedAgain) {
  AwaitApi();
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  std::atomic<bool> end{false};
  // Not by launcher_, which would reap the shells of the calls below.
  auto core = CoreClient::Connect(launcher_.File("core.sock"));
  ASSERT_OK(core);
  std::thread killer([&] {
    while (!end) {
      core->Inject("", Fault::kKill, FaultTarget::kApi).IgnoreError();
      for (int i = 0; i < 8 && !end; ++i) usleep(20'000);
    }
  });
  for (int i = 0; i < 10; ++i) {
    const Output status = Holdfast("status disk0");
    EXPECT_EQ(status.status, 0) << status.text;
  }
  const Output run = Holdfast("run " + SpecFile("disk1"));
  EXPECT_EQ(run.status, 0) << run.text;
  const Output stop = Holdfast("stop disk1");
  EXPECT_EQ(stop.status, 0) << stop.text;
  end = true;
  killer.join();
}

// The api is a child of the core: it goes, too, and the next ones finish it.
TEST_F(Cli, CallThatTheCoreDiesUnderIsAskedAgain) {
  AwaitApi();
  ASSERT_OK(launcher_.Run(launcher_.Spec("slow", {"--ignore-stop"})));
  ASSERT_OK(launcher_.AwaitWhole("slow"));
  const auto started = launcher_.AwaitEvent("core-started");
  ASSERT_OK(started);
  auto core = CoreClient::Connect(launcher_.File("core.sock"));
  ASSERT_OK(core);
  Output stop;
  std::thread client([&] { stop = Holdfast("stop slow"); });
  EXPECT_TRUE(PollUntil([&] {
    const auto status = core->Status("slow");
    return status.ok() && status->state == "STOPPING";
  }));
  kill(started->pid, SIGKILL);
  client.join();
  EXPECT_EQ(stop.status, 0) << stop.text;
  EXPECT_EQ(stop.text, "slow is stopped\n");
}

TEST_F(Cli, HungApiIsReplaced) {
  const LaunchEvent before = AwaitApi();
  const Output inject = Holdfast("inject stop --target=api");
  EXPECT_EQ(inject.status, 0) << inject.text;
  const auto hung = launcher_.AwaitEvent("api-hung");
  ASSERT_OK(hung);
  EXPECT_EQ(hung->pid, before.pid);
  const LaunchEvent after = AwaitApi(before.sequence);
  EXPECT_NE(after.pid, before.pid);
  const Output status = Holdfast("status");
  EXPECT_THAT(status.text, AllOf(HasSubstr("PROCESS"), HasSubstr("hung"),
                                 HasSubstr("no instances")));
}

TEST_F(Cli, ApiIsNotBlamedForACoreThatWasHeldUp) {
  const LaunchEvent api = AwaitApi();
  const auto core = launcher_.AwaitEvent("core-started");
  ASSERT_OK(core);
  ASSERT_EQ(kill(core->pid, SIGSTOP), 0);
  absl::SleepFor(kBeatPatience + absl::Seconds(1));
  ASSERT_EQ(kill(core->pid, SIGCONT), 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Holdfast("status").status, 0);
  }
  EXPECT_THAT(Holdfast("events").text, Not(HasSubstr("api-hung")));
  EXPECT_EQ(kill(api.pid, 0), 0);
}

TEST_F(Cli, NothingIsLeftAfterTheEnd) {
  AwaitApi();
  ASSERT_EQ(Holdfast("run " + SpecFile("disk0")).status, 0);
  ASSERT_OK(launcher_.AwaitWhole("disk0"));
  const int status = launcher_.Stop();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_THAT(launcher_.Processes(), IsEmpty());
  for (const char* name : {"api.sock", "core.sock", "disk0.sock"}) {
    EXPECT_FALSE(std::filesystem::exists(launcher_.File(name))) << name;
  }
}

TEST_F(Cli, ErrorsOfASpecNameTheLine) {
  AwaitApi();
  const std::string path = launcher_.File("bad.textproto");
  std::ofstream(path) << "name: \"disk0\"\nbinary: \"disk\"\n";
  const Output run = Holdfast("run " + path);
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.text, HasSubstr("bad.textproto:2: binary: 'disk' is not"));
}

// A directory of text specs, and a launcher that is started with it.
class SpecDirectory : public ::testing::Test {
 protected:
  void Write(const std::string& file, const std::string& name,
             const std::string& more = "") {
    std::ofstream(specs_.File(file + ".textproto"))
        << "name: \"" << name << "\"\n"
        << more << "binary: \"" << Runfile("launcher/testing/fake_device")
        << "\"\nsegment_bytes: 4096\n"
        << "restart { budget: 0 backoff_base_ms: 0 }\n";
  }
  std::vector<std::string> Args() const {
    return {"--api=" + Runfile("launcher/api/holdfast-api"),
            "--api-policy=" + Runfile("launcher/api/api.policy"),
            "--spec-dir=" + specs_.path()};
  }

  testing::TempDir specs_;
};

TEST_F(SpecDirectory, IsRunAtTheStartAndErrorsArePrecise) {
  Write("a", "disk0");
  Write("b", "disk9", "binnary: \"/bin/disk\"\n");
  Write("c", "disk9", "\nsocket_path: \"disk9.sock\"\n");
  Write("d", "disk0");
  Write("e", "disk1");
  LauncherProcess launcher(Args());
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  ASSERT_OK(launcher.AwaitWhole("disk1"));
  const std::string run_dir =
      std::filesystem::path(launcher.File("x")).parent_path().string();
  EXPECT_THAT(Holdfast(run_dir, "list").text,
              AllOf(HasSubstr("disk0  RUNNING"), HasSubstr("disk1  RUNNING"),
                    Not(HasSubstr("disk9"))));
  EXPECT_THAT(
      Holdfast(run_dir, "events").text,
      AllOf(HasSubstr("spec-refused b.textproto:2:8: "), HasSubstr("binnary"),
            HasSubstr("spec-refused c.textproto:3: socket_path: "),
            HasSubstr("spec-refused d.textproto: instance 'disk0' exists")));
}

// The api dies once before it has read anything and then each time that an
// instance of it is seen, which is amid the others as a rule; what must hold at
// every step is in launcher_specs_test.
TEST_F(SpecDirectory, ApisThatDieMeanwhileLeaveAllOfItRun) {
  std::vector<std::string> names;
  for (int i = 0; i < 8; ++i) names.push_back("disk" + std::to_string(i));
  for (const std::string& name : names) Write(name, name);
  LauncherProcess launcher(Args());
  const auto first = launcher.AwaitEvent("api-started");
  ASSERT_OK(first);
  kill(first->pid, SIGKILL);
  auto core = CoreClient::Connect(launcher.File("core.sock"));
  ASSERT_OK(core);
  core->set_timeout(absl::Seconds(60));
  int api = first->pid;
  size_t accepted = 0;
  for (uint64_t last = first->sequence; accepted < names.size();) {
    const auto events = core->ReadEvents(last, /*wait=*/true);
    ASSERT_OK(events);
    last = events->last_sequence;
    for (const LaunchEvent& event : events->events) {
      EXPECT_NE(event.type, "spec-refused") << event.detail;
      if (event.type == "api-started") api = event.pid;
      if (event.type == "accepted" && ++accepted <= 3) kill(api, SIGKILL);
    }
  }
  for (const std::string& name : names) EXPECT_OK(launcher.AwaitWhole(name));
}

// What an api does that was taken over: negative control of its confinement.
TEST(EvilApi, IsKilledAndNamed) {
  LauncherProcess launcher(
      {"--api=" + Runfile("launcher/api/testing/evil_api"),
       "--api-policy=" + Runfile("launcher/api/api.policy")});
  const auto lost = launcher.AwaitEvent("api-lost");
  ASSERT_OK(lost);
  EXPECT_EQ(lost->cause, "sandbox violation (SIGSYS)");
}

TEST(EvilApi, WithoutAPolicyNobodyStopsItAndStatusSaysSo) {
  LauncherProcess launcher(
      {"--api=" + Runfile("launcher/api/testing/evil_api")});
  const auto lost = launcher.AwaitEvent("api-lost");
  ASSERT_OK(lost);
  EXPECT_EQ(lost->cause, "exit status 42");
  CoreClient::Everything all;
  ASSERT_OK(launcher.Ask([&](CoreClient& core) -> absl::Status {
    ASSIGN_OR_RETURN(all, core.ListAll());
    return absl::OkStatus();
  }));
  ASSERT_EQ(all.servants.size(), 3u);
  EXPECT_EQ(all.servants[2].name, "api");
  EXPECT_THAT(all.servants[2].degraded,
              ::testing::Contains(HasSubstr("startup filter")));
}

}  // namespace
}  // namespace holdfast::launcher

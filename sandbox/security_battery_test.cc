// What a device that was taken over may try, and what stops it. Each attempt is
// made four times: free (it succeeds, or the others prove nothing), under the
// filters alone, under the jail alone, and under both. Runs as real root:
// tagged no-sandbox.

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/handoff.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/compile.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/jail_sys.h"
#include "sandbox/policy_file_sys.h"
#include "sandbox/testing/run_jailed_sys.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::TempDir;
using testing::Describe;
using testing::Ending;
using testing::RunToEnd;
using testing::SpecFor;

constexpr char kEvil[] = "sandbox/testing/evil_child";
constexpr char kBlkPolicy[] = "devices/virtio_blk/virtio_blk.policy";
constexpr char kRngPolicy[] = "devices/virtio_rng/virtio_rng.policy";
constexpr int kScratchFd = 8;

enum class Jail { kNone, kFull };
enum class Filters { kNone, kStartup, kSteady, kSteadyInThread };

// What the two filters of one shipped policy are made of.
struct Compiled {
  std::vector<sock_filter> startup;
  UniqueFd steady;
};

absl::StatusOr<Compiled> CompileShipped(const std::string& policy_path) {
  const absl::StatusOr<Policy> policy =
      LoadPolicy(policy_path, {"sandbox/policies"});
  if (!policy.ok()) return policy.status();
  Compiled compiled;
  const auto startup = Compile(policy->StartupRules());
  const auto steady = Compile(policy->SteadyRules());
  if (!startup.ok()) return startup.status();
  if (!steady.ok()) return steady.status();
  compiled.startup = *startup;
  absl::StatusOr<UniqueFd> sealed = SealFilter(*steady);
  if (!sealed.ok()) return sealed.status();
  compiled.steady = std::move(*sealed);
  return compiled;
}

// A process, a file and two listening sockets that the attempts aim at.
class Targets {
 public:
  Targets() {
    std::ofstream(dir_.File("secret")) << "secret";
    victim_ = fork();
    if (victim_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) pause();
    }
    ListenTcp();
    ListenAbstract();
  }
  Targets(const Targets&) = delete;
  Targets& operator=(const Targets&) = delete;
  ~Targets() {
    kill(victim_, SIGKILL);
    waitpid(victim_, nullptr, 0);
  }

  std::string For(const std::string& attempt) const {
    if (attempt == "connect_tcp") return std::to_string(port_);
    if (attempt == "connect_abstract") return abstract_;
    if (attempt == "mount") return dir_.path();
    if (absl::EndsWith(attempt, "_host_file")) return dir_.File("secret");
    return std::to_string(victim_);
  }

 private:
  void ListenTcp() {
    tcp_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(tcp_.get(), generic, size) == 0 && listen(tcp_.get(), 16) == 0 &&
        getsockname(tcp_.get(), generic, &size) == 0) {
      port_ = ntohs(address.sin_port);
    }
  }

  void ListenAbstract() {
    abstract_ = absl::StrCat("holdfast-battery-", getpid());
    unix_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, abstract_.data(), abstract_.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                             1 + abstract_.size());
    if (bind(unix_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0) {
      listen(unix_.get(), 16);
    }
  }

  TempDir dir_;
  pid_t victim_ = -1;
  UniqueFd tcp_;
  UniqueFd unix_;
  int port_ = 0;
  std::string abstract_;
};

absl::StatusOr<Ending> Try(const std::string& attempt, Jail jail,
                           Filters filters,
                           const std::string& policy = kBlkPolicy) {
  const absl::StatusOr<Compiled> compiled = CompileShipped(policy);
  if (!compiled.ok()) return compiled.status();
  const absl::StatusOr<UniqueFd> scratch = CreateSealedMemfd("scratch", 4096);
  if (!scratch.ok()) return scratch.status();
  const Targets targets;
  JailSpec spec = SpecFor(kEvil);
  const char* stage = filters == Filters::kSteady           ? "steady"
                      : filters == Filters::kSteadyInThread ? "thread"
                                                            : "startup";
  spec.argv = {"evil_child", attempt, stage, targets.For(attempt)};
  spec.confinement =
      jail == Jail::kFull ? Confinement::kFull : Confinement::kNone;
  if (filters != Filters::kNone) spec.startup_filter = compiled->startup;
  spec.fds = {{compiled->steady, kHandoffFilterFd}, {*scratch, kScratchFd}};
  return RunToEnd(spec);
}

// "breached", "refused" or how the process died.
std::string Outcome(const absl::StatusOr<Ending>& ending) {
  if (!ending.ok()) return ending.status().ToString();
  if (!absl::StartsWith(ending->output, "trying\n")) {
    return absl::StrCat("did not get to the attempt: ", Describe(*ending));
  }
  if (ending->code == CLD_KILLED && ending->status == SIGSYS) {
    return "killed by the filter";
  }
  if (!ending->Exited(0)) return Describe(*ending);
  return absl::StrContains(ending->output, "breached") ? "breached" : "refused";
}

constexpr char kBreached[] = "breached";
constexpr char kRefused[] = "refused";
constexpr char kKilled[] = "killed by the filter";

struct Attack {
  const char* name;
  // Under the jail without filters: kBreached says honestly that nothing but
  // the filter stops it.
  const char* jail_alone;
  // Under the startup filter without the jail.
  const char* startup_alone;
};

void PrintTo(const Attack& attack, std::ostream* out) { *out << attack.name; }

class Battery : public ::testing::TestWithParam<Attack> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

// What an administrator may have switched off for everybody.
bool MayBeSwitchedOff(const std::string& attempt) {
  return attempt == "io_uring_setup" || attempt == "userfaultfd" ||
         attempt == "bpf" || attempt == "i386_getpid";
}

TEST_P(Battery, SucceedsWithoutConfinement) {
  const std::string outcome =
      Outcome(Try(GetParam().name, Jail::kNone, Filters::kNone));
  if (outcome != kBreached && MayBeSwitchedOff(GetParam().name)) {
    GTEST_SKIP() << "this machine refuses it to root: " << outcome;
  }
  EXPECT_EQ(outcome, kBreached);
}

TEST_P(Battery, MeetsTheJailAlone) {
  const std::string outcome =
      Outcome(Try(GetParam().name, Jail::kFull, Filters::kNone));
  if (outcome != GetParam().jail_alone && MayBeSwitchedOff(GetParam().name)) {
    GTEST_SKIP() << "this machine decides it by itself: " << outcome;
  }
  EXPECT_EQ(outcome, GetParam().jail_alone);
}

TEST_P(Battery, MeetsTheStartupFilterAlone) {
  EXPECT_EQ(Outcome(Try(GetParam().name, Jail::kNone, Filters::kStartup)),
            GetParam().startup_alone);
}

TEST_P(Battery, IsKilledByTheSteadyFilterAlone) {
  EXPECT_EQ(Outcome(Try(GetParam().name, Jail::kNone, Filters::kSteady)),
            kKilled);
}

TEST_P(Battery, IsKilledUnderBoth) {
  for (const char* policy : {kBlkPolicy, kRngPolicy}) {
    EXPECT_EQ(
        Outcome(Try(GetParam().name, Jail::kFull, Filters::kSteady, policy)),
        kKilled)
        << policy;
  }
}

TEST_P(Battery, IsKilledInAThreadThatWasThereBefore) {
  EXPECT_EQ(
      Outcome(Try(GetParam().name, Jail::kFull, Filters::kSteadyInThread)),
      kKilled);
}

INSTANTIATE_TEST_SUITE_P(
    All, Battery,
    ::testing::Values(Attack{"open_host_file", kRefused, kKilled},
                      Attack{"create_host_file", kRefused, kKilled},
                      Attack{"open_proc", kRefused, kKilled},
                      Attack{"connect_tcp", kRefused, kKilled},
                      Attack{"connect_abstract", kRefused, kKilled},
                      Attack{"fork", kBreached, kKilled},
                      Attack{"clone_thread", kBreached, kBreached},
                      Attack{"execve", kRefused, kKilled},
                      Attack{"ptrace", kRefused, kKilled},
                      Attack{"kill_other", kRefused, kKilled},
                      Attack{"pidfd_open", kRefused, kKilled},
                      Attack{"io_uring_setup", kBreached, kKilled},
                      Attack{"bpf", kRefused, kKilled},
                      Attack{"userfaultfd", kBreached, kKilled},
                      Attack{"add_key", kBreached, kKilled},
                      Attack{"mount", kRefused, kKilled},
                      Attack{"chroot", kRefused, kKilled},
                      Attack{"unshare_user", kBreached, kKilled},
                      Attack{"setuid_root", kRefused, kKilled},
                      Attack{"sethostname", kRefused, kKilled},
                      Attack{"setpriority", kRefused, kKilled},
                      Attack{"i386_getpid", kBreached, kKilled},
                      Attack{"mprotect_exec", kRefused, kKilled},
                      Attack{"mmap_write_exec", kRefused, kKilled},
                      Attack{"mmap_shared_exec", kBreached, kKilled},
                      Attack{"mmap_anonymous", kBreached, kBreached},
                      Attack{"ioctl", kBreached, kKilled},
                      Attack{"memfd_create", kBreached, kBreached},
                      Attack{"become_dumpable", kBreached, kBreached},
                      Attack{"setsockopt_other", kBreached, kKilled},
                      Attack{"seccomp", kBreached, kKilled}),
    [](const auto& info) { return std::string(info.param.name); });

class Jailed : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

TEST_F(Jailed, X32IsKilledWhetherTheKernelHasItOrNot) {
  EXPECT_EQ(Outcome(Try("x32_getpid", Jail::kFull, Filters::kStartup)),
            kKilled);
  EXPECT_EQ(Outcome(Try("x32_getpid", Jail::kFull, Filters::kSteady)), kKilled);
}

// The positive control: the filters leave a device its work.
TEST_F(Jailed, WorkOfADeviceIsDoneUnderBoth) {
  for (const Filters filters :
       {Filters::kStartup, Filters::kSteady, Filters::kSteadyInThread}) {
    EXPECT_EQ(Outcome(Try("steady_work", Jail::kFull, filters)), "breached")
        << "\"breached\" says that all calls were answered";
  }
}

TEST_F(Jailed, CallsOfAnotherDevicesPolicyAreKilled) {
  EXPECT_EQ(
      Outcome(Try("steady_work", Jail::kFull, Filters::kSteady, kRngPolicy)),
      kKilled);
}

// Process 1 of a pid namespace has its own rules of dying; whoever reads
// crash reports must know them.
TEST_F(Jailed, AbortAndFaultsEndTheFirstProcessOfItsNamespace) {
  EXPECT_EQ(Outcome(Try("segfault", Jail::kFull, Filters::kNone)),
            "killed by signal 11");
  EXPECT_EQ(Outcome(Try("abort", Jail::kFull, Filters::kNone)),
            "killed by signal 11")
      << "its own SIGABRT does not reach process 1";
  EXPECT_EQ(Outcome(Try("abort", Jail::kNone, Filters::kNone)),
            "killed by signal 6");
  EXPECT_EQ(Outcome(Try("abort", Jail::kFull, Filters::kSteady)), kKilled);
}

// A process of the evil program that waits, and the end of its output.
struct Waiting {
  JailedProcess process;
  UniqueFd output;
};

absl::StatusOr<Waiting> StartWaiting(const std::string& attempt, Jail jail) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError("pipe2");
  Waiting waiting;
  waiting.output.Reset(ends[0]);
  const UniqueFd writer(ends[1]);
  JailSpec spec = SpecFor(kEvil);
  spec.argv = {"evil_child", attempt, "startup"};
  spec.confinement =
      jail == Jail::kFull ? Confinement::kFull : Confinement::kNone;
  spec.fds = {{writer, 1}};
  absl::StatusOr<JailedProcess> process = Spawn(spec);
  if (!process.ok()) return process.status();
  waiting.process = std::move(*process);
  return waiting;
}

// One line of what it says.
std::string ReadLine(const UniqueFd& output) {
  std::string line;
  char c;
  while (read(output.get(), &c, 1) == 1 && c != '\n') line += c;
  return line;
}

TEST_F(Jailed, SigtermNeedsAHandlerAndSigkillDoesNot) {
  const absl::StatusOr<Waiting> waiting =
      StartWaiting("wait_for_signal", Jail::kFull);
  ASSERT_OK(waiting);
  const JailedProcess& process = waiting->process;
  ASSERT_EQ(ReadLine(waiting->output), "trying");
  ASSERT_EQ(kill(process.pid, SIGTERM), 0);
  pollfd death = {process.pidfd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&death, 1, 100), 0) << "ignored: it has no handler";
  ASSERT_EQ(kill(process.pid, SIGKILL), 0);
  const absl::StatusOr<Ending> ending = testing::WaitFor(process);
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->KilledBy(SIGKILL)) << Describe(*ending);
}

// Even without the filter nothing of a device outlives it: its pid namespace
// goes with it.
TEST_F(Jailed, DescendantsDieWithTheDevice) {
  const absl::StatusOr<Waiting> waiting =
      StartWaiting("leave_descendant", Jail::kFull);
  ASSERT_OK(waiting);
  ASSERT_EQ(ReadLine(waiting->output), "trying");
  ASSERT_EQ(ReadLine(waiting->output), "2") << "the second in its namespace";
  kill(waiting->process.pid, SIGKILL);
  ASSERT_OK(testing::WaitFor(waiting->process));
  char end;
  EXPECT_EQ(read(waiting->output.get(), &end, 1), 0) << "nobody holds the pipe";
}

TEST_F(Jailed, WithoutTheJailADescendantStaysBehind) {
  const absl::StatusOr<Waiting> waiting =
      StartWaiting("leave_descendant", Jail::kNone);
  ASSERT_OK(waiting);
  ASSERT_EQ(ReadLine(waiting->output), "trying");
  const pid_t descendant = std::stoi(ReadLine(waiting->output));
  kill(waiting->process.pid, SIGKILL);
  ASSERT_OK(testing::WaitFor(waiting->process));
  EXPECT_EQ(kill(descendant, SIGKILL), 0) << "it is still there";
}

}  // namespace
}  // namespace holdfast::sandbox

// Runs as real root: tagged no-sandbox.

#include "sandbox/jail_sys.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/testing/run_jailed_sys.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::StatusIs;
using ::holdfast::testing::TempDir;
using ::testing::Contains;
using testing::Describe;
using ::testing::ElementsAre;
using testing::Ending;
using ::testing::HasSubstr;
using testing::Lines;
using testing::RunToEnd;
using testing::SpecFor;

constexpr char kDescribe[] = "sandbox/testing/describe_self";

std::map<std::string, std::string> DescriptionOf(const JailSpec& spec) {
  const absl::StatusOr<Ending> ending = RunToEnd(spec);
  EXPECT_OK(ending);
  if (!ending.ok()) return {};
  EXPECT_TRUE(ending->Exited(0)) << Describe(*ending);
  return Lines(ending->output);
}

class Jail : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

using JailDeathTest = Jail;

TEST_F(Jail, GivesOnlyTheMissingFilterAsDegraded) {
  const absl::StatusOr<Ending> ending = RunToEnd(SpecFor(kDescribe));
  ASSERT_OK(ending);
  EXPECT_THAT(ending->degraded,
              ElementsAre("degraded: startup filter: none given"));
}

TEST_F(Jail, RunsAsAUserOfItsOwnWithoutGroups) {
  auto self = DescriptionOf(SpecFor(kDescribe));
  EXPECT_EQ(self["uid"], "70000");
  EXPECT_EQ(self["euid"], "70000");
  EXPECT_EQ(self["gid"], "70000");
  EXPECT_EQ(self["groups"], "0");
  EXPECT_EQ(self["pid"], "1");
  EXPECT_EQ(self["sid"], "1");
}

TEST_F(Jail, TheUidIsTheInstancesOutsideToo) {
  JailSpec spec = SpecFor(kDescribe);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  // A full pipe stops the child at its only write.
  fcntl(writer.get(), F_SETFL, O_NONBLOCK);
  const std::string filler(4096, 'x');
  while (write(writer.get(), filler.data(), filler.size()) > 0) {
  }
  fcntl(writer.get(), F_SETFL, 0);
  spec.fds = {{writer, 1}};
  const absl::StatusOr<JailedProcess> process = Spawn(spec);
  ASSERT_OK(process);
  std::ifstream status("/proc/" + std::to_string(process->pid) + "/status");
  std::string line;
  std::string uid;
  while (std::getline(status, line)) {
    if (line.rfind("Uid:", 0) == 0) uid = line;
  }
  EXPECT_EQ(uid, "Uid:\t70000\t70000\t70000\t70000");
  kill(process->pid, SIGKILL);
  ASSERT_OK(testing::WaitFor(*process));
}

TEST_F(Jail, HasNoCapabilityAndCannotGetOne) {
  auto self = DescriptionOf(SpecFor(kDescribe));
  EXPECT_EQ(self["cap_effective"], "0");
  EXPECT_EQ(self["cap_permitted"], "0");
  EXPECT_EQ(self["cap_inheritable"], "0");
  EXPECT_EQ(self["cap_bounding"], "0");
  EXPECT_EQ(self["cap_ambient"], "0");
  EXPECT_EQ(self["no_new_privs"], "1");
  EXPECT_EQ(self["mdwe"], "1");
  const int securebits = std::stoi(self["securebits"]);
  EXPECT_EQ(securebits & SECURE_ALL_LOCKS, SECURE_ALL_LOCKS);
  EXPECT_EQ(securebits & SECBIT_NOROOT, SECBIT_NOROOT);
}

TEST_F(Jail, RootIsEmptyAndReadOnly) {
  auto self = DescriptionOf(SpecFor(kDescribe));
  EXPECT_EQ(self["root_entries"], "");
  EXPECT_EQ(self["root_is_top"], "1");
  EXPECT_EQ(self["root_flags"],
            std::to_string(ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC));
  EXPECT_EQ(self["host"], "device");
}

TEST_F(Jail, MountsNothingOnTheHost) {
  std::ifstream before_file("/proc/self/mountinfo");
  const std::string before((std::istreambuf_iterator<char>(before_file)), {});
  DescriptionOf(SpecFor(kDescribe));
  std::ifstream after_file("/proc/self/mountinfo");
  const std::string after((std::istreambuf_iterator<char>(after_file)), {});
  EXPECT_EQ(before, after);
}

TEST_F(Jail, LimitsAreSetAndCoreIsOff) {
  JailSpec spec = SpecFor(kDescribe);
  spec.limits.open_files = 77;
  spec.limits.threads = 5;
  spec.limits.locked_memory = 65536;
  auto self = DescriptionOf(spec);
  EXPECT_EQ(self["limit_core"], "0/0");
  EXPECT_EQ(self["limit_nofile"], "77/77");
  EXPECT_EQ(self["limit_nproc"], "5/5");
  EXPECT_EQ(self["limit_memlock"], "65536/65536");
}

// Seconds of the processor that a process has had.
double CpuSeconds(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; field <= 15 && file >> word; ++field) {
    if (field >= 14) ticks += std::stod(word);
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

JailSpec Spinning() {
  JailSpec spec;
  spec.program = "/bin/sh";
  spec.argv = {"sh", "-c", "while :; do :; done"};
  spec.confinement = Confinement::kFenced;
  spec.root = Root::kHost;
  spec.realtime_priority = 1;
  return spec;
}

TEST_F(Jail, ARealtimeThreadThatNeverWaitsIsKilledWhereThereIsALimit) {
  constexpr uint64_t kLimitUs = 100'000;
  const absl::StatusOr<JailedProcess> endless = Spawn(Spinning());
  ASSERT_OK(endless);
  if (sched_getscheduler(endless->pid) != SCHED_FIFO) {
    kill(endless->pid, SIGKILL);
    ASSERT_OK(testing::WaitFor(*endless));
    GTEST_SKIP() << "the machine refuses real-time priorities";
  }
  while (CpuSeconds(endless->pid) < 4 * kLimitUs * 1e-6) usleep(1000);
  EXPECT_EQ(kill(endless->pid, 0), 0);
  siginfo_t info = {};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(endless->pid), &info,
                   WEXITED | WNOHANG | WNOWAIT),
            0);
  EXPECT_EQ(info.si_pid, 0) << "it has ended without a limit";
  kill(endless->pid, SIGKILL);
  ASSERT_OK(testing::WaitFor(*endless));

  JailSpec spec = Spinning();
  spec.limits.realtime_us = kLimitUs;
  const absl::StatusOr<JailedProcess> limited = Spawn(spec);
  ASSERT_OK(limited);
  const absl::StatusOr<Ending> ending = testing::WaitFor(*limited);
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->KilledBy(SIGKILL)) << Describe(*ending);
}

TEST_F(Jail, ALimitBeyondTheLaunchersIsCutAndReported) {
  rlimit own;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &own), 0);
  JailSpec spec = SpecFor(kDescribe);
  spec.limits.open_files = own.rlim_max + 1;
  const absl::StatusOr<Ending> ending = RunToEnd(spec);
  ASSERT_OK(ending);
  EXPECT_THAT(ending->degraded, Contains(HasSubstr("open files")));
}

TEST_F(Jail, EnvironmentAndArgumentsAreExactlyTheSpecs) {
  JailSpec spec = SpecFor(kDescribe);
  spec.env = {"HOLDFAST_MANAGED=1"};
  setenv("SECRET_OF_THE_LAUNCHER", "1", 1);
  auto self = DescriptionOf(spec);
  EXPECT_EQ(self["env"], "HOLDFAST_MANAGED=1,");
  EXPECT_EQ(self["argv0"], "device");
}

TEST_F(Jail, DescriptorsAreExactlyTheTable) {
  // Not close-on-exec: a leak if anybody relied on the flag.
  const UniqueFd leak(open("/dev/null", O_RDWR));
  const UniqueFd high(fcntl(leak.get(), F_DUPFD, 500));
  ASSERT_TRUE(high.valid());
  JailSpec spec = SpecFor(kDescribe);
  spec.fds = {{leak, 3}, {high, 6}};
  EXPECT_EQ(DescriptionOf(spec)["fds"], "0,1,3,6,");
}

TEST_F(Jail, DescriptorNumbersMayOverlapTheirSources) {
  TempDir dir;
  std::ofstream(dir.File("three")) << "3";
  std::ofstream(dir.File("four")) << "4";
  const UniqueFd a(open(dir.File("three").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd b(open(dir.File("four").c_str(), O_RDONLY | O_CLOEXEC));
  JailSpec spec = SpecFor(kDescribe);
  spec.fds = {{a, b.get()}, {b, a.get()}};  // A swap.
  auto self = DescriptionOf(spec);
  EXPECT_THAT(self["fds"], HasSubstr(std::to_string(a.get()) + ","));
  EXPECT_THAT(self["fds"], HasSubstr(std::to_string(b.get()) + ","));
}

TEST_F(Jail, SignalsStartAtTheirDefaults) {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  auto self = DescriptionOf(SpecFor(kDescribe));
  EXPECT_EQ(self["signals_ignored"], "0");
  EXPECT_EQ(self["signals_blocked"], "0");
  sigset_t now;
  sigprocmask(SIG_UNBLOCK, &mask, &now);
  EXPECT_EQ(sigismember(&now, SIGTERM), 1) << "the launcher's mask is kept";
}

TEST_F(Jail, TheListenerHangsUpWhenTheProcessIsDead) {
  const absl::StatusOr<JailedProcess> process = Spawn(SpecFor(kDescribe));
  ASSERT_OK(process);
  ASSERT_TRUE(process->listener.valid());
  ASSERT_OK(testing::WaitFor(*process));
  pollfd poll_listener = {process->listener.get(), POLLIN, 0};
  ASSERT_EQ(poll(&poll_listener, 1, 10000), 1);
  EXPECT_TRUE((poll_listener.revents & POLLHUP) != 0);
}

TEST_F(Jail, StartupFilterIsInForceFromExecOn) {
  // Allows execveat alone: the program dies at its first system call.
  JailSpec spec = SpecFor(kDescribe);
  spec.startup_filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 322 /* execveat */, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0x7fff0000u),
      BPF_STMT(BPF_RET | BPF_K, 0x80000000u)};
  const absl::StatusOr<Ending> ending = RunToEnd(spec);
  ASSERT_OK(ending);
  EXPECT_TRUE(ending->KilledBy(SIGSYS)) << Describe(*ending);
  EXPECT_EQ(ending->code, CLD_KILLED) << "no core dump";
}

// Not even to say why: what it then dies of must not be taken for the reason.
TEST_F(Jail, ProgramThatCannotBeExecutedIsNamedUnderAnyFilter) {
  JailSpec spec = SpecFor(kDescribe);
  spec.startup_filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 322 /* execveat */, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0x7fff0000u),
      BPF_STMT(BPF_RET | BPF_K, 0x80000000u)};
  TempDir dir;
  spec.program = dir.File("program");
  std::ofstream(spec.program) << "text";
  EXPECT_THAT(Spawn(spec),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("program: execveat: Permission denied: it "
                                 "must be executable for other users")));
  ASSERT_EQ(chmod(spec.program.c_str(), 0755), 0);
  EXPECT_THAT(Spawn(spec).status().message(),
              HasSubstr("it is no program of this machine"));
  std::ofstream(spec.program) << "#!/bin/sh\n";
  EXPECT_THAT(Spawn(spec), StatusIs(absl::StatusCode::kNotFound,
                                    HasSubstr("link it statically")));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

// The errno is of this start alone.
TEST_F(Jail, AFailedExecveatLeavesNoMarkOnTheNextStart) {
  TempDir dir;
  JailSpec failing = SpecFor(kDescribe);
  failing.program = dir.File("program");
  std::ofstream(failing.program) << "text";
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Spawn(failing).status().message(),
                HasSubstr("must be executable for other users"));
    const absl::StatusOr<Ending> ending = RunToEnd(SpecFor(kDescribe));
    ASSERT_OK(ending);
    EXPECT_TRUE(ending->Exited(0)) << Describe(*ending);
  }
}

// A program that runs and fails is no failed start.
TEST_F(Jail, AProgramThatFailsAtOnceHasStarted) {
  JailSpec spec = SpecFor(kDescribe);
  spec.argv = {"device", "fail"};
  spec.fds = {};
  const absl::StatusOr<JailedProcess> process = Spawn(spec);
  ASSERT_OK(process);
  EXPECT_OK(testing::WaitFor(*process));
}

TEST_F(Jail, FailedStepIsNamed) {
  JailSpec spec = SpecFor(kDescribe);
  TempDir dir;
  spec.program = dir.File("not_a_program");
  std::ofstream(spec.program) << "text";
  EXPECT_THAT(Spawn(spec), StatusIs(absl::StatusCode::kPermissionDenied,
                                    HasSubstr("execveat")));
  spec.program = dir.File("missing");
  EXPECT_THAT(Spawn(spec),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("open ")));
  spec = SpecFor(kDescribe);
  spec.startup_filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};  // No return.
  EXPECT_THAT(Spawn(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("startup filter")));
}

TEST_F(Jail, AFailedStartLeavesNoChild) {
  JailSpec spec = SpecFor(kDescribe);
  spec.startup_filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
  ASSERT_FALSE(Spawn(spec).ok());
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(Jail, MeaninglessSpecsAreRefused) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  JailSpec root = SpecFor(kDescribe);
  root.uid = 0;
  JailSpec twice = SpecFor(kDescribe);
  twice.fds = {{null, 5}, {null, 5}};
  JailSpec closed = SpecFor(kDescribe);
  closed.fds = {{BorrowedFd(-1), 5}};
  JailSpec far = SpecFor(kDescribe);
  far.fds = {{null, 1024}};
  JailSpec nameless = SpecFor(kDescribe);
  nameless.argv.clear();
  for (const JailSpec& spec : {root, twice, closed, far, nameless}) {
    EXPECT_THAT(Spawn(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("jail: ")));
  }
}

TEST_F(Jail, WhatTheMachineLacksIsReportedOrRefused) {
  JailSpec spec = SpecFor(kDescribe);
  spec.selinux_context = "system_u:system_r:holdfast_blk_t:s0:c1";
  const absl::StatusOr<Ending> ending = RunToEnd(spec);
  ASSERT_OK(ending);
  EXPECT_THAT(ending->degraded, Contains("degraded: selinux: not enabled"));
  spec.refuse_degraded = true;
  EXPECT_THAT(Spawn(spec), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("degraded: ")));
}

// The negative control of the tests above: without the jail the same program
// sees the host.
TEST_F(Jail, WithoutConfinementTheHostIsVisible) {
  JailSpec spec = SpecFor(kDescribe);
  spec.confinement = Confinement::kNone;
  auto self = DescriptionOf(spec);
  EXPECT_EQ(self["uid"], "0");
  EXPECT_NE(self["pid"], "1");
  EXPECT_NE(self["cap_effective"], "0");
  EXPECT_NE(self["root_entries"], "");
  EXPECT_NE(self["host"], "device");
  EXPECT_EQ(self["fds"], "0,1,") << "descriptors are exact all the same";
  EXPECT_EQ(self["env"], "");
}

// Whoever hears of its end may rely on that nothing of it runs any more.
TEST_F(Jail, NothingThatAFencedProgramStartsOutlivesIt) {
  for (const Confinement confinement :
       {Confinement::kFenced, Confinement::kNone}) {
    JailSpec spec = SpecFor("/bin/sh");
    spec.confinement = confinement;
    spec.root = Root::kHost;
    spec.argv = {"sh", "-c", "/bin/sleep 1000 & echo started; wait"};
    int pipe_ends[2];
    ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
    const UniqueFd output(pipe_ends[0]);
    UniqueFd input(pipe_ends[1]);
    spec.fds = {{input, 1}};
    absl::StatusOr<JailedProcess> process = Spawn(spec);
    ASSERT_OK(process);
    input.Reset();
    char text[16];
    ASSERT_GT(read(output.get(), text, sizeof(text)), 0);
    const std::string pid = std::to_string(process->pid);
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    pid_t below = 0;
    ASSERT_TRUE(children >> below);
    ASSERT_EQ(kill(process->pid, SIGKILL), 0);
    siginfo_t info;
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process->pid), &info, WEXITED),
              0);
    const bool fenced = confinement == Confinement::kFenced;
    EXPECT_EQ(kill(below, 0) != 0, fenced);
    if (!fenced) kill(below, SIGKILL);
  }
}

TEST_F(Jail, WithTheHostsRootTheHostIsVisibleAndReported) {
  JailSpec spec = SpecFor(kDescribe);
  spec.root = Root::kHost;
  const absl::StatusOr<Ending> ending = RunToEnd(spec);
  ASSERT_OK(ending);
  EXPECT_NE(Lines(ending->output)["root_entries"], "");
  EXPECT_THAT(ending->degraded, Contains(HasSubstr("degraded: root")));
}

// Runs `body` in a process that is not root.
template <typename Body>
int ExitStatusAsNobody(const Body& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (setresgid(65534, 65534, 65534) != 0) _exit(90);
    if (setresuid(65534, 65534, 65534) != 0) _exit(91);
    // As after a login: the change of uid took away its own proc files.
    prctl(PR_SET_DUMPABLE, 1);
    _exit(body());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

TEST_F(Jail, AnUnprivilegedLauncherGivesTheRestAndSaysSo) {
  // The program by descriptor: nobody may not search the way to it.
  const UniqueFd program(open(kDescribe, O_PATH | O_CLOEXEC));
  ASSERT_TRUE(program.valid());
  const int status = ExitStatusAsNobody([&] {
    JailSpec spec = SpecFor("/proc/self/fd/" + std::to_string(program.get()));
    const absl::StatusOr<Ending> ending = RunToEnd(spec);
    if (!ending.ok()) {
      std::cerr << ending.status() << "\n";
      return 1;
    }
    auto self = Lines(ending->output);
    if (self["uid"] != "65534" || self["pid"] != "1") return 2;
    if (self["root_entries"] != "" || self["cap_bounding"] != "0") return 3;
    if (ending->degraded.empty() ||
        ending->degraded[0] !=
            "degraded: user of its own: the launcher is not root") {
      return 4;
    }
    return 0;
  });
  EXPECT_EQ(status, 0);
}

bool WriteFile(const char* path, const char* text) {
  return static_cast<bool>(std::ofstream(path) << text << std::flush);
}

// Inside many containers: root, but of a user namespace with no id but 0.
TEST_F(Jail, RootOfANarrowUserNamespaceGivesTheRestAndSaysSo) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWUSER) != 0) _exit(90);
    if (!WriteFile("/proc/self/setgroups", "deny") ||
        !WriteFile("/proc/self/gid_map", "0 0 1") ||
        !WriteFile("/proc/self/uid_map", "0 0 1")) {
      _exit(91);
    }
    const absl::StatusOr<Ending> ending = RunToEnd(SpecFor(kDescribe));
    if (!ending.ok()) {
      std::cerr << ending.status() << "\n";
      _exit(1);
    }
    auto self = Lines(ending->output);
    if (self["uid"] != "0" || self["pid"] != "1") _exit(2);
    if (self["cap_effective"] != "0" || self["cap_bounding"] != "0") _exit(3);
    if (self["root_entries"] != "") _exit(4);
    for (const std::string& entry : ending->degraded) {
      if (entry.rfind("degraded: user of its own: ", 0) == 0) _exit(0);
    }
    _exit(5);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace holdfast::sandbox

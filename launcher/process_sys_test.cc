#include "launcher/process_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "base/pidfd_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;

// A child that runs `body` and then exits with what it returns; killed and
// reaped with this object.
class Child {
 public:
  explicit Child(const std::function<int()>& body) : pid_(fork()) {
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      _exit(body());
    }
    pidfd_ = *OpenPidfd(pid_);
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  int pid() const { return pid_; }
  BorrowedFd pidfd() const { return pidfd_; }
  bool Ended() const {
    return PollUntil([this] { return HasEnded(pidfd_); });
  }

 private:
  int pid_;
  UniqueFd pidfd_;
};

int Sleep() {
  for (;;) pause();
}

std::optional<std::string> CauseOf(const std::function<int()>& body) {
  const Child child(body);
  EXPECT_TRUE(child.Ended());
  return TakeExitCause(child.pidfd());
}

TEST(ExitCauses, OfAChildAreTakenByReapingIt) {
  EXPECT_EQ(CauseOf([] { return 0; }), "exit status 0");
  EXPECT_EQ(CauseOf([] { return 3; }), "exit status 3");
  EXPECT_EQ(CauseOf([] { return raise(SIGKILL); }), "SIGKILL");
  EXPECT_EQ(CauseOf([] {
              const rlimit none = {0, 0};
              setrlimit(RLIMIT_CORE, &none);
              signal(SIGSEGV, SIG_DFL);
              return raise(SIGSEGV);
            }),
            "SIGSEGV");
}

TEST(ExitCauses, OfALivingProcessAreUnknown) {
  const Child child(Sleep);
  EXPECT_EQ(TakeExitCause(child.pidfd()), std::nullopt);
  EXPECT_FALSE(HasEnded(child.pidfd()));
  EXPECT_FALSE(IsEnding(child.pid()));
}

TEST(Process, HasEndedBeforeItIsReaped) {
  const Child child([] { return 0; });
  EXPECT_TRUE(child.Ended());
  EXPECT_TRUE(IsEnding(child.pid()));
  EXPECT_TRUE(HasEnded(child.pidfd()));
}

TEST(Process, IsEndingWhenNobodyHasItsNumber) {
  int gone = 0;
  {
    const Child child(Sleep);
    gone = child.pid();
  }
  EXPECT_TRUE(IsEnding(gone));
  EXPECT_FALSE(OpenPidfd(gone).ok());
}

// What stands in parentheses is the program's own choice.
TEST(Process, AMisleadingNameDoesNotMakeItEnd) {
  const Child child([] {
    prctl(PR_SET_NAME, ") Z 1 1 1 1 1 4");
    return Sleep();
  });
  EXPECT_FALSE(IsEnding(child.pid()));
}

TEST(Signals, ReachTheProcessAndNobodyElseAfterIt) {
  const Child child(Sleep);
  EXPECT_OK(SendSignal(child.pidfd(), SIGTERM));
  EXPECT_TRUE(child.Ended());
  EXPECT_EQ(TakeExitCause(child.pidfd()), "SIGTERM");
  // It is reaped: its number may be another's by now.
  EXPECT_OK(SendSignal(child.pidfd(), SIGKILL));
}

TEST(Demotion, IsOfEveryThread) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const UniqueFd reader(ready[0]), writer(ready[1]);
  const Child child([&] {
    std::thread other([&] {
      (void)!write(writer.get(), "x", 1);
      Sleep();
    });
    return Sleep();
  });
  char byte;
  ASSERT_EQ(read(reader.get(), &byte, 1), 1);
  if (getpriority(PRIO_PROCESS, 0) > 0) GTEST_SKIP() << "runs niced itself";
  EXPECT_EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(child.pid())), 0);
  Demote(child.pid());
  EXPECT_GT(getpriority(PRIO_PROCESS, static_cast<id_t>(child.pid())), 0);
  // The thread has the next number, or one soon after it.
  int lowered = 0;
  for (int thread = child.pid() + 1; thread < child.pid() + 2000; ++thread) {
    const std::string path = "/proc/" + std::to_string(child.pid()) + "/task/" +
                             std::to_string(thread);
    if (access(path.c_str(), F_OK) == 0) {
      lowered += getpriority(PRIO_PROCESS, static_cast<id_t>(thread)) > 0;
    }
  }
  EXPECT_EQ(lowered, 1);
  Demote(0x7ffffff);  // Nobody: nothing happens.
}

#if defined(__x86_64__)
TEST(FaultInjection, MakesAProcessExecuteNothing) {
  // Inherited: a sanitizer would make an exit of it.
  const auto before = signal(SIGSEGV, SIG_DFL);
  const Child child(Sleep);
  signal(SIGSEGV, before);
  const absl::Status injected = InjectSegmentationFault(child.pid());
  if (absl::IsPermissionDenied(injected)) {
    GTEST_SKIP() << "ptrace is not permitted here: " << injected;
  }
  ASSERT_OK(injected);
  EXPECT_TRUE(child.Ended());
  EXPECT_EQ(TakeExitCause(child.pidfd()), "SIGSEGV");
}
#endif

TEST(FaultInjection, SaysWhomItDidNotFind) {
  const absl::Status status = InjectSegmentationFault(0x7ffffff);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("134217727"));
}

TEST(Descendants, AreChildrenAndTheirChildren) {
  const Child child([] {
    for (int i = 0; i < 2; ++i) {
      if (fork() != 0) continue;
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (fork() == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
      return Sleep();
    }
    return Sleep();
  });
  EXPECT_THAT(ChildrenOf(getpid()), Contains(child.pid()));
  EXPECT_TRUE(
      PollUntil([&] { return DescendantsOf(child.pid()).size() == 4; }));
  EXPECT_EQ(ChildrenOf(child.pid()).size(), 2u);
  EXPECT_THAT(DescendantsOf(child.pid()), Not(Contains(child.pid())));
  EXPECT_THAT(ChildrenOf(0x7ffffff), IsEmpty());
  for (int pid : DescendantsOf(child.pid())) kill(pid, SIGKILL);
}

TEST(Clocks, GoOnAndAgreeOnTheYear) {
  const Uptime before = Now();
  EXPECT_GE(Now(), before);
  constexpr int64_t kYear2020 = 1577836800, kYear2200 = 7258118400;
  EXPECT_GT(UnixNs() / 1000000000, kYear2020);
  EXPECT_LT(UnixNs() / 1000000000, kYear2200);
}

}  // namespace
}  // namespace holdfast::launcher

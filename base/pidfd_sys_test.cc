#include "base/pidfd_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

// A child that waits for its signal.
pid_t Sleeper() {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (true) pause();
}

// What ended it; reaps it.
int EndedBy(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(Pidfd, ASignalReachesTheProcess) {
  const pid_t pid = Sleeper();
  auto pidfd = OpenPidfd(pid);
  ASSERT_OK(pidfd);
  EXPECT_EQ(fcntl(pidfd->get(), F_GETFD), FD_CLOEXEC);
  EXPECT_OK(SignalPidfd(*pidfd, SIGTERM));
  EXPECT_EQ(EndedBy(pid), SIGTERM);
}

TEST(Pidfd, NobodyGetsTheSignalOfAProcessThatWasReaped) {
  const pid_t pid = Sleeper();
  auto pidfd = OpenPidfd(pid);
  ASSERT_OK(pidfd);
  EXPECT_OK(SignalPidfd(*pidfd, SIGKILL));
  EXPECT_EQ(EndedBy(pid), SIGKILL);
  EXPECT_THAT(SignalPidfd(*pidfd, SIGKILL),
              StatusIs(absl::StatusCode::kNotFound, _));
}

TEST(Pidfd, AProcessThatHasEndedIsStillThereUntilItIsReaped) {
  const pid_t pid = Sleeper();
  auto pidfd = OpenPidfd(pid);
  ASSERT_OK(pidfd);
  kill(pid, SIGKILL);
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_OK(SignalPidfd(*pidfd, SIGTERM));
  EXPECT_EQ(EndedBy(pid), SIGKILL);
}

TEST(Pidfd, ThereMustBeAProcess) {
  const pid_t pid = Sleeper();
  kill(pid, SIGKILL);
  EndedBy(pid);
  EXPECT_THAT(OpenPidfd(pid),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("pidfd_open")));
  EXPECT_THAT(OpenPidfd(-1), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(SignalPidfd(UniqueFd(open("/dev/null", O_RDONLY)), SIGTERM),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("pidfd_send_signal")));
}

}  // namespace
}  // namespace holdfast

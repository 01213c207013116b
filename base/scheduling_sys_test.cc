#include "base/scheduling_sys.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

// On a thread of its own, so that the test itself stays what it is.
template <typename Function>
void OnThread(Function function) {
  std::thread(function).join();
}

int Priority() {
  sched_param param = {};
  sched_getparam(0, &param);
  return param.sched_priority;
}

// With what the kernel said.
std::string NeedsRealtime(const absl::Status& status) {
  return absl::StrCat(
      "SCHED_FIFO is refused: run it with CAP_SYS_NICE (as root, in a "
      "container "
      "with --cap-add=SYS_NICE), or with ulimit -r 5: ",
      status.message());
}

TEST(Scheduling, PromptIsTheNormalPolicyAtThisNice) {
  OnThread([] {
    ASSERT_OK(SetPrompt(gettid(), 7));
    EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 7);
  });
}

TEST(Scheduling, RealtimeIsRaisedAndNeverLowered) {
  OnThread([] {
    const absl::Status status = RaiseToRealtime(gettid(), 3);
    if (absl::IsPermissionDenied(status)) {
      EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
      GTEST_SKIP() << NeedsRealtime(status);
    }
    ASSERT_OK(status);
    EXPECT_EQ(sched_getscheduler(0), SCHED_FIFO);
    EXPECT_EQ(Priority(), 3);
    ASSERT_OK(RaiseToRealtime(gettid(), 5));
    EXPECT_EQ(Priority(), 5);
    ASSERT_OK(RaiseToRealtime(gettid(), 4));
    EXPECT_EQ(Priority(), 5);
  });
}

TEST(Scheduling, PromptEndsRealtime) {
  OnThread([] {
    const absl::Status status = RaiseToRealtime(gettid(), 3);
    if (absl::IsPermissionDenied(status)) GTEST_SKIP() << NeedsRealtime(status);
    ASSERT_OK(status);
    ASSERT_OK(SetPrompt(gettid(), 10));
    EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 10);
  });
}

TEST(Scheduling, ErrorsAreNamed) {
  EXPECT_FALSE(RaiseToRealtime(gettid(), 1000).ok());
  EXPECT_FALSE(SetPrompt(-1, 0).ok());
}

}  // namespace
}  // namespace holdfast

#include "sandbox/fence_probe_sys.h"

#include <sys/utsname.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::sandbox {
namespace {

using ::testing::HasSubstr;

bool KernelIsAtLeast(int major, int minor) {
  utsname name;
  uname(&name);
  int has_major = 0;
  int has_minor = 0;
  std::sscanf(name.release, "%d.%d", &has_major, &has_minor);
  return has_major > major || (has_major == major && has_minor >= minor);
}

TEST(FenceProbe, FindsTheEarlyFenceOnKernelsThatHaveIt) {
  if (!KernelIsAtLeast(6, 11)) GTEST_SKIP() << "needs Linux 6.11";
  const absl::StatusOr<FenceProbe> probe = ProbeFence();
  ASSERT_OK(probe);
  EXPECT_TRUE(probe->listener_first) << probe->explanation;
  EXPECT_THAT(probe->explanation, HasSubstr("before the address space"));
}

TEST(FenceProbe, LeavesNoProcessBehind) {
  ASSERT_OK(ProbeFence());
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace holdfast::sandbox

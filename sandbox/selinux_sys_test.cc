#include "sandbox/selinux_sys.h"

#include <cerrno>
#include <fstream>
#include <iterator>
#include <string>

#include "base/testing/temp_dir.h"
#include "gtest/gtest.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::TempDir;

constexpr char kContext[] = "system_u:system_r:holdfast_device_t:s0:c1,c2";

std::string Content(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// A directory of that name says nothing: its file system must be SELinux's.
TEST(SelinuxEnabled, IsDecidedByTheFileSystem) {
  const TempDir dir;
  EXPECT_FALSE(SelinuxEnabled(dir.path().c_str()));
  EXPECT_FALSE(SelinuxEnabled("/proc"));
  EXPECT_FALSE(SelinuxEnabled(dir.File("absent").c_str()));
}

TEST(SetExecContext, WritesTheContextAndNothingElse) {
  const TempDir dir;
  const std::string attribute = dir.File("exec");
  std::ofstream(attribute).close();
  EXPECT_EQ(SetExecContext(kContext, attribute.c_str()), 0);
  EXPECT_EQ(Content(attribute), kContext);
}

TEST(SetExecContext, ReturnsTheErrorOfTheKernel) {
  const TempDir dir;
  EXPECT_EQ(SetExecContext(kContext, dir.File("absent").c_str()), ENOENT);
  EXPECT_EQ(SetExecContext(kContext, dir.path().c_str()), EISDIR);
  EXPECT_EQ(SetExecContext(kContext, "/dev/full"), ENOSPC);
}

// A kernel without SELinux has no such attribute or refuses the context: what
// the launcher never tries, because it asks SelinuxEnabled() first.
TEST(SetExecContext, IsRefusedWhereSelinuxIsNotEnabled) {
  if (SelinuxEnabled()) GTEST_SKIP() << "SELinux is enabled here";
  EXPECT_NE(SetExecContext(kContext), 0);
}

}  // namespace
}  // namespace holdfast::sandbox

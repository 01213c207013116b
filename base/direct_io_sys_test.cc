#include "base/direct_io_sys.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;

UniqueFd Create(const std::string& path) {
  return UniqueFd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

// One file system of each kind, for this process alone.
class DirectIo : public ::testing::Test {
 protected:
  static bool OwnMounts() {
    static const bool own =
        unshare(CLONE_NEWNS) == 0 &&
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    return own;
  }
  bool Mount(const char* type) {
    return OwnMounts() &&
           mount(type, dir_.path().c_str(), type, 0, nullptr) == 0;
  }
  void TearDown() override { umount2(dir_.path().c_str(), MNT_DETACH); }
  testing::TempDir dir_;
};

TEST_F(DirectIo, IsSaidToBeImpossibleWhereItIs) {
  if (!Mount("ramfs")) {
    GTEST_SKIP() << "needs a mount of ramfs, which has no direct I/O: run it "
                    "as root with CAP_SYS_ADMIN: "
                 << std::strerror(errno);
  }
  const UniqueFd fd = Create(dir_.File("disk"));
  ASSERT_TRUE(fd.valid());
  EXPECT_THAT(
      PassPageCache(fd, "--image=disk", "do without"),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               "--image=disk is on a file system without direct I/O "
               "(O_DIRECT): move it to one that has it, such as ext4 or xfs, "
               "or do without"));
  EXPECT_EQ(fcntl(fd.get(), F_GETFL) & O_DIRECT, 0);
}

// It has it since Linux 6.6.
TEST_F(DirectIo, OfATmpfsIsWhatOpenSaysOfIt) {
  if (!Mount("tmpfs")) {
    GTEST_SKIP() << "needs a mount of tmpfs: run it as root with "
                    "CAP_SYS_ADMIN: "
                 << std::strerror(errno);
  }
  const UniqueFd fd = Create(dir_.File("disk"));
  ASSERT_TRUE(fd.valid());
  const UniqueFd direct(
      open(dir_.File("disk").c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  const absl::Status status = PassPageCache(fd, "disk", "do without");
  EXPECT_EQ(status.ok(), direct.valid()) << status;
  EXPECT_EQ((fcntl(fd.get(), F_GETFL) & O_DIRECT) != 0, direct.valid());
}

TEST_F(DirectIo, OtherFlagsStayAndDuplicatesHaveIt) {
  const UniqueFd fd(open(dir_.File("disk").c_str(),
                         O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const UniqueFd duplicate(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  const absl::Status status = PassPageCache(fd, "disk", "do without");
  if (absl::IsFailedPrecondition(status)) {
    GTEST_SKIP() << "set TMPDIR to a file system with direct I/O: " << status;
  }
  ASSERT_OK(status);
  EXPECT_NE(fcntl(duplicate.get(), F_GETFL) & O_DIRECT, 0);
  EXPECT_NE(fcntl(duplicate.get(), F_GETFL) & O_APPEND, 0);
}

TEST_F(DirectIo, WithoutADescriptorIsAnError) {
  EXPECT_FALSE(PassPageCache(BorrowedFd(-1), "disk", "do without").ok());
}

}  // namespace
}  // namespace holdfast

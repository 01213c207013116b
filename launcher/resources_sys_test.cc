#include "launcher/resources_sys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

class Resources : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(dir_.File("images"));
    std::ofstream(Image()) << "0123456789";
    std::ofstream(dir_.File("secret")) << "x";
    auto allowed = AllowedDirectories::Create("--allow-resource-dir",
                                              {dir_.File("images")});
    ASSERT_OK(allowed);
    allowed_.emplace(*std::move(allowed));
  }
  std::string Image() const { return dir_.File("images/disk.img"); }
  absl::StatusOr<UniqueFd> Open(const std::string& path) {
    return OpenResource(*allowed_, {"image", path});
  }

  testing::TempDir dir_;
  std::optional<AllowedDirectories> allowed_;
};

TEST_F(Resources, ImageIsOpenedForReadingAndWriting) {
  const auto fd = Open(Image());
  ASSERT_OK(fd);
  EXPECT_EQ(pwrite(fd->get(), "a", 1, 0), 1);
  EXPECT_THAT(ResourceSize(*fd), testing::IsOkAndHolds(10u));
}

// What its file system must say is in base/direct_io_sys_test.
TEST_F(Resources, DirectImageIsOpenWithoutThePageCache) {
  ResourceSpec resource = {"image", Image()};
  auto cached = OpenResource(*allowed_, resource);
  ASSERT_OK(cached);
  EXPECT_EQ(fcntl(cached->get(), F_GETFL) & O_DIRECT, 0);
  cached->Reset();  // And its lock.
  resource.direct = true;
  const auto direct = OpenResource(*allowed_, resource);
  if (!direct.ok()) {
    EXPECT_THAT(direct, StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("direct: " + Image() + " is on a")));
    GTEST_SKIP() << "set TMPDIR to a file system with direct I/O: "
                 << direct.status();
  }
  EXPECT_EQ(fcntl(direct->get(), F_GETFL) & (O_DIRECT | O_ACCMODE),
            O_DIRECT | O_RDWR);
}

TEST_F(Resources, ReadOnlyImageCannotBeWritten) {
  const auto fd =
      OpenResource(*allowed_, {"image", Image(), ResourceAccess::kReadOnly});
  ASSERT_OK(fd);
  EXPECT_EQ(pwrite(fd->get(), "a", 1, 0), -1);
}

TEST_F(Resources, PathOutsideIsRefused) {
  EXPECT_THAT(Open(dir_.File("secret")),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("outside of every --allow-resource-dir")));
  EXPECT_THAT(Open(dir_.File("images/../secret")),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("")));
}

TEST_F(Resources, LinkThatLeavesTheDirectoryIsRefused) {
  std::filesystem::create_symlink(dir_.File("secret"),
                                  dir_.File("images/link"));
  EXPECT_THAT(Open(dir_.File("images/link")),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("")));
}

TEST_F(Resources, LinkThatStaysInsideIsFollowed) {
  std::filesystem::create_symlink("disk.img", dir_.File("images/link"));
  EXPECT_OK(Open(dir_.File("images/link")));
}

// A directory whose name only begins like an allowed one.
TEST_F(Resources, SiblingWithTheSamePrefixIsRefused) {
  std::filesystem::create_directory(dir_.File("images2"));
  std::ofstream(dir_.File("images2/disk.img")) << "x";
  EXPECT_THAT(Open(dir_.File("images2/disk.img")),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("")));
}

TEST_F(Resources, MissingImageIsNotFound) {
  EXPECT_THAT(Open(dir_.File("images/none.img")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.img")));
}

TEST_F(Resources, OtherKindsOfFileAreRefusedWithoutWaiting) {
  ASSERT_EQ(mkfifo(dir_.File("images/fifo").c_str(), 0600), 0);
  EXPECT_THAT(Open(dir_.File("images/fifo")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not a regular file")));
  EXPECT_THAT(
      OpenResource(*allowed_, {"image", Image(), ResourceAccess::kReadWrite,
                               ResourceKind::kBlockDevice}),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("not a block device")));
}

TEST_F(Resources, LockEndsWithTheLastDuplicate) {
  auto first = Open(Image());
  ASSERT_OK(first);
  const UniqueFd duplicate(dup(first->get()));
  first->Reset();
  EXPECT_THAT(Open(Image()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in use")));
}

TEST_F(Resources, SharedReadersMeet) {
  const ResourceSpec reader = {"image", Image(), ResourceAccess::kReadOnly,
                               ResourceKind::kFile, ResourceLock::kShared};
  const auto first = OpenResource(*allowed_, reader);
  ASSERT_OK(first);
  EXPECT_OK(OpenResource(*allowed_, reader));
  EXPECT_THAT(Open(Image()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in use")));
}

TEST_F(Resources, SocketPathNeverReplacesAFile) {
  EXPECT_THAT(
      allowed_->SocketPath(Image()),
      StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("is not a socket")));
  EXPECT_THAT(allowed_->SocketPath(dir_.File("images/new.sock")),
              testing::IsOkAndHolds(dir_.File("images/new.sock")));
  EXPECT_THAT(allowed_->SocketPath(dir_.File("new.sock")),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("")));
}

TEST_F(Resources, AllowedDirectoryMustExist) {
  EXPECT_THAT(AllowedDirectories::Create("--allow-binary-dir", {"/no/where"}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("--allow-binary-dir=/no/where")));
}

}  // namespace
}  // namespace holdfast::launcher

#include "launcher/resources_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
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

TEST_F(Resources, HolderOfTheLockIsNamed) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto fd = Open(Image());
    (void)!write(ready[1], fd.ok() ? "y" : "n", 1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_THAT(Open(Image()),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr(absl::StrCat("in use by pid ", holder))));
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  EXPECT_OK(Open(Image()));
}

// A process that has the image open as QEMU does: read locks on these bytes.
class Qemu {
 public:
  Qemu(const std::string& image, std::vector<off_t> bytes)
      : fd_(open(image.c_str(), O_RDWR | O_CLOEXEC)) {
    for (off_t byte : bytes) locked_ = locked_ && Lock(byte);
  }
  // QEMU's own test: whether nobody holds a lock on `byte`.
  bool IsFree(off_t byte) const {
    struct flock lock = At(byte, F_WRLCK);
    return fcntl(fd_.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
  }
  bool locked() const { return locked_; }

 private:
  static struct flock At(off_t byte, short type) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return lock;
  }
  bool Lock(off_t byte) const {
    const struct flock lock = At(byte, F_RDLCK);
    return fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0;
  }

  UniqueFd fd_;
  bool locked_ = true;
};
// What QEMU 7.2 holds for a writable disk and for a read-only one.
const std::vector<off_t> kQemuWrites = {100, 101, 103, 201, 203};
const std::vector<off_t> kQemuReads = {100, 201, 203};

class ImageOfQemu : public Resources {
 protected:
  ResourceSpec Reader() const {
    return {"image", Image(), ResourceAccess::kReadOnly, ResourceKind::kFile,
            ResourceLock::kShared};
  }
};

TEST_F(ImageOfQemu, WrittenByItIsNeitherReadNorWritten) {
  const Qemu qemu(Image(), kQemuWrites);
  ASSERT_TRUE(qemu.locked());
  const auto in_use =
      StatusIs(absl::StatusCode::kUnavailable,
               ::testing::AllOf(HasSubstr(Image()), HasSubstr("is in use by")));
  EXPECT_THAT(OpenResource(*allowed_, Reader()), in_use);
  EXPECT_THAT(Open(Image()), in_use);
}

TEST_F(ImageOfQemu, ReadByItIsReadButNotWritten) {
  const Qemu qemu(Image(), kQemuReads);
  EXPECT_OK(OpenResource(*allowed_, Reader()));
  EXPECT_THAT(Open(Image()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in use")));
}

TEST_F(ImageOfQemu, SeesOurReaderAndMayReadBesideIt) {
  const auto first = OpenResource(*allowed_, Reader());
  const auto second = OpenResource(*allowed_, Reader());
  ASSERT_OK(first);
  ASSERT_OK(second);
  const Qemu qemu(Image(), kQemuReads);
  EXPECT_TRUE(qemu.locked());
  EXPECT_TRUE(qemu.IsFree(101));   // Nobody writes, which it asks for.
  EXPECT_TRUE(qemu.IsFree(200));   // Reading is not forbidden.
  EXPECT_FALSE(qemu.IsFree(201));  // Writing is.
  // A third one still comes in beside all of them.
  EXPECT_OK(OpenResource(*allowed_, Reader()));
}

TEST_F(ImageOfQemu, CannotEvenReadWhatWeWrite) {
  const auto ours = Open(Image());
  ASSERT_OK(ours);
  EXPECT_FALSE(Qemu(Image(), kQemuReads).locked());
  EXPECT_FALSE(Qemu(Image(), kQemuWrites).locked());
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

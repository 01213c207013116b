#include "base/image_lock_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A process that has the image open as QEMU does: read locks on these bytes,
// and then a look whether anybody stands in the way of each of those.
class Qemu {
 public:
  Qemu(const std::string& image, bool writes)
      : fd_(open(image.c_str(), O_RDWR | O_CLOEXEC)), opened_(true) {
    for (off_t byte : writes ? kWriterLocks : kReaderLocks) {
      const struct flock lock = At(byte, F_RDLCK);
      opened_ = opened_ && fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0;
    }
    for (off_t byte : writes ? kWriterTests : kReaderTests) {
      opened_ = opened_ && IsFree(byte);
    }
  }
  // Whether it runs: nobody stood in its way.
  bool opened() const { return opened_; }
  // Whether nobody else holds a lock on `byte`.
  bool IsFree(off_t byte) const {
    struct flock lock = At(byte, F_WRLCK);
    return fcntl(fd_.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
  }

 private:
  // What QEMU 7.2 takes, and what it tests, for a disk of a guest.
  inline static const std::vector<off_t> kReaderLocks = {100, 201, 203};
  inline static const std::vector<off_t> kWriterLocks = {100, 101, 103, 201,
                                                         203};
  inline static const std::vector<off_t> kReaderTests = {200, 101, 103};
  inline static const std::vector<off_t> kWriterTests = {200, 201, 203, 101,
                                                         103};

  static struct flock At(off_t byte, short type) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return lock;
  }

  UniqueFd fd_;
  bool opened_;
};

class ImageLock : public ::testing::Test {
 protected:
  void SetUp() override { std::ofstream(Image()) << "0123456789"; }
  std::string Image() const { return dir_.File("disk.img"); }

  // A user of ours: its descriptor holds the lock, or says why not.
  absl::StatusOr<UniqueFd> Take(ImageUse use) const {
    const int access = use == ImageUse::kRead ? O_RDONLY : O_RDWR;
    UniqueFd fd(open(Image().c_str(), access | O_CLOEXEC));
    RETURN_IF_ERROR(LockImage(fd, Image(), use));
    return fd;
  }
  absl::StatusOr<UniqueFd> Read() const { return Take(ImageUse::kRead); }
  absl::StatusOr<UniqueFd> Write() const {
    return Take(ImageUse::kReadAndWrite);
  }

  static auto InUse() {
    return StatusIs(absl::StatusCode::kUnavailable, HasSubstr("is in use by"));
  }

  testing::TempDir dir_;
};

TEST_F(ImageLock, ReadersMeet) {
  const auto first = Read();
  const auto second = Read();
  EXPECT_OK(first);
  EXPECT_OK(second);
  EXPECT_THAT(Write(), InUse());
}

TEST_F(ImageLock, WriterIsAlone) {
  const auto writer = Write();
  ASSERT_OK(writer);
  EXPECT_THAT(Read(), InUse());
  EXPECT_THAT(Write(), InUse());
}

TEST_F(ImageLock, EndsWithTheLastDuplicate) {
  auto first = Write();
  ASSERT_OK(first);
  UniqueFd duplicate(dup(first->get()));
  first->Reset();
  EXPECT_THAT(Read(), InUse());
  duplicate.Reset();
  EXPECT_OK(Read());
}

// Who is refused has taken some of the locks, and gives them back.
TEST_F(ImageLock, RefusedReaderLeavesNothing) {
  auto writer = Write();
  ASSERT_OK(writer);
  EXPECT_THAT(Read(), InUse());
  writer->Reset();
  EXPECT_OK(Write());
}

TEST_F(ImageLock, NeedsADescriptorForItsUse) {
  const UniqueFd read_only(open(Image().c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(LockImage(read_only, Image(), ImageUse::kReadAndWrite),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("lock " + Image())));
}

TEST_F(ImageLock, HolderIsNamed) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto fd = Write();
    (void)!write(ready[1], fd.ok() ? "y" : "n", 1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_THAT(
      Read(),
      StatusIs(absl::StatusCode::kUnavailable,
               StartsWith(absl::StrCat(Image(), " is in use by pid ", holder,
                                       ": stop it, or make all its users"))));
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  EXPECT_OK(Write());
}

// The classic lock of a whole file, of any other program; it says whose it is.
TEST_F(ImageLock, OfAnotherProgramIsHonoured) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const UniqueFd fd(open(Image().c_str(), O_RDWR | O_CLOEXEC));
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    (void)!write(ready[1], fcntl(fd.get(), F_SETLK, &lock) == 0 ? "y" : "n", 1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  const auto named =
      StatusIs(absl::StatusCode::kUnavailable,
               HasSubstr(absl::StrCat("in use by pid ", holder, ":")));
  EXPECT_THAT(Read(), named);
  EXPECT_THAT(Write(), named);
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST_F(ImageLock, QemuThatWritesKeepsEverybodyOut) {
  const Qemu qemu(Image(), /*writes=*/true);
  ASSERT_TRUE(qemu.opened());
  EXPECT_THAT(Read(), InUse());
  EXPECT_THAT(Write(), InUse());
}

TEST_F(ImageLock, QemuThatReadsKeepsWritersOut) {
  const Qemu qemu(Image(), /*writes=*/false);
  ASSERT_TRUE(qemu.opened());
  EXPECT_OK(Read());
  EXPECT_THAT(Write(), InUse());
}

TEST_F(ImageLock, ReadersOfOursLetQemuReadButNotWrite) {
  const auto first = Read();
  const auto second = Read();
  ASSERT_OK(first);
  ASSERT_OK(second);
  const Qemu reader(Image(), /*writes=*/false);
  EXPECT_TRUE(reader.opened());
  EXPECT_FALSE(Qemu(Image(), /*writes=*/true).opened());
  // A third one still comes in beside all of them.
  EXPECT_OK(Read());
}

TEST_F(ImageLock, WriterOfOursLetsQemuDoNothing) {
  const auto writer = Write();
  ASSERT_OK(writer);
  EXPECT_FALSE(Qemu(Image(), /*writes=*/false).opened());
  EXPECT_FALSE(Qemu(Image(), /*writes=*/true).opened());
}

// Why the ranges: with a lock of the whole file for reading, as it would be
// without them, we would read what QEMU writes.
TEST_F(ImageLock, LockOfTheWholeFileWouldNotSeeQemu) {
  const Qemu qemu(Image(), /*writes=*/true);
  ASSERT_TRUE(qemu.opened());
  const UniqueFd naive(open(Image().c_str(), O_RDONLY | O_CLOEXEC));
  struct flock whole = {};
  whole.l_type = F_RDLCK;
  EXPECT_EQ(fcntl(naive.get(), F_OFD_SETLK, &whole), 0);
  EXPECT_THAT(Read(), InUse());
}

}  // namespace
}  // namespace holdfast

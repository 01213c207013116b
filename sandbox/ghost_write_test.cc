// What a dead process may still write, and when it is certain that it does not:
// docs/decisions/0018-no-thread-no-write.md. Runs as real root.

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/pidfd_sys.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "gtest/gtest.h"
#include "sandbox/async_io_filter.h"
#include "sandbox/jail_sys.h"
#include "sandbox/testing/run_jailed_sys.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::TempDir;

constexpr size_t kBytes = size_t{64} << 20;
constexpr size_t kPage = 4096;
constexpr int kTries = 10;
constexpr int kTriesOfAControl = 300;

enum class Fence { kKill, kListener };

class GhostWrite : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    absl::StatusOr<UniqueFd> memory = CreateSealedMemfd("shared", kBytes);
    ASSERT_OK(memory);
    memory_ = *std::move(memory);
    auto mapping = MapShared(memory_, 0, kBytes, MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    mapping_ = *std::move(mapping);
    bytes_ = mapping_.span().data();
    const std::string path = directory_.path() + "/file";
    UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    const std::vector<char> ones(size_t{1} << 20, 1);
    for (size_t i = 0; i < kBytes / ones.size(); ++i) {
      ASSERT_EQ(write(file.get(), ones.data(), ones.size()),
                static_cast<ssize_t>(ones.size()));
    }
    ASSERT_EQ(fsync(file.get()), 0);
    file_.Reset(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  }

  JailSpec Writer(bool aio) {
    JailSpec spec = testing::SpecFor("sandbox/testing/ghost_writer");
    if (aio) spec.argv.emplace_back("aio");
    spec.confinement = Confinement::kFenced;
    spec.root = Root::kHost;
    spec.fds = {{memory_, 3}, {file_.valid() ? file_ : memory_, 4}};
    return spec;
  }

  // Whether anything is written by `spec` after its fence has fallen.
  bool WritesAfter(const JailSpec& spec, Fence fence, char expected) {
    std::memset(bytes_, 0, kBytes);
    const absl::StatusOr<JailedProcess> process = Spawn(spec);
    EXPECT_OK(process);
    if (!process.ok()) return false;
    AwaitWork(*process, expected);
    EXPECT_OK(SignalPidfd(process->pidfd, SIGKILL));
    if (fence == Fence::kListener) {
      pollfd fallen = {process->listener.get(), 0, 0};
      EXPECT_EQ(poll(&fallen, 1, 20'000), 1);
      EXPECT_NE(fallen.revents & POLLHUP, 0);
    }
    // As whoever comes next would.
    std::memset(bytes_, 0, kBytes);
    EXPECT_OK(testing::WaitFor(*process));
    return std::any_of(bytes_, bytes_ + kBytes,
                       [](uint8_t byte) { return byte != 0; });
  }
  bool EverWritesAfter(const JailSpec& spec, Fence fence, char expected,
                       int tries) {
    for (int i = 0; i < tries && !HasFailure(); ++i) {
      if (WritesAfter(spec, fence, expected)) return true;
    }
    return false;
  }

  TempDir directory_;
  UniqueFd memory_;
  UniqueFd file_;

 private:
  // It is in the midst of it.
  void AwaitWork(const JailedProcess& process, char expected) {
    const volatile uint8_t* const bytes = bytes_;
    while (bytes[0] == 0 || bytes[kBytes - kPage] == 0) {
      pollfd end = {process.pidfd.get(), POLLIN, 0};
      ASSERT_EQ(poll(&end, 1, 0), 0) << "it has ended by itself";
      usleep(100);
    }
    EXPECT_EQ(bytes[0], expected);
  }

  Mapping mapping_;
  uint8_t* bytes_ = nullptr;
};

TEST_F(GhostWrite, NobodyWritesWhoseThreadsAreGone) {
  EXPECT_FALSE(
      EverWritesAfter(Writer(/*aio=*/false), Fence::kListener, 't', kTries));
}

// The control: that a signal was sent is no fence.
TEST_F(GhostWrite, AFenceThatIsTooEarlyIsNoticed) {
  EXPECT_TRUE(EverWritesAfter(Writer(/*aio=*/false), Fence::kKill, 't',
                              kTriesOfAControl));
}

// The control: what the kernel does beside threads goes on without them.
TEST_F(GhostWrite, TheKernelWritesForAProcessWithoutThreads) {
  if (!file_.valid()) GTEST_SKIP() << "no O_DIRECT in the tests' directory";
  EXPECT_TRUE(EverWritesAfter(Writer(/*aio=*/true), Fence::kListener, 'a',
                              kTriesOfAControl));
}

TEST_F(GhostWrite, NotWhereThatIsRefused) {
  JailSpec spec = Writer(/*aio=*/true);
  spec.startup_filter = RefuseAsyncIo();
  EXPECT_FALSE(EverWritesAfter(spec, Fence::kListener, 't', kTries));
}

}  // namespace
}  // namespace holdfast::sandbox

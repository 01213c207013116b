#include "sandbox/tighten_sys.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/seccomp_sys.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

// Everything but getpriority, which no library calls behind our back.
std::vector<sock_filter> AllButGetpriority() {
  return {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}

absl::Span<const uint8_t> BytesOf(const std::vector<sock_filter>& program) {
  return {reinterpret_cast<const uint8_t*>(program.data()),
          program.size() * sizeof(sock_filter)};
}

void Forbidden() { syscall(SYS_getpriority, 0, 0); }

// Wait status of a process that runs `body`.
template <typename Body>
int StatusOfChild(const Body& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(body());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

bool DiedOfSigsys(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

// A second thread makes the forbidden call after `tighten` ran in the first.
template <typename TightenCall>
int StatusWhenAnotherThreadTries(const TightenCall& tighten) {
  return StatusOfChild([&] {
    std::atomic<bool> tightened{false};
    std::thread other([&] {
      while (!tightened) std::this_thread::yield();
      Forbidden();
    });
    if (!tighten()) _exit(1);
    tightened = true;
    other.join();
    return 0;
  });
}

TEST(Tighten, TheForbiddenCallKillsTheProcess) {
  EXPECT_TRUE(DiedOfSigsys(StatusOfChild([] {
    if (!ApplySteadyFilter(BytesOf(AllButGetpriority())).ok()) return 1;
    Forbidden();
    return 0;
  })));
}

TEST(Tighten, AllThreadsAreUnderTheFilter) {
  EXPECT_TRUE(DiedOfSigsys(StatusWhenAnotherThreadTries(
      [] { return ApplySteadyFilter(BytesOf(AllButGetpriority())).ok(); })));
}

// Negative control: a filter of the calling thread alone leaves the other free.
TEST(Tighten, WithoutSynchronisationTheOtherThreadIsFree) {
  EXPECT_EQ(StatusWhenAnotherThreadTries([] {
              prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              const std::vector<sock_filter> program = AllButGetpriority();
              return InstallFilter(program.data(), program.size(),
                                   Threads::kCaller) == 0;
            }),
            0);
}

TEST(Tighten, AThreadWithAFilterOfItsOwnIsAnError) {
  EXPECT_EQ(StatusOfChild([] {
              prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              std::atomic<int> phase{0};
              std::thread other([&] {
                const std::vector<sock_filter> program = AllButGetpriority();
                InstallFilter(program.data(), program.size(), Threads::kCaller);
                phase = 1;
                while (phase != 2) std::this_thread::yield();
              });
              while (phase != 1) std::this_thread::yield();
              const absl::Status status =
                  ApplySteadyFilter(BytesOf(AllButGetpriority()));
              phase = 2;
              other.join();
              Forbidden();  // Nothing is in force in this thread.
              return absl::IsNotFound(status) ? 0 : 1;
            }),
            0);
}

TEST(Tighten, BytesThatAreNoFilterAreRefused) {
  const std::vector<uint8_t> odd(9);
  const std::vector<uint8_t> long_one(8 * 4097);
  EXPECT_THAT(
      ApplySteadyFilter({}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no BPF")));
  EXPECT_THAT(
      ApplySteadyFilter(odd),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no BPF")));
  EXPECT_THAT(
      ApplySteadyFilter(long_one),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no BPF")));
  // The kernel's own check is the last word.
  EXPECT_EQ(StatusOfChild([] {
              const std::vector<uint8_t> garbage(16, 0xff);
              return absl::IsInvalidArgument(ApplySteadyFilter(garbage)) ? 0
                                                                         : 1;
            }),
            0);
}

TEST(Tighten, MakesTheProcessNonDumpable) {
  const absl::StatusOr<UniqueFd> filter = SealFilter(AllButGetpriority());
  ASSERT_OK(filter);
  EXPECT_EQ(StatusOfChild([&] {
              if (!Tighten(*filter).ok()) return 1;
              return prctl(PR_GET_DUMPABLE) == 0 ? 0 : 2;
            }),
            0);
  EXPECT_TRUE(DiedOfSigsys(StatusOfChild([&] {
    if (!Tighten(*filter).ok()) return 1;
    Forbidden();
    return 0;
  })));
}

TEST(FilterMemfd, CannotBeChangedByAnyHolder) {
  const absl::StatusOr<UniqueFd> filter = SealFilter(AllButGetpriority());
  ASSERT_OK(filter);
  EXPECT_EQ(pwrite(filter->get(), "x", 1, 0), -1);
  EXPECT_EQ(ftruncate(filter->get(), 8), -1);
  EXPECT_EQ(
      mmap(nullptr, 32, PROT_READ | PROT_WRITE, MAP_SHARED, filter->get(), 0),
      MAP_FAILED);
  const absl::StatusOr<std::vector<uint8_t>> bytes = ReadFilter(*filter);
  ASSERT_OK(bytes);
  EXPECT_EQ(absl::MakeConstSpan(*bytes), BytesOf(AllButGetpriority()));
}

TEST(FilterMemfd, OneThatCanStillBeWrittenIsRefused) {
  const absl::StatusOr<UniqueFd> writable = CreateSealedMemfd("filter", 32);
  ASSERT_OK(writable);
  EXPECT_THAT(ReadFilter(*writable),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("sealed against writing")));
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_THAT(Tighten(null), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("sealed")));
}

TEST(FilterMemfd, AnEmptyOneIsRefused) {
  const absl::StatusOr<UniqueFd> empty = SealFilter({});
  ASSERT_OK(empty);
  EXPECT_THAT(ReadFilter(*empty), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("0 bytes")));
}

}  // namespace
}  // namespace holdfast::sandbox

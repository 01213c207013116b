#include "sandbox/fence_probe_sys.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/pidfd_sys.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "sandbox/seccomp_sys.h"

namespace holdfast::sandbox {
namespace {

// Taking it down lasts milliseconds, so that one order cannot look like the
// other.
constexpr size_t kTouched = size_t{32} << 20;
constexpr size_t kPage = 4096;
constexpr int kTries = 5;
constexpr int kPatienceMs = 10000;

enum class First { kListener, kPidfd, kUnclear };

[[noreturn]] void RunVictim(BorrowedFd channel) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  void* const memory = mmap(nullptr, kTouched, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) _exit(1);
  madvise(memory, kTouched, MADV_NOHUGEPAGE);
  for (size_t at = 0; at < kTouched; at += kPage) {
    static_cast<volatile char*>(memory)[at] = 1;
  }
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const int listener = InstallListener();
  if (listener < 0) _exit(1);
  const uint8_t ready[] = {'r'};
  if (!SendWithFds(channel, ready, {listener}).ok()) _exit(1);
  close(listener);
  for (;;) pause();
}

void Reap(pid_t pid) {
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// The first of the two to speak after the kill.
absl::StatusOr<First> WatchDeath(pid_t pid, BorrowedFd pidfd,
                                 BorrowedFd channel) {
  uint8_t buffer[1];
  ReceivedFds fds;
  ASSIGN_OR_RETURN(const ReceivedMessage message,
                   ReceiveWithFds(channel, absl::MakeSpan(buffer), fds));
  if (message.size != 1 || fds.count != 1) {
    return absl::UnavailableError("the kernel gave no seccomp listener");
  }
  if (kill(pid, SIGKILL) != 0) return ErrnoStatus("kill");
  pollfd events[] = {{fds.fds[0].get(), POLLIN, 0}, {pidfd.get(), POLLIN, 0}};
  int ready;
  do {
    ready = poll(events, 2, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return ErrnoStatus("poll");
  const bool hung_up = (events[0].revents & POLLHUP) != 0;
  const bool dead = (events[1].revents & POLLIN) != 0;
  if (hung_up && !dead) return First::kListener;
  return dead && !hung_up ? First::kPidfd : First::kUnclear;
}

absl::StatusOr<First> TryOnce() {
  ASSIGN_OR_RETURN(auto pair, SeqpacketPair());
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus("fork");
  if (pid == 0) {
    pair.first.Reset();
    RunVictim(pair.second);
  }
  pair.second.Reset();
  const absl::StatusOr<UniqueFd> pidfd = OpenPidfd(pid);
  absl::StatusOr<First> first =
      pidfd.ok() ? WatchDeath(pid, *pidfd, pair.first) : pidfd.status();
  kill(pid, SIGKILL);
  Reap(pid);
  return first;
}

}  // namespace

absl::StatusOr<FenceProbe> ProbeFence() {
  for (int i = 1; i <= kTries; ++i) {
    ASSIGN_OR_RETURN(const First first, TryOnce());
    // Both at once: the observer slept through the difference.
    if (first == First::kUnclear) continue;
    if (first == First::kListener) {
      return FenceProbe{true,
                        "the seccomp listener hangs up before the address "
                        "space is taken down"};
    }
    return FenceProbe{false,
                      "this kernel tells the seccomp listener of a death only "
                      "after the pidfd (before Linux 6.11)"};
  }
  return FenceProbe{false, absl::StrCat("listener and pidfd spoke at once in ",
                                        kTries, " tries")};
}

}  // namespace holdfast::sandbox

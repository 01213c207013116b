#include "launcher/process_sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/pidfd_sys.h"
#include "base/scheduling_sys.h"
#include "base/text_file_sys.h"
#include "launcher/exit_cause.h"

namespace holdfast::launcher {
namespace {

// struct pidfd_info and its ioctl of linux/pidfd.h, which Debian 12 lacks.
struct PidfdInfo {
  uint64_t mask = 0;
  uint64_t cgroup_id = 0;
  uint32_t ids[11] = {};
  int32_t exit_code = 0;
};
static_assert(sizeof(PidfdInfo) == 64);  // PIDFD_INFO_SIZE_VER0
constexpr uint64_t kPidfdInfoExit = 1 << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

// Behind the living, but not in the idle class: the tear-down takes locks that
// they may need, and on a busy machine an idle thread hardly runs.
constexpr int kNiceOfTheDying = 10;

std::vector<int> NumbersIn(const std::string& directory) {
  std::vector<int> numbers;
  DIR* dir = opendir(directory.c_str());
  if (dir == nullptr) return numbers;
  while (const dirent* entry = readdir(dir)) {
    if (const int number = std::atoi(entry->d_name); number > 0) {
      numbers.push_back(number);
    }
  }
  closedir(dir);
  return numbers;
}

// Waits for the stop that PTRACE_INTERRUPT asked for; never takes an exit away
// from who wants its cause.
bool AwaitTraceStop(int pid) {
  for (int i = 0; i < 1000; ++i) {
    siginfo_t info = {};
    if (waitid(P_PID, static_cast<id_t>(pid), &info,
               WSTOPPED | WNOHANG | __WALL) != 0) {
      return false;
    }
    if (info.si_pid == pid) return true;
    usleep(100);
  }
  return false;
}

}  // namespace

bool HasEnded(BorrowedFd pidfd) {
  pollfd poll_one = {pidfd.get(), POLLIN, 0};
  return poll(&poll_one, 1, 0) > 0;
}

bool IsEnding(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string stat;
  std::getline(file, stat);
  // "pid (name) state ppid pgrp session tty tpgid flags ...": the name may
  // hold anything.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return true;
  std::istringstream fields(stat.substr(name_end + 1));
  char state = 0;
  int64_t skipped = 0;
  uint64_t flags = 0;
  fields >> state;
  for (int i = 0; i < 5; ++i) fields >> skipped;
  fields >> flags;
  constexpr uint64_t kExiting = 0x4;  // PF_EXITING of linux/sched.h.
  return (flags & kExiting) != 0;
}

absl::Status SendSignal(BorrowedFd pidfd, int signal) {
  const absl::Status status = SignalPidfd(pidfd, signal);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

std::optional<std::string> TakeExitCause(BorrowedFd pidfd) {
  siginfo_t info = {};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info,
             WEXITED | WNOHANG) == 0) {
    if (info.si_pid == 0) return std::nullopt;
    const int status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8
                       : info.si_code == CLD_DUMPED ? info.si_status | 0x80
                                                    : info.si_status;
    return ExitCause(status);
  }
  PidfdInfo kept;
  kept.mask = kPidfdInfoExit;
  if (ioctl(pidfd.get(), kPidfdGetInfo, &kept) != 0 ||
      (kept.mask & kPidfdInfoExit) == 0) {
    return std::nullopt;
  }
  return ExitCause(kept.exit_code);
}

std::vector<int> StopSignals() {
  std::vector<int> signals;
  for (int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    struct sigaction action = {};
    if (sigaction(signal, nullptr, &action) == 0 &&
        action.sa_handler != SIG_IGN) {
      signals.push_back(signal);
    }
  }
  return signals;
}

void Demote(int pid) {
  for (int thread : NumbersIn(absl::StrCat("/proc/", pid, "/task"))) {
    SetPrompt(thread, kNiceOfTheDying).IgnoreError();
  }
}

absl::Status InjectSegmentationFault(int pid) {
#if defined(__x86_64__)
  if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) {
    return ErrnoStatus(absl::StrCat("ptrace ", pid));
  }
  user_regs_struct registers = {};
  if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0 ||
      !AwaitTraceStop(pid) ||
      ptrace(PTRACE_GETREGS, pid, nullptr, &registers) != 0) {
    ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
    return absl::UnavailableError(
        absl::StrCat("pid ", pid, " could not be stopped"));
  }
  registers.rip = 0;
  registers.orig_rax = ~0ull;  // No system call to restart.
  ptrace(PTRACE_SETREGS, pid, nullptr, &registers);
  if (ptrace(PTRACE_DETACH, pid, nullptr, nullptr) != 0) {
    return ErrnoStatus(absl::StrCat("ptrace detach ", pid));
  }
  return absl::OkStatus();
#else
  return absl::UnimplementedError(absl::StrCat("no fault injection: ", pid));
#endif
}

uint64_t StartTimeOf(int pid) {
  const std::string stat = ReadTextFile(absl::StrCat("/proc/", pid, "/stat"));
  // The second field is the program's name, in which anything may stand; the
  // start is the 22nd.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  uint64_t start = 0;
  return absl::SimpleAtoi(field, &start) ? start : 0;
}

std::vector<int> ChildrenOf(int pid) {
  std::vector<int> children;
  const std::string tasks = absl::StrCat("/proc/", pid, "/task");
  for (int thread : NumbersIn(tasks)) {
    std::ifstream file(absl::StrCat(tasks, "/", thread, "/children"));
    for (int child; file >> child;) children.push_back(child);
  }
  return children;
}

std::vector<int> DescendantsOf(int pid) {
  std::vector<int> all = ChildrenOf(pid);
  // Grows while it is walked.
  for (size_t i = 0; i < all.size(); ++i) {
    for (int child : ChildrenOf(all[i])) all.push_back(child);
  }
  return all;
}

Uptime Now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::Seconds(now.tv_sec) + absl::Nanoseconds(now.tv_nsec);
}

int64_t UnixNs() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

}  // namespace holdfast::launcher

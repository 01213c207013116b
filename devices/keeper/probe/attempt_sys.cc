#include "devices/keeper/probe/attempt_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errno_status.h"
#include "base/pidfd_sys.h"
#include "base/status_macros.h"

namespace holdfast::keeper {
namespace {

constexpr int kExecFailed = 127;

// In the child: nothing but system calls.
[[noreturn]] void Become(const char* program, char* const* argv, int input,
                         int output, int fd, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExecFailed);
  // In an order in which none is overwritten before it is copied.
  const int passed = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  if (passed >= 0) dup2(passed, Attempt::kFd);
  execv(program, argv);
  _exit(kExecFailed);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Attempt>> Attempt::Start(
    const std::string& program, absl::Span<const std::string> arguments,
    BorrowedFd fd) {
  if (access(program.c_str(), X_OK) != 0) {
    return ErrnoStatus(absl::StrCat("execute ", program));
  }
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0) return ErrnoStatus("pipe2");
  std::unique_ptr<Attempt> attempt(new Attempt);
  attempt->output_.Reset(pipe[0]);
  const UniqueFd output(pipe[1]);
  const UniqueFd input(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const pid_t parent = getpid();
  attempt->pid_ = fork();
  if (attempt->pid_ < 0) return ErrnoStatus("fork");
  if (attempt->pid_ == 0) {
    Become(program.c_str(), argv.data(), input.get(), output.get(), fd.get(),
           parent);
  }
  // Before it can be asked to end: of both sides the first one counts.
  setpgid(attempt->pid_, attempt->pid_);
  ASSIGN_OR_RETURN(attempt->pidfd_, OpenPidfd(attempt->pid_));
  return attempt;
}

Attempt::~Attempt() {
  if (pid_ <= 0) return;
  // The group, while its leader's number is still its own.
  kill(-pid_, SIGKILL);
  if (!end_.has_value()) waitpid(pid_, nullptr, 0);
}

void Attempt::Send(int signal) {
  if (!end_.has_value()) SignalPidfd(pidfd_, signal).IgnoreError();
}

absl::optional<std::string> Attempt::AwaitEnd(int timeout_ms) {
  if (end_.has_value()) return end_;
  pollfd ended = {pidfd_.get(), POLLIN, 0};
  if (poll(&ended, 1, timeout_ms) <= 0) return absl::nullopt;
  // Its children first: once it is reaped the group's number may be another's.
  kill(-pid_, SIGKILL);
  int status = 0;
  waitpid(pid_, &status, 0);
  end_ = WIFSIGNALED(status) ? absl::StrCat("signal ", WTERMSIG(status))
                             : absl::StrCat("status ", WEXITSTATUS(status));
  return end_;
}

const std::string& Attempt::Output() {
  char bytes[4096];
  while (true) {
    const ssize_t size = read(output_.get(), bytes, sizeof(bytes));
    if (size <= 0) return text_;
    // The rest is read, too, or the program would stop at a full pipe.
    text_.append(bytes, std::min<size_t>(static_cast<size_t>(size),
                                         kMaxOutput - text_.size()));
  }
}

std::string Attempt::LastLine() {
  const std::vector<absl::string_view> lines =
      absl::StrSplit(Output(), '\n', absl::SkipWhitespace());
  return lines.empty() ? ""
                       : std::string(absl::StripAsciiWhitespace(lines.back()));
}

std::string ExecutedFileWith(pid_t pid, absl::string_view text) {
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  std::set<std::string> seen;
  for (std::string line; std::getline(maps, line);) {
    const size_t at = line.find('/');
    if (at == std::string::npos || line.find(" r-xp ") == std::string::npos) {
      continue;
    }
    const std::string path = line.substr(at);
    if (!seen.insert(path).second) continue;
    const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info {};
    if (!file.valid() || fstat(file.get(), &info) != 0 || info.st_size == 0) {
      continue;
    }
    const auto size = static_cast<size_t>(info.st_size);
    void* const bytes =
        mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (bytes == MAP_FAILED) continue;
    const absl::string_view whole(static_cast<const char*>(bytes), size);
    const bool found = std::search(whole.begin(), whole.end(), text.begin(),
                                   text.end()) != whole.end();
    munmap(bytes, size);
    if (found) return path;
  }
  return "";
}

}  // namespace holdfast::keeper

#include "devices/testing/device_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errno_status.h"
#include "base/text_file_sys.h"

namespace holdfast::testing {
namespace {

// The new process's half: only async-signal-safe calls.
[[noreturn]] void Execute(const std::string& program, char* const* argv,
                          int out, int err, int inherited) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(out, 1);
  dup2(err, 2);
  if (inherited == DeviceProgram::kInheritedFd) {
    fcntl(inherited, F_SETFD, 0);
  } else if (inherited >= 0) {
    dup2(inherited, DeviceProgram::kInheritedFd);
  }
  execv(program.c_str(), argv);
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceProgram>> DeviceProgram::Start(
    const std::string& program, const std::vector<std::string>& arguments,
    BorrowedFd inherited) {
  std::unique_ptr<DeviceProgram> device(new DeviceProgram);
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC;
  const UniqueFd out(open(device->dir_.File("out").c_str(), flags, 0600));
  const UniqueFd err(open(device->dir_.File("err").c_str(), flags, 0600));
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  device->pid_ = fork();
  if (device->pid_ < 0) return ErrnoStatus("fork");
  if (device->pid_ == 0) {
    Execute(program, argv.data(), out.get(), err.get(), inherited.get());
  }
  return device;
}

DeviceProgram::~DeviceProgram() {
  if (pid_ < 0 || ended_) return;
  kill(pid_, SIGKILL);
  Collect(0);
}

bool DeviceProgram::Collect(int options) {
  if (!ended_) ended_ = waitpid(pid_, &wait_status_, options) == pid_;
  return ended_;
}

bool DeviceProgram::Alive() { return !Collect(WNOHANG); }

absl::StatusOr<DeviceProgram::Ending> DeviceProgram::Wait(
    absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (Alive() && absl::Now() < deadline)
    absl::SleepFor(absl::Milliseconds(1));
  if (!ended_) {
    kill(pid_, SIGKILL);
    Collect(0);
    return absl::DeadlineExceededError(absl::StrCat(
        "it did not end; it had said: ", ReadTextFile(dir_.File("err"))));
  }
  Ending ending;
  if (WIFEXITED(wait_status_)) ending.exit_code = WEXITSTATUS(wait_status_);
  if (WIFSIGNALED(wait_status_)) ending.signal = WTERMSIG(wait_status_);
  ending.out = ReadTextFile(dir_.File("out"));
  ending.err = ReadTextFile(dir_.File("err"));
  return ending;
}

}  // namespace holdfast::testing

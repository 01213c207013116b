#include "launcher/parent_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/pidfd_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/cgroup_plan.h"
#include "launcher/cgroup_sys.h"
#include "launcher/core_sys.h"
#include "launcher/custody_sys.h"
#include "launcher/exit_cause.h"
#include "launcher/process_sys.h"
#include "launcher/restart_policy.h"
#include "sandbox/fence_probe_sys.h"

namespace holdfast::launcher {
namespace {

// Exit statuses of the core's process.
constexpr int kStoppedStatus = 0;
constexpr int kFailedStatus = 1;
constexpr int kAgainStatus = 3;

std::string LockPath(const Options& options) {
  return options.run_dir + "/holdfastd.lock";
}

// Holds the run directory for this holdfastd: parent and core share the lock,
// so it is free only when both are gone.
absl::StatusOr<UniqueFd> LockRunDirectory(const Options& options) {
  if (mkdir(options.run_dir.c_str(), 0755) == 0) {
    // Whatever the umask is: VMMs of other users come through here to sockets
    // that are theirs. What is not theirs has a mode of its own.
    chmod(options.run_dir.c_str(), 0755);
  } else if (errno != EEXIST) {
    return ErrnoStatus("mkdir " + options.run_dir);
  }
  const std::string path = LockPath(options);
  while (true) {
    UniqueFd fd(
        open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return ErrnoStatus("open " + path);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
      return absl::AlreadyExistsError(
          absl::StrCat("another holdfastd uses ", options.run_dir,
                       ": stop it, or use another --run-dir"));
    }
    struct stat locked = {}, there = {};
    if (fstat(fd.get(), &locked) == 0 && stat(path.c_str(), &there) == 0 &&
        locked.st_ino == there.st_ino) {
      return fd;
    }
    // The one before removed it while we waited for nothing: once more.
  }
}

absl::StatusOr<UniqueFd> WatchSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (int signal : StopSignals()) sigaddset(&set, signal);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus("signalfd");
  return fd;
}

class Parent {
 public:
  Parent(const Options& options, const CoreStart& start, Custody custody,
         int cores_before)
      : options_(options),
        custody_(std::move(custody)),
        cores_before_(cores_before) {
    start_.listener_fence = start.listener_fence;
    start_.cgroups = start.cgroups;
    start_.left_behind = start.left_behind;
    // The core comes back at once, then ever slower, but always.
    RestartLimits limits;
    limits.budget = 0;
    policy_ = RestartPolicy(limits, static_cast<uint64_t>(UnixNs()));
  }

  // In the parent: the process's exit status. In the core's process after its
  // parent's death: nothing, and `custody` is set.
  absl::StatusOr<int> Run(Custody& custody) {
    ASSIGN_OR_RETURN(signals_, WatchSignals());
    prctl(PR_SET_NAME, "holdfastd");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
      return ErrnoStatus("prctl PR_SET_CHILD_SUBREAPER");
    }
    while (true) {
      RETURN_IF_ERROR(StartCore());
      if (core_ == 0) return RunCore(custody);
      const int status = WatchCore();
      const bool ended =
          WIFEXITED(status) && (WEXITSTATUS(status) == kStoppedStatus ||
                                WEXITSTATUS(status) == kFailedStatus);
      if (ended) {
        EndOrphans();
        return WEXITSTATUS(status);
      }
      LogWarning("core pid ", last_core_, " ended: ", ExitCause(status));
      Pause(policy_.OnLoss(Now()).delay);
      ++cores_before_;
      start_.left_behind.clear();
    }
  }

 private:
  absl::Status StartCore() {
    ASSIGN_OR_RETURN(auto channel, SeqpacketPair());
    ASSIGN_OR_RETURN(UniqueFd self, OpenPidfd(getpid()));
    const int flags = fcntl(channel.first.get(), F_GETFL);
    fcntl(channel.first.get(), F_SETFL, flags | O_NONBLOCK);
    core_ = fork();
    if (core_ < 0) return ErrnoStatus("fork");
    if (core_ != 0) {
      last_core_ = core_;
      core_channel_ = std::move(channel.first);
      return absl::OkStatus();
    }
    core_channel_.Reset();
    signals_.Reset();
    start_.parent_channel = std::move(channel.second);
    start_.parent_pidfd = std::move(self);
    return absl::OkStatus();
  }

  // In the forked process.
  absl::StatusOr<int> RunCore(Custody& custody) {
    start_.custody = std::move(custody_);
    start_.cores_before = cores_before_;
    start_.stop = stop_;
    CoreEnd end;
    {
      Core core(options_, std::move(start_));
      end = core.Run();
      custody = core.TakeCustody();
    }
    switch (end) {
      case CoreEnd::kStopped:
        _exit(kStoppedStatus);
      case CoreEnd::kFailed:
        _exit(kFailedStatus);
      case CoreEnd::kAgain:
        _exit(kAgainStatus);
      case CoreEnd::kParentDied:
        break;
    }
    LogWarning("the parent process died: pid ", getpid(), " takes its role");
    return absl::CancelledError("the parent died");
  }

  // Until the core ends; its wait status.
  int WatchCore() {
    while (true) {
      pollfd fds[] = {{signals_.get(), POLLIN, 0},
                      {core_channel_.get(), POLLIN, 0}};
      poll(fds, 2, -1);
      TakeSignals();
      if (const std::optional<int> status = Reap(); status.has_value()) {
        // What it sent last is still there.
        while (ReceiveCustody(core_channel_, custody_).ok()) {
        }
        return *status;
      }
      // Readable for ever once the core has closed its end.
      if (fds[1].revents != 0 &&
          absl::IsCancelled(ReceiveCustody(core_channel_, custody_))) {
        usleep(1000);
      }
    }
  }

  void TakeSignals() {
    signalfd_siginfo info;
    while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGCHLD) continue;
      stop_ = true;
      if (core_ > 0) kill(core_, SIGTERM);
    }
  }

  // Reaps everybody; the core's status if it was among them.
  std::optional<int> Reap() {
    std::optional<int> core_status;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != core_) {
        Remember({pid, status});
        continue;
      }
      core_status = status;
      core_ = -1;
    }
    return core_status;
  }

  // Children of cores that died end as ours. The core of the time is told, and
  // the next one too, which may look for what ended before it came.
  void Remember(const ExitNotice& exit) {
    constexpr size_t kMost = 128;  // Two of each instance, and some.
    if (core_channel_.valid()) SendExit(core_channel_, exit);
    start_.exits.push_back(exit);
    if (start_.exits.size() > kMost) start_.exits.pop_front();
  }

  void Pause(absl::Duration delay) {
    const Uptime until = Now() + delay;
    while (Now() < until) {
      pollfd fd = {signals_.get(), POLLIN, 0};
      poll(&fd, 1,
           static_cast<int>(absl::ToInt64Milliseconds(until - Now())) + 1);
      TakeSignals();
      Reap();
    }
  }

  // Nobody is left when the core has stopped in order; after a failure there
  // may be.
  void EndOrphans() {
    for (int pid : ChildrenOf(getpid())) kill(pid, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0) {
    }
  }

  const Options& options_;
  Custody custody_;
  int cores_before_;
  bool stop_ = false;
  RestartPolicy policy_;
  UniqueFd signals_;
  UniqueFd core_channel_;
  CoreStart start_;
  pid_t core_ = -1;
  pid_t last_core_ = -1;
};

}  // namespace

int RunParent(const Options& options) {
  absl::StatusOr<UniqueFd> lock = LockRunDirectory(options);
  if (!lock.ok()) {
    LogError(lock.status().message());
    return kFailedStatus;
  }
  // Once, and here: it takes time that a core's restart must not.
  const absl::StatusOr<sandbox::FenceProbe> fence = sandbox::ProbeFence();
  if (!fence.ok()) {
    LogError(fence.status().message());
    return kFailedStatus;
  }
  LogInfo("death fence: ", fence->explanation);
  CoreStart start;
  start.listener_fence = fence->listener_first;
  // While the lock is ours nobody else uses this name.
  start.cgroups = CgroupTree::Create(CgroupNameOf(options.run_dir));
  start.left_behind = start.cgroups.EndLeftBehind();
  Custody custody;
  for (int cores_before = 0;; cores_before = 1) {
    Parent parent(options, start, std::move(custody), cores_before);
    custody = Custody();
    start.left_behind.clear();
    const absl::StatusOr<int> status = parent.Run(custody);
    if (!status.ok() && absl::IsCancelled(status.status())) continue;
    if (!status.ok()) LogError(status.status().message());
    start.cgroups.Remove();
    unlink(LockPath(options).c_str());
    return status.value_or(kFailedStatus);
  }
}

}  // namespace holdfast::launcher

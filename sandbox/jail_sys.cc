#include "sandbox/jail_sys.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/scheduling_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "sandbox/jail_child_sys.h"
#include "sandbox/namespaces_sys.h"
#include "sandbox/seccomp_sys.h"
#include "sandbox/selinux_sys.h"

namespace holdfast::sandbox {
namespace {

// Numbers beyond this would need a table that no device has.
constexpr int kHighestFd = 1023;

absl::Status Check(const JailSpec& spec) {
  if (spec.program.empty() || spec.argv.empty()) {
    return absl::InvalidArgumentError("jail: program and argv[0] are needed");
  }
  std::vector<int> numbers;
  for (const InheritedFd& fd : spec.fds) {
    if (!fd.source.valid() || fd.number < 0 || fd.number > kHighestFd) {
      return absl::InvalidArgumentError(
          absl::StrCat("jail: descriptor ", fd.source.get(),
                       " cannot be given as number ", fd.number));
    }
    numbers.push_back(fd.number);
  }
  std::sort(numbers.begin(), numbers.end());
  const auto twice = std::adjacent_find(numbers.begin(), numbers.end());
  if (twice != numbers.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("jail: descriptor number ", *twice, " is given twice"));
  }
  if (spec.startup_filter.size() > kMaxFilterInstructions) {
    return absl::InvalidArgumentError(
        "jail: the startup filter is longer than the kernel takes");
  }
  if (spec.confinement == Confinement::kFull && geteuid() == 0 &&
      (spec.uid == 0 || spec.gid == 0)) {
    return absl::InvalidArgumentError(
        "jail: an instance needs a uid and a gid of its own, not 0");
  }
  return absl::OkStatus();
}

// The null-terminated array that execveat takes; borrows from `strings`.
std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& s : strings) {
    pointers.push_back(const_cast<char*>(s.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// Blocks all signals while it lives: no handler of the launcher may run in the
// child, which starts with this mask.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
};

// A word that a forked child shares; not valid if there is no memory.
class SharedWord {
 public:
  SharedWord()
      : memory_(mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {}
  SharedWord(const SharedWord&) = delete;
  SharedWord& operator=(const SharedWord&) = delete;
  ~SharedWord() {
    if (valid()) munmap(memory_, sizeof(int));
  }

  bool valid() const { return memory_ != MAP_FAILED; }
  int* get() const { return static_cast<int*>(memory_); }
  int Load() const { return __atomic_load_n(get(), __ATOMIC_ACQUIRE); }

 private:
  void* memory_;
};

// What to do about an execveat that failed.
const char* ExecRemedy(int error) {
  switch (error) {
    case EACCES:
      return ": it must be executable for other users: chmod o+rx";
    case ENOENT:
      return ": its loader or interpreter is not in the child's root: link it "
             "statically";
    case ENOEXEC:
      return ": it is no program of this machine";
    default:
      return "";
  }
}

class Spawner {
 public:
  explicit Spawner(const JailSpec& spec)
      : spec_(spec), argv_(Pointers(spec.argv)), env_(Pointers(spec.env)) {}

  absl::StatusOr<JailedProcess> Run() {
    RETURN_IF_ERROR(Check(spec_));
    if (!exec_error_.valid()) return ErrnoStatus("jail: mmap");
    RETURN_IF_ERROR(OpenProgram());
    PlanIdentity();
    PlanLimits();
    PlanRest();
    RETURN_IF_ERROR(Start());
    JoinCgroups();
    absl::Status status = Follow();
    if (status.ok() && spec_.refuse_degraded && !process_.degraded.empty()) {
      status = absl::FailedPreconditionError(process_.degraded.front());
    }
    if (!status.ok()) {
      Reap();
      return status;
    }
    return std::move(process_);
  }

 private:
  void Degraded(absl::string_view what, absl::string_view why) {
    process_.degraded.push_back(absl::StrCat("degraded: ", what, ": ", why));
  }

  absl::Status OpenProgram() {
    program_.Reset(open(spec_.program.c_str(), O_PATH | O_CLOEXEC));
    if (!program_.valid()) {
      return ErrnoStatus(absl::StrCat("jail: open ", spec_.program));
    }
    return absl::OkStatus();
  }

  void PlanIdentity() {
    if (spec_.confinement != Confinement::kFull) {
      Degraded("sandbox", "switched off for this process");
      if (spec_.confinement == Confinement::kFenced) {
        namespaces_ = CLONE_NEWPID;
      }
      return;
    }
    namespaces_ = AllNamespaces();
    if (geteuid() == 0) {
      plan_.uid = spec_.uid;
      plan_.gid = spec_.gid;
    } else {
      UseOwnIds("the launcher is not root");
    }
  }

  // The child keeps the launcher's ids; a user namespace still gives it the
  // right to build the rest.
  void UseOwnIds(absl::string_view why) {
    own_ids_ = false;
    plan_.uid = geteuid();
    plan_.gid = getegid();
    Degraded("user of its own", why);
  }

  void PlanLimits() {
    const ResourceLimits& l = spec_.limits;
    limits_ = {{RLIMIT_CORE, "core size", 0},
               {RLIMIT_NOFILE, "open files", l.open_files},
               {RLIMIT_FSIZE, "file size", l.file_size},
               {RLIMIT_MEMLOCK, "locked memory", l.locked_memory}};
    if (l.realtime_us != 0) {
      limits_.push_back({RLIMIT_RTTIME, "real-time run", l.realtime_us});
    }
    if (spec_.confinement == Confinement::kFull) {
      // Last, so that PlanConfinement can leave it out: it counts all of a
      // user's threads, so it is for users of their own.
      limits_.push_back({RLIMIT_NPROC, "threads", l.threads});
    }
    for (Limit& limit : limits_) {
      const rlim_t wanted = limit.value;
      if (CutToHardLimit(limit)) {
        Degraded("resource limits",
                 absl::StrCat(limit.name, " ", wanted,
                              " is above the launcher's own ", limit.value));
      }
    }
  }

  void PlanRest() {
    for (const InheritedFd& fd : spec_.fds) {
      moves_.push_back({fd.source.get(), fd.number});
      plan_.moves_end = std::max(plan_.moves_end, fd.number + 1);
    }
    plan_.moves = moves_.data();
    plan_.move_count = moves_.size();
    plan_.argv = argv_.data();
    plan_.env = env_.data();
    plan_.limits = limits_.data();
    plan_.limit_count = limits_.size();
    plan_.startup_filter = spec_.startup_filter.data();
    plan_.startup_filter_size = spec_.startup_filter.size();
    plan_.exec_error = exec_error_.get();
    plan_.listener = spec_.want_listener;
    plan_.death_signal = spec_.die_with_parent ? SIGKILL : 0;
    if (spec_.startup_filter.empty()) Degraded("startup filter", "none given");
    if (!spec_.selinux_context.empty()) {
      if (SelinuxEnabled()) {
        plan_.selinux_context = spec_.selinux_context.c_str();
      } else {
        Degraded("selinux", "not enabled");
      }
    }
    PlanConfinement();
  }

  void PlanConfinement() {
    if (spec_.confinement != Confinement::kFull) return;
    const bool isolated = namespaces_ != 0;
    plan_.lock_privileges = isolated || own_ids_;
    plan_.become_user = isolated || own_ids_;
    plan_.keep_groups = !own_ids_;
    plan_.limit_count = limits_.size() - (own_ids_ ? 0 : 1);
    plan_.own_host_name = isolated;
    plan_.drop_capabilities = true;
    plan_.write_xor_execute = true;
    plan_.empty_root = isolated && spec_.root == Root::kEmpty;
    if (spec_.root == Root::kHost) Degraded("root", "the host's, as asked for");
  }

  absl::Status Start() {
    RETURN_IF_ERROR(Clone());
    if ((namespaces_ & CLONE_NEWUSER) == 0) return absl::OkStatus();
    const absl::Status mapped = MapIds();
    if (mapped.ok() || !own_ids_ || !absl::IsPermissionDenied(mapped)) {
      return mapped;
    }
    // Root of a user namespace that has no such id.
    Reap();
    UseOwnIds(mapped.message());
    PlanConfinement();
    RETURN_IF_ERROR(Clone());
    return MapIds();
  }

  // From outside: the right to it is one of the launcher's user namespace.
  void SetScheduling() {
    if (spec_.realtime_priority == 0) {
      // Nothing is missing without it but a millisecond now and then.
      SetPrompt(process_.pid, getpriority(PRIO_PROCESS, 0)).IgnoreError();
      return;
    }
    const absl::Status status =
        RaiseToRealtime(process_.pid, spec_.realtime_priority);
    if (!status.ok()) Degraded("real-time priority", status.message());
  }

  absl::Status MapIds() {
    const absl::Status status =
        WriteIdMaps(process_.pid, {plan_.uid, own_ids_ ? spec_.uid : geteuid()},
                    {plan_.gid, own_ids_ ? spec_.gid : getegid()}, !own_ids_);
    return status;
  }

  absl::Status Clone() {
    absl::Status status = TryClone();
    if (status.ok() || namespaces_ == 0) return status;
    Degraded("namespaces", status.message());
    namespaces_ = 0;
    PlanConfinement();
    return TryClone();
  }

  absl::Status TryClone() {
    ASSIGN_OR_RETURN(auto pair, SeqpacketPair());
    channel_ = std::move(pair.first);
    const UniqueFd child_end = std::move(pair.second);
    plan_.channel = child_end.get();
    plan_.launcher_end = channel_.get();
    plan_.program = program_.get();
    int pidfd = -1;
    clone_args args = {};
    args.flags = CLONE_PIDFD | namespaces_;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    args.exit_signal = SIGCHLD;
    const SignalsBlocked blocked;
    const auto pid =
        static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
    if (pid == 0) RunChild(plan_);
    if (pid < 0) return ErrnoStatus("clone3");
    process_.pid = pid;
    process_.pidfd.Reset(pidfd);
    return absl::OkStatus();
  }

  void JoinCgroups() {
    const std::string pid = absl::StrCat(process_.pid);
    for (BorrowedFd group : spec_.cgroups) {
      if (write(group.get(), pid.data(), pid.size()) < 0) {
        Degraded("cgroups", std::strerror(errno));
      }
    }
  }

  // Lets the child go and listens to it until it executes the program.
  absl::Status Follow() {
    SetScheduling();
    const uint8_t go[] = {'g'};
    RETURN_IF_ERROR(SendWithFds(channel_, go, {}));
    bool executing = false;
    for (;;) {
      StepReport report;
      ReceivedFds fds;
      ASSIGN_OR_RETURN(
          const ReceivedMessage message,
          ReceiveWithFds(channel_,
                         absl::MakeSpan(reinterpret_cast<uint8_t*>(&report),
                                        sizeof(report)),
                         fds));
      if (message.size == 0) break;
      if (report.fatal != 0 && report.step == Step::kExec) break;
      if (report.fatal != 0) {
        return ErrnoStatus(
            report.error,
            absl::StrCat("jail: ", spec_.program, ": ", StepName(report.step)));
      }
      if (report.error != 0) {
        Degraded(StepName(report.step), std::strerror(report.error));
      } else if (report.step == Step::kExec) {
        executing = true;
      } else if (report.step == Step::kListener && fds.count == 1) {
        process_.listener = std::move(fds.fds[0]);
      }
    }
    if (const int error = exec_error_.Load(); error != 0) {
      return absl::Status(absl::ErrnoToStatusCode(error),
                          absl::StrCat("jail: ", spec_.program,
                                       ": execveat: ", std::strerror(error),
                                       ExecRemedy(error)));
    }
    if (executing) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("jail: ", spec_.program, " died before execveat"));
  }

  void Reap() {
    if (!process_.pidfd.valid()) return;
    syscall(SYS_pidfd_send_signal, process_.pidfd.get(), SIGKILL, nullptr, 0);
    siginfo_t info;
    while (waitid(static_cast<idtype_t>(P_PIDFD), process_.pidfd.get(), &info,
                  WEXITED) < 0 &&
           errno == EINTR) {
    }
    process_.pidfd.Reset();
  }

  const JailSpec& spec_;
  ChildPlan plan_;
  std::vector<char*> argv_;
  std::vector<char*> env_;
  std::vector<FdMove> moves_;
  std::vector<Limit> limits_;
  UniqueFd program_;
  UniqueFd channel_;
  SharedWord exec_error_;
  uint64_t namespaces_ = 0;
  bool own_ids_ = true;
  JailedProcess process_;
};

}  // namespace

absl::StatusOr<JailedProcess> Spawn(const JailSpec& spec) {
  return Spawner(spec).Run();
}

}  // namespace holdfast::sandbox

#include "sandbox/jail_child_sys.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "sandbox/capabilities_sys.h"
#include "sandbox/namespaces_sys.h"
#include "sandbox/seccomp_sys.h"
#include "sandbox/selinux_sys.h"

// Newer than Debian 12's headers.
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_MDWE_REFUSE_EXEC_GAIN
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

namespace holdfast::sandbox {
namespace {

constexpr char kHostName[] = "device";
constexpr int kExitBeforeExec = 125;

void Report(const ChildPlan& plan, const StepReport& report, int fd = -1) {
  iovec bytes = {const_cast<StepReport*>(&report), sizeof(report)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  sendmsg(plan.channel, &message, MSG_NOSIGNAL);
}

// For steps without which nothing may run.
void Must(const ChildPlan& plan, Step step, int error) {
  if (error == 0) return;
  Report(plan, StepReport{step, error, 1});
  _exit(kExitBeforeExec);
}

// For steps that some kernels do not know.
void Should(const ChildPlan& plan, Step step, int error) {
  if (error != 0) Report(plan, StepReport{step, error, 0});
}

int StartSession() {
  // An ignored signal would stay ignored in the program. Numbers that the C
  // library keeps for itself are refused, and hold no setting of ours.
  for (int signal = 1; signal < NSIG; ++signal) {
    std::signal(signal, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, nullptr) != 0) return errno;
  // No controlling terminal, so nothing to push input into.
  return setsid() < 0 ? errno : 0;
}

int JoinKeyring() {
  return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) < 0 ? errno
                                                                       : 0;
}

void AwaitGo(const ChildPlan& plan) {
  // With our copy of it open, the stream would never end.
  close(plan.launcher_end);
  char go;
  // End of stream: the launcher gave up or died.
  if (read(plan.channel, &go, 1) != 1) _exit(kExitBeforeExec);
}

void EnterNamespaces(ChildPlan& plan) {
  if (plan.lock_privileges) {
    Must(plan, Step::kPrivileges, LockPrivileges());
  }
  if (plan.become_user) {
    Must(plan, Step::kUser, BecomeUser(plan.uid, plan.gid, plan.keep_groups));
  }
  if (plan.death_signal != 0) {  // A change of uid clears it.
    prctl(PR_SET_PDEATHSIG, plan.death_signal);
  }
  if (plan.empty_root) Must(plan, Step::kRoot, EnterEmptyRoot());
  if (plan.own_host_name) {
    Must(plan, Step::kHostName,
         sethostname(kHostName, sizeof(kHostName) - 1) == 0 ? 0 : errno);
  }
}

void LimitProcess(const ChildPlan& plan) {
  Should(plan, Step::kKeyring, JoinKeyring());
  Must(plan, Step::kLimits, ApplyLimits(plan.limits, plan.limit_count));
  if (plan.drop_capabilities) {
    Must(plan, Step::kCapabilities, DropCapabilities());
  }
  Must(plan, Step::kNoNewPrivileges,
       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno);
  if (plan.write_xor_execute) {
    Should(
        plan, Step::kWriteXorExecute,
        prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0 ? 0 : errno);
  }
}

void HandOverListener(const ChildPlan& plan) {
  if (!plan.listener) return;
  const int listener = InstallListener();
  if (listener < 0) {
    Should(plan, Step::kListener, errno);
    return;
  }
  Report(plan, StepReport{Step::kListener, 0, 0}, listener);
  close(listener);
}

}  // namespace

const char* StepName(Step step) {
  switch (step) {
    case Step::kSession:
      return "new session";
    case Step::kSelinux:
      return "SELinux exec context";
    case Step::kDescriptors:
      return "descriptor table";
    case Step::kPrivileges:
      return "securebits and bounding set";
    case Step::kUser:
      return "user and group";
    case Step::kRoot:
      return "empty root directory";
    case Step::kHostName:
      return "host name";
    case Step::kKeyring:
      return "session keyring";
    case Step::kLimits:
      return "resource limits";
    case Step::kCapabilities:
      return "empty capabilities";
    case Step::kNoNewPrivileges:
      return "no_new_privs";
    case Step::kWriteXorExecute:
      return "memory-deny-write-execute";
    case Step::kListener:
      return "seccomp listener";
    case Step::kExec:
      return "execveat";
    case Step::kStartupFilter:
      return "startup filter";
    case Step::kCount:
      break;
  }
  return "unknown step";
}

void RunChild(ChildPlan& plan) {
  Must(plan, Step::kSession, StartSession());
  AwaitGo(plan);
  if (plan.selinux_context != nullptr) {
    Must(plan, Step::kSelinux, SetExecContext(plan.selinux_context));
  }
  int* const internal[] = {&plan.channel, &plan.program};
  Must(plan, Step::kDescriptors,
       PlaceDescriptors(plan.moves, plan.move_count, internal, 2,
                        plan.moves_end));
  EnterNamespaces(plan);
  LimitProcess(plan);
  HandOverListener(plan);
  Report(plan, StepReport{Step::kExec, 0, 0});
  if (plan.startup_filter_size > 0) {
    Must(plan, Step::kStartupFilter,
         InstallFilter(plan.startup_filter, plan.startup_filter_size,
                       Threads::kCaller));
  }
  syscall(SYS_execveat, plan.program, "", plan.argv, plan.env, AT_EMPTY_PATH);
  __atomic_store_n(plan.exec_error, errno, __ATOMIC_RELEASE);
  // The filter may not let us say it: then the exit status is SIGSYS.
  Must(plan, Step::kExec, errno);
  _exit(kExitBeforeExec);
}

}  // namespace holdfast::sandbox

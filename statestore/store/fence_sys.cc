#include "statestore/store/fence_sys.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"

namespace holdfast::store {
namespace {

constexpr int kProbeTimeoutMs = 2000;

absl::StatusOr<int> SetFilter(sock_filter* code, size_t length,
                              unsigned flags) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return ErrnoStatus("prctl PR_SET_NO_NEW_PRIVS");
  }
  sock_fprog program = {static_cast<unsigned short>(length), code};
  const long result =
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result < 0) return ErrnoStatus("seccomp");
  return static_cast<int>(result);
}

// The probe's child: hands its listener over and waits for its death.
[[noreturn]] void ProbeChild(BorrowedFd channel) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  absl::StatusOr<UniqueFd> listener = InstallListener();
  const uint8_t byte = 1;
  if (listener.ok() &&
      SendWithFds(channel, {&byte, 1}, {listener->get()}).ok()) {
    listener->Reset();  // The kernel must see no other holder in the dead.
    pause();
  }
  _exit(1);
}

}  // namespace

absl::StatusOr<UniqueFd> InstallListener() {
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  ASSIGN_OR_RETURN(const int fd,
                   SetFilter(&allow, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER));
  return UniqueFd(fd);
}

absl::StatusOr<bool> ProbeListenerFence() {
  ASSIGN_OR_RETURN(auto pair, SeqpacketPair());
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus("fork");
  if (pid == 0) ProbeChild(pair.second);
  pair.second.Reset();
  uint8_t byte;
  ReceivedFds fds;
  const auto got = ReceiveWithFds(pair.first, {&byte, 1}, fds);
  kill(pid, SIGKILL);
  bool reported = false;
  if (got.ok() && fds.count == 1) {
    // The child is not reaped yet, so only the death itself can be the cause.
    pollfd poll_listener = {fds.fds[0].get(), 0, 0};
    reported = poll(&poll_listener, 1, kProbeTimeoutMs) == 1 &&
               (poll_listener.revents & POLLHUP) != 0;
  }
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return reported;
}

absl::Status ApplyFilter(BorrowedFd program) {
  static sock_filter code[BPF_MAXINSNS];
  const ssize_t size = pread(program.get(), code, sizeof(code), 0);
  if (size < 0) return ErrnoStatus("reading the filter");
  if (size == 0 || size % sizeof(sock_filter) != 0) {
    return absl::InvalidArgumentError(
        "the filter's size is no multiple of an instruction's");
  }
  return SetFilter(code, size / sizeof(sock_filter), 0).status();
}

}  // namespace holdfast::store

#include "sandbox/seccomp_sys.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace holdfast::sandbox {

int InstallListener() {
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_fprog program = {1, &allow};
  return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                  SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

int InstallFilter(const sock_filter* instructions, size_t count,
                  Threads threads) {
  if (count == 0 || count > kMaxFilterInstructions) return EINVAL;
  const sock_fprog program = {static_cast<unsigned short>(count),  // NOLINT
                              const_cast<sock_filter*>(instructions)};
  const unsigned flags =
      threads == Threads::kAll
          ? SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH
          : 0;
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0
             ? 0
             : errno;
}

}  // namespace holdfast::sandbox

#include "statestore/store/filter_sys.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/errno_status.h"

namespace holdfast::store {

absl::Status ApplyFilter(BorrowedFd program) {
  static sock_filter code[BPF_MAXINSNS];
  const ssize_t size = pread(program.get(), code, sizeof(code), 0);
  if (size < 0) return ErrnoStatus("reading the filter");
  if (size == 0 || size % sizeof(sock_filter) != 0) {
    return absl::InvalidArgumentError(
        "the filter's size is no multiple of an instruction's");
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return ErrnoStatus("prctl PR_SET_NO_NEW_PRIVS");
  }
  sock_fprog filter = {static_cast<unsigned short>(size / sizeof(sock_filter)),
                       code};
  constexpr unsigned kAllThreads =
      SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, kAllThreads, &filter) !=
      0) {
    return ErrnoStatus("seccomp");
  }
  return absl::OkStatus();
}

}  // namespace holdfast::store

#include "base/pidfd_sys.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"

namespace holdfast {

absl::StatusOr<UniqueFd> OpenPidfd(int pid) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return ErrnoStatus(absl::StrCat("pidfd_open ", pid));
  return pidfd;
}

absl::Status SignalPidfd(BorrowedFd pidfd, int signal) {
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0) {
    return ErrnoStatus("pidfd_send_signal");
  }
  return absl::OkStatus();
}

}  // namespace holdfast

#ifndef HOLDFAST_BASE_PIDFD_SYS_H_
#define HOLDFAST_BASE_PIDFD_SYS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace holdfast {

// A pidfd of the process that has the number `pid` now, close-on-exec. It is of
// the right process only if the caller knows that the one it means was not
// reaped before, or asks afterwards. kNotFound: there is none.
absl::StatusOr<UniqueFd> OpenPidfd(int pid);

// Sends `signal` to the process behind `pidfd` and to no other one. kNotFound:
// it was reaped already; to one that has ended and was not, nothing happens.
absl::Status SignalPidfd(BorrowedFd pidfd, int signal);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_PIDFD_SYS_H_

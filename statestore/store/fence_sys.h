#ifndef HOLDFAST_STATESTORE_STORE_FENCE_SYS_H_
#define HOLDFAST_STATESTORE_STORE_FENCE_SYS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace holdfast::store {

// Installs a filter that allows everything in the calling process and returns
// its listener, close-on-exec. The listener's HUP is the proof that the process
// and all its descendants execute nothing any more. Sets no_new_privs. Later
// filters add to this one; one process has one listener (EBUSY beyond). Makes
// only prctl(2) and seccomp(2) and allocates only on error: fit for a child
// between clone and exec.
absl::StatusOr<UniqueFd> InstallListener();

// Whether this kernel reports the death of a process as HUP of its seccomp
// listener (6.11 and later do so for any death). Finds out by killing a forked
// child: for the launcher at its start, before it decides on the fence flag of
// kCreateInstance. Not for a process with threads or much memory.
absl::StatusOr<bool> ProbeListenerFence();

// Applies the seccomp program in `program` (a struct sock_filter[], as a
// sandboxed process finds it at kHandoffFilterFd) to the calling process with
// one seccomp(2) call. Sets no_new_privs. kInvalidArgument: not a program.
absl::Status ApplyFilter(BorrowedFd program);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_FENCE_SYS_H_

#ifndef HOLDFAST_SANDBOX_TIGHTEN_SYS_H_
#define HOLDFAST_SANDBOX_TIGHTEN_SYS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

// What a device does to itself when it has started and before it touches a
// byte of the guest. No libseccomp, no policy: bytes that the launcher made.

namespace holdfast::sandbox {

// Applies the filter in `program_bytes` (struct sock_filter[]) to all threads
// of the process at once. From the return on no thread can make another system
// call than the filter allows; threads that start later inherit it.
// Sets no_new_privs.
//
// Every thread must have reached a line of its own first: one that is still
// being started by the C library makes calls (rseq, set_robust_list) that no
// steady filter allows, and dies. Errors: kInvalidArgument for bytes that are
// no filter; kNotFound (ESRCH) when a thread has a filter of its own. After an
// error nothing is in force and the device must not serve.
absl::Status ApplySteadyFilter(absl::Span<const uint8_t> program_bytes);

// The same with the filter in `filter`, the memfd at kHandoffFilterFd, after
// making the process non-dumpable: no core, no ptrace by its own user. The
// memfd must be sealed against writing (SealFilter), because it is shared with
// the other children of the instance: kFailedPrecondition otherwise.
absl::Status Tighten(BorrowedFd filter);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_TIGHTEN_SYS_H_

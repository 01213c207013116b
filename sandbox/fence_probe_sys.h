#ifndef HOLDFAST_SANDBOX_FENCE_PROBE_SYS_H_
#define HOLDFAST_SANDBOX_FENCE_PROBE_SYS_H_

#include <string>

#include "absl/status/statusor.h"

namespace holdfast::sandbox {

struct FenceProbe {
  // The seccomp listener reports a death before the address space is taken
  // down, so the store may use it as the fence. Otherwise only the pidfd may.
  bool listener_first = false;
  std::string explanation;  // For the status: one line.
};

// Finds out by trying: kills a child that has a listener and touched memory
// and looks which of listener and pidfd speaks first. Linux 6.11 and later
// have the better order; distributions move patches, so the version proves
// nothing. Takes some 50 ms and 32 MiB; call once at start, before threads.
// Errors: those of the system calls; then the answer is "pidfd".
absl::StatusOr<FenceProbe> ProbeFence();

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_FENCE_PROBE_SYS_H_

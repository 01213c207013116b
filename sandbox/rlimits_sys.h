#ifndef HOLDFAST_SANDBOX_RLIMITS_SYS_H_
#define HOLDFAST_SANDBOX_RLIMITS_SYS_H_

#include <sys/resource.h>

#include <cstddef>

namespace holdfast::sandbox {

struct Limit {
  int resource = 0;  // RLIMIT_...
  const char* name = "";
  rlim_t value = 0;
};

// Launcher's side: cuts `limit` to the caller's own hard limit, beyond which
// the child could not go. Returns whether it had to.
bool CutToHardLimit(Limit& limit);

// Child's side, async-signal-safe: sets soft and hard limit of each. Returns 0
// or an errno value.
int ApplyLimits(const Limit* limits, size_t count);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_RLIMITS_SYS_H_

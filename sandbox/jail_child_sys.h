#ifndef HOLDFAST_SANDBOX_JAIL_CHILD_SYS_H_
#define HOLDFAST_SANDBOX_JAIL_CHILD_SYS_H_

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>

#include "sandbox/descriptors_sys.h"
#include "sandbox/rlimits_sys.h"

// The child's half of Spawn (jail_sys.h has the drawing): between clone3 and
// execveat, in a copy of the launcher, where only async-signal-safe calls are
// allowed. Everything it needs is made before.

namespace holdfast::sandbox {

enum class Step : uint32_t {
  kSession = 0,
  kSelinux,
  kDescriptors,
  kPrivileges,
  kUser,
  kRoot,
  kHostName,
  kKeyring,
  kLimits,
  kCapabilities,
  kNoNewPrivileges,
  kWriteXorExecute,
  kListener,
  kExec,  // No error: everything is done, the next call is execveat.
  kStartupFilter,
  kCount,
};

// What the step does, as in "new root directory".
const char* StepName(Step step);

// One message of the child, SOCK_SEQPACKET; kListener without an error carries
// the listener.
struct StepReport {
  Step step = Step::kCount;
  int32_t error = 0;
  uint32_t fatal = 0;  // The child is gone; otherwise it went on without.
};

// Borrowed pointers into memory of the launcher's copy.
struct ChildPlan {
  int channel = -1;  // Child's end: "go" comes in, StepReports go out.
  int launcher_end = -1;
  int program = -1;
  char* const* argv = nullptr;
  char* const* env = nullptr;

  FdMove* moves = nullptr;
  size_t move_count = 0;
  int moves_end = 0;  // Above every FdMove::to.

  const char* selinux_context = nullptr;  // Null: none.
  bool lock_privileges = false;
  bool become_user = false;
  bool keep_groups = false;
  uint32_t uid = 0;  // Inside the user namespace.
  uint32_t gid = 0;
  bool empty_root = false;
  bool own_host_name = false;
  bool drop_capabilities = false;
  bool write_xor_execute = false;
  bool listener = false;
  int death_signal = 0;

  const Limit* limits = nullptr;
  size_t limit_count = 0;
  const sock_filter* startup_filter = nullptr;
  size_t startup_filter_size = 0;

  // In memory that the launcher shares: errno of an execveat that failed under
  // a filter that may allow no call to say so. A program that runs has lost it.
  int* exec_error = nullptr;
};

// Never returns: executes the program or reports the step that failed.
[[noreturn]] void RunChild(ChildPlan& plan);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_JAIL_CHILD_SYS_H_

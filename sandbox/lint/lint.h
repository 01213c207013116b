#ifndef HOLDFAST_SANDBOX_LINT_LINT_H_
#define HOLDFAST_SANDBOX_LINT_LINT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {

// What a review of a policy would look at, done by a machine.
struct LintResult {
  // One "file:line: what is wrong" each; empty: the policy may ship.
  std::vector<std::string> findings;
  size_t startup_calls = 0;  // Distinct system calls of the startup filter.
  size_t steady_calls = 0;   // ... of the steady filter.
  size_t limited_calls = 0;  // Steady calls whose arguments are checked.
  size_t startup_instructions = 0;
  size_t steady_instructions = 0;
};

// Checks that
// - steady state allows at most `max_steady` calls, none that takes a path,
//   makes or signals a process, makes a socket or widens what memory and
//   descriptors can do;
// - no call that no device ever needs is allowed at all;
// - memory that can be executed is never made;
// - no include, rule or limit is without effect (mutation test);
// - both compiled filters mean what the policy says (proof by comparison).
LintResult LintPolicy(const Policy& policy, size_t max_steady);

// Why `syscall` must not be allowed in steady state, or empty.
absl::string_view SteadyObjection(absl::string_view syscall);

// Why `syscall` must not be allowed at all, or empty.
absl::string_view StartupObjection(absl::string_view syscall);

// How many names the two functions above know.
size_t ObjectionCount();

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_LINT_LINT_H_

#ifndef HOLDFAST_SANDBOX_COMPILE_H_
#define HOLDFAST_SANDBOX_COMPILE_H_

#include <linux/filter.h>

#include <vector>

#include "absl/status/statusor.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {

// Compiles rules to a seccomp filter: another architecture is killed, then one
// block for each system call, in the order of its first rule, and kill at the
// end, where the numbers of x32 arrive too. Blocks without argument checks come
// first: the kernel keeps those in a bitmap, so their number costs nothing; an
// argument check costs some 25 ns on the call that has it and on no other.
//
// A compiler of our own, because it is smaller than what it would take to check
// libseccomp's output, and that would have to be checked all the same:
// compile_test compares every filter with Decide(). Errors: kResourceExhausted
// when the kernel would refuse the length.
absl::StatusOr<std::vector<sock_filter>> Compile(
    const std::vector<Rule>& rules);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_COMPILE_H_

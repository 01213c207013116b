#ifndef HOLDFAST_SANDBOX_PROVE_H_
#define HOLDFAST_SANDBOX_PROVE_H_

#include <linux/filter.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {

// The system calls on which a filter for `rules` is judged: every number from 0
// to 1023, the x32 range and beyond, other architectures, and for each call
// with argument limits, around every way to meet them, each bit of each
// argument flipped, values one off, and both 32-bit halves.
std::vector<SyscallRecord> ProofRecords(const std::vector<Rule>& rules);

// Whether `program` decides each of `records` as `rules` mean it. The error
// names the first call on which they differ.
absl::Status ProveFilter(const std::vector<Rule>& rules,
                         absl::Span<const sock_filter> program,
                         const std::vector<SyscallRecord>& records);

// Mutation test: one line "file:line: ..." for each rule, and each limit of a
// rule, whose removal changes no verdict, so that it protects and permits
// nothing. The mutants are compiled and run.
std::vector<std::string> RedundantParts(const std::vector<Rule>& rules);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_PROVE_H_

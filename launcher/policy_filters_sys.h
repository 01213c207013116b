#ifndef HOLDFAST_LAUNCHER_POLICY_FILTERS_SYS_H_
#define HOLDFAST_LAUNCHER_POLICY_FILTERS_SYS_H_

#include <linux/filter.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace holdfast::launcher {

// The two system call filters of a policy, compiled once an instance and given
// to every child of it.
struct PolicyFilters {
  std::vector<sock_filter> startup;  // Empty: none.
  // Never empty: without a policy it is the program that allows everything, so
  // that a child finds one at kHandoffFilterFd in any case.
  UniqueFd steady;
};

// Reads and compiles the policy at `path`; its includes are looked for beside
// it and in `include_dirs`. An empty `path`: no filters.
absl::StatusOr<PolicyFilters> LoadFilters(
    const std::string& path, const std::vector<std::string>& include_dirs);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_POLICY_FILTERS_SYS_H_

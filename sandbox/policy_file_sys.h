#ifndef HOLDFAST_SANDBOX_POLICY_FILE_SYS_H_
#define HOLDFAST_SANDBOX_POLICY_FILE_SYS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {

// Reads the policy at `path`; its includes are looked for beside it and then in
// `include_dirs`, in this order. Errors: those of ParsePolicy; kNotFound.
absl::StatusOr<Policy> LoadPolicy(const std::string& path,
                                  const std::vector<std::string>& include_dirs);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_POLICY_FILE_SYS_H_

#include "launcher/policy_filters_sys.h"

#include <linux/seccomp.h>

#include <utility>

#include "base/status_macros.h"
#include "sandbox/compile.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/policy_file_sys.h"

namespace holdfast::launcher {

absl::StatusOr<PolicyFilters> LoadFilters(
    const std::string& path, const std::vector<std::string>& include_dirs) {
  PolicyFilters filters;
  std::vector<sock_filter> steady = {BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW)};
  if (!path.empty()) {
    ASSIGN_OR_RETURN(const sandbox::Policy policy,
                     sandbox::LoadPolicy(path, include_dirs));
    ASSIGN_OR_RETURN(filters.startup, sandbox::Compile(policy.StartupRules()));
    ASSIGN_OR_RETURN(steady, sandbox::Compile(policy.SteadyRules()));
  }
  ASSIGN_OR_RETURN(filters.steady, sandbox::SealFilter(steady));
  return filters;
}

}  // namespace holdfast::launcher

#ifndef HOLDFAST_LAUNCHER_SPAWN_SYS_H_
#define HOLDFAST_LAUNCHER_SPAWN_SYS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "launcher/cgroup_sys.h"
#include "launcher/policy_filters_sys.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// A child that executes its program.
struct SpawnedChild {
  int pid = 0;
  UniqueFd pidfd;
  UniqueFd listener;       // Seccomp listener; not valid: the kernel gave none.
  UniqueFd control;        // The launcher's end of the control channel.
  UniqueFd store_channel;  // The store's end of the child's store channel.
  std::vector<std::string> degraded;
};

// Starts one device child of `spec` from `program`, with the descriptors of
// DeviceDonations() and no others, in `group`. `spec.uid` must be set when it
// is confined. Blocks for some 2 ms. Errors: those of sandbox::Spawn.
absl::StatusOr<SpawnedChild> SpawnDevice(const LaunchSpec& spec,
                                         BorrowedFd program, BorrowedFd segment,
                                         const PolicyFilters& filters,
                                         const Cgroup& group);

// Starts holdfast-store as user `uid` in `group`; `link` is its end of the
// channel.
absl::StatusOr<SpawnedChild> SpawnStore(const std::string& program,
                                        uint32_t uid, BorrowedFd link,
                                        const PolicyFilters& filters,
                                        const Cgroup& group);

// The api's ends of what it is born with.
struct ApiGifts {
  BorrowedFd listener{-1};
  UniqueFd watch;
  std::vector<UniqueFd> links;  // kApiLinks of them.
};

// Starts holdfast-api as user `uid`, to die with this process.
absl::StatusOr<SpawnedChild> SpawnApi(const std::string& program, uint32_t uid,
                                      const ApiGifts& given,
                                      const PolicyFilters& filters);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_SPAWN_SYS_H_

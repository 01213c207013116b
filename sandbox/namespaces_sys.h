#ifndef HOLDFAST_SANDBOX_NAMESPACES_SYS_H_
#define HOLDFAST_SANDBOX_NAMESPACES_SYS_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"

namespace holdfast::sandbox {

// clone3 flags of a full jail: user, pid, mount, net, ipc, uts and cgroup.
uint64_t AllNamespaces();

// One id of the new user namespace and the id it is outside.
struct IdMap {
  uint32_t inside;
  uint32_t outside;
};

// Launcher's side: gives the user namespace of `pid` these ids and no others.
// kPermissionDenied or kInvalidArgument when the caller may not map them.
// `deny_setgroups` is what the kernel asks of callers without CAP_SETGID.
absl::Status WriteIdMaps(pid_t pid, IdMap uid, IdMap gid, bool deny_setgroups);

// Child's side, async-signal-safe. Replaces the root by an empty tmpfs that is
// read-only, nosuid, nodev, noexec and holds not even a directory, and
// detaches everything else. Needs CAP_SYS_ADMIN in a mount namespace of its
// own and, in a user namespace, mapped ids. Returns 0 or an errno value.
int EnterEmptyRoot();

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_NAMESPACES_SYS_H_

#ifndef HOLDFAST_LAUNCHER_VMM_SOCKET_SYS_H_
#define HOLDFAST_LAUNCHER_VMM_SOCKET_SYS_H_

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// The socket that the VMM connects to, open to the owner, the group and with
// the mode that `spec` says; names are looked up in /etc/passwd and /etc/group.
// Errors begin with the field of the spec: kNotFound for a name, and those of
// ListenAt(). Precondition: `spec` has a socket path.
absl::StatusOr<UniqueFd> MakeVmmSocket(const LaunchSpec& spec);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_VMM_SOCKET_SYS_H_

#ifndef HOLDFAST_LAUNCHER_VMM_SOCKET_SYS_H_
#define HOLDFAST_LAUNCHER_VMM_SOCKET_SYS_H_

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// Who may connect to the socket of `spec`, its names looked up in /etc/passwd
// and /etc/group. kNotFound begins with the field of the spec.
absl::StatusOr<SocketAccess> AccessOf(const LaunchSpec& spec);

// The socket that the VMM connects to. Precondition: `spec` has one.
absl::StatusOr<UniqueFd> MakeVmmSocket(const LaunchSpec& spec);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_VMM_SOCKET_SYS_H_

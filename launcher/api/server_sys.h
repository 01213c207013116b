#ifndef HOLDFAST_LAUNCHER_API_SERVER_SYS_H_
#define HOLDFAST_LAUNCHER_API_SERVER_SYS_H_

#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace holdfast::launcher {

// Serves Management, health and reflection to whoever connects to `listener`
// until the core closes `links`, then returns OK. The listener is made by the
// core, for root alone: who may connect is decided there,
// since this process cannot tell users apart from inside its user namespace.
absl::Status Serve(UniqueFd listener, std::vector<UniqueFd> links);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_SERVER_SYS_H_

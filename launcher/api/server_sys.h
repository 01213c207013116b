#ifndef HOLDFAST_LAUNCHER_API_SERVER_SYS_H_
#define HOLDFAST_LAUNCHER_API_SERVER_SYS_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace holdfast::launcher {

// What the api is born with.
struct ApiDescriptors {
  // Made by the core, for root alone: who may connect is decided there, since
  // this process cannot tell users apart from inside its user namespace.
  UniqueFd listener;
  // Says Op::kBeat to the core each kBeatInterval; its end is ours.
  UniqueFd watch;
  std::vector<UniqueFd> links;  // To the core, for requests.
};

// Serves Management, health and reflection to whoever connects to the listener
// until the core closes the watch, then returns OK. `tighten` is called once,
// when gRPC has started and before anything else; its error ends Serve. Then
// text specs are read for the core until it has no more, then clients are
// taken. Beats are sent by the thread that takes clients: they prove that it
// runs, not that gRPC's threads do.
absl::Status Serve(ApiDescriptors descriptors,
                   const std::function<absl::Status()>& tighten);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_SERVER_SYS_H_

// holdfast-api: the management API of holdfastd, which starts it. Runs as a
// user of its own with the descriptors of ApiDonations() and no path to
// anything; may die at any time without touching a device.

#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "base/handoff.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "launcher/api/grpc_log.h"
#include "launcher/api/server_sys.h"
#include "launcher/donation.h"
#include "sandbox/tighten_sys.h"

int main(int argc, char** argv) {
  using holdfast::UniqueFd;
  namespace launcher = holdfast::launcher;
  if (argc != 2 || std::strcmp(argv[1], "--managed") != 0) {
    std::fputs("holdfast-api is started by holdfastd --api=FILE\n", stderr);
    return 2;
  }
  holdfast::SetLogProgram("holdfast-api");
  launcher::RouteGrpcLog();
  const UniqueFd filter(holdfast::kHandoffFilterFd);
  launcher::ApiDescriptors descriptors;
  descriptors.listener = UniqueFd(launcher::kApiListenerFd);
  descriptors.watch = UniqueFd(launcher::kApiWatchFd);
  for (int i = 0; i < launcher::kApiLinks; ++i) {
    descriptors.links.emplace_back(launcher::kApiFirstLinkFd + i);
  }
  const absl::Status status =
      launcher::Serve(std::move(descriptors),
                      [&filter] { return holdfast::sandbox::Tighten(filter); });
  if (!status.ok()) holdfast::LogError(status.message());
  return status.ok() ? 0 : 1;
}

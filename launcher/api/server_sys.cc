#include "launcher/api/server_sys.h"

#include <fcntl.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>
#include <utility>

#include "base/errno_status.h"
#include "launcher/api/core_links.h"
#include "launcher/api/service.h"

namespace holdfast::launcher {
namespace {

// Followers of events hold a thread each; beyond, calls are refused.
constexpr int kMaxThreads = 32;
// A spec and everything else that is asked for is far smaller.
constexpr int kMaxRequest = 256 * 1024;

std::unique_ptr<grpc::Server> Start(ManagementService& service) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ResourceQuota quota("holdfast-api");
  quota.SetMaxThreads(kMaxThreads);
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kMaxRequest);
  builder.RegisterService(&service);
  return builder.BuildAndStart();
}

}  // namespace

absl::Status Serve(UniqueFd listener, std::vector<UniqueFd> links) {
  if (links.empty()) return absl::InvalidArgumentError("no link to the core");
  const UniqueFd watched(fcntl(links[0].get(), F_DUPFD_CLOEXEC, 3));
  if (!watched.valid()) return ErrnoStatus("fcntl F_DUPFD_CLOEXEC");
  std::vector<CoreClient> clients;
  for (UniqueFd& link : links) clients.emplace_back(std::move(link));
  CoreLinks core(std::move(clients));
  ManagementService service(core);
  const std::unique_ptr<grpc::Server> server = Start(service);
  if (server == nullptr) return absl::InternalError("gRPC does not start");
  while (true) {
    // Of the link only the hang-up, which needs no asking.
    pollfd fds[] = {{listener.get(), POLLIN, 0}, {watched.get(), 0, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) break;
    if (fds[0].revents == 0) continue;
    const int fd =
        accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) grpc::AddInsecureChannelFromFd(server.get(), fd);
  }
  server->Shutdown(std::chrono::system_clock::now());
  return absl::OkStatus();
}

}  // namespace holdfast::launcher

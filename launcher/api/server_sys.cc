#include "launcher/api/server_sys.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/api/core_links.h"
#include "launcher/api/service.h"
#include "launcher/api/startup_specs.h"
#include "launcher/core_protocol.h"

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

class Beats {
 public:
  explicit Beats(BorrowedFd watch) : watch_(watch) {
    Request request;
    request.op = Op::kBeat;
    beat_ = EncodeRequest(request);
  }

  // Milliseconds until it is to be called again.
  int SayIfDue() {
    const Clock::time_point now = Clock::now();
    if (now >= due_) {
      iovec part = {beat_.data(), beat_.size()};
      msghdr message = {};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      // A core that reads nothing at the moment asks for no more of them.
      (void)SendOne(watch_, message, MSG_DONTWAIT | MSG_NOSIGNAL);
      due_ = now + absl::ToChronoMilliseconds(kBeatInterval);
    }
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(due_ - now);
    return static_cast<int>(rest.count());
  }

 private:
  using Clock = std::chrono::steady_clock;

  const BorrowedFd watch_;
  std::vector<uint8_t> beat_;
  Clock::time_point due_;  // The past, at first.
};

class CoreSpecs final : public SpecSource {
 public:
  explicit CoreSpecs(CoreLinks& links) : links_(links) {}

  absl::StatusOr<SpecFile> NextSpec() override {
    SpecFile file;
    RETURN_IF_ERROR(links_.Call([&](CoreClient& core) -> absl::Status {
      ASSIGN_OR_RETURN(file, core.NextSpec());
      return absl::OkStatus();
    }));
    return file;
  }
  absl::Status SpecIsRead(const std::string& file,
                          const absl::StatusOr<LaunchSpec>& spec) override {
    return links_.Call(
        [&](CoreClient& core) { return core.SpecIsRead(file, spec); });
  }

 private:
  CoreLinks& links_;
};

// Before the first client is taken: none can hold a link that this waits for.
void ReadSpecs(CoreLinks& links, Beats& beats) {
  CoreSpecs specs(links);
  while (true) {
    beats.SayIfDue();
    const absl::StatusOr<bool> more = ReadNextSpec(specs);
    if (more.ok() && !*more) return;
    // A busy core is asked again; one that is gone ends the api elsewhere.
    if (more.ok() || absl::IsDeadlineExceeded(more.status())) continue;
    LogError("specs of --spec-dir: ", more.status().message());
    return;
  }
}

}  // namespace

absl::Status Serve(ApiDescriptors descriptors,
                   const std::function<absl::Status()>& tighten) {
  if (descriptors.links.empty()) {
    return absl::InvalidArgumentError("no link to the core");
  }
  const BorrowedFd listener = descriptors.listener;
  const BorrowedFd watch = descriptors.watch;
  std::vector<CoreClient> clients;
  for (UniqueFd& link : descriptors.links)
    clients.emplace_back(std::move(link));
  CoreLinks core(std::move(clients));
  ManagementService service(core);
  const std::unique_ptr<grpc::Server> server = Start(service);
  if (server == nullptr) return absl::InternalError("gRPC does not start");
  absl::Status status = tighten();
  Beats beats(watch);
  if (status.ok()) ReadSpecs(core, beats);
  while (status.ok()) {
    // Of the watch only the hang-up, which needs no asking.
    pollfd fds[] = {{listener.get(), POLLIN, 0}, {watch.get(), 0, 0}};
    if (poll(fds, 2, beats.SayIfDue()) < 0) continue;
    if (fds[1].revents != 0) break;
    if (fds[0].revents == 0) continue;
    const int fd =
        accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) grpc::AddInsecureChannelFromFd(server.get(), fd);
  }
  server->Shutdown(std::chrono::system_clock::now());
  return status;
}

}  // namespace holdfast::launcher

#include "launcher/api/service.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "launcher/api/figures.h"
#include "launcher/api/translate.h"
#include "statestore/segment_sys.h"

namespace holdfast::launcher {
namespace {

// A follower hears of an event this much later at most. It asks again instead
// of waiting in the core, where a waiting request would hold its connection.
constexpr std::chrono::milliseconds kEventInterval(100);
constexpr size_t kPiece = 256 * 1024;

// The codes of Abseil are those of gRPC.
grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

}  // namespace

grpc::Status ManagementService::Run(grpc::ServerContext*,
                                    const v1::RunRequest* request,
                                    v1::RunResponse*) {
  const absl::StatusOr<LaunchSpec> spec = FromProto(request->spec());
  if (!spec.ok()) return ToGrpc(spec.status());
  return ToGrpc(links_.Call([&](CoreClient& core) { return core.Run(*spec); }));
}

grpc::Status ManagementService::List(grpc::ServerContext*,
                                     const v1::ListRequest*,
                                     v1::ListResponse* response) {
  return ToGrpc(links_.Call([&](CoreClient& core) -> absl::Status {
    ASSIGN_OR_RETURN(const CoreClient::Everything all, core.ListAll());
    for (const InstanceStatus& status : all.instances) {
      v1::InstanceStatus* const instance = response->add_instances();
      *instance = ToProto(status);
      *instance->mutable_segment() = FiguresOf(core.StateDump(status.name));
    }
    for (const ServantStatus& status : all.servants) {
      *response->add_processes() = ToProto(status);
    }
    return absl::OkStatus();
  }));
}

grpc::Status ManagementService::Status(grpc::ServerContext*,
                                       const v1::StatusRequest* request,
                                       v1::InstanceStatus* response) {
  return ToGrpc(links_.Call([&](CoreClient& core) -> absl::Status {
    ASSIGN_OR_RETURN(const InstanceStatus status,
                     core.Status(request->instance()));
    *response = ToProto(status);
    *response->mutable_segment() = FiguresOf(core.StateDump(status.name));
    return absl::OkStatus();
  }));
}

grpc::Status ManagementService::Stop(grpc::ServerContext*,
                                     const v1::StopRequest* request,
                                     v1::StopResponse*) {
  return ToGrpc(links_.Call(
      [&](CoreClient& core) { return core.Stop(request->instance()); }));
}

grpc::Status ManagementService::Restart(grpc::ServerContext*,
                                        const v1::RestartRequest* request,
                                        v1::RestartResponse*) {
  return ToGrpc(links_.Call(
      [&](CoreClient& core) { return core.Restart(request->instance()); }));
}

grpc::Status ManagementService::Replace(grpc::ServerContext*,
                                        const v1::ReplaceRequest* request,
                                        v1::ReplaceResponse*) {
  const absl::StatusOr<LaunchSpec> spec = FromProto(request->spec());
  if (!spec.ok()) return ToGrpc(spec.status());
  return ToGrpc(
      links_.Call([&](CoreClient& core) { return core.Replace(*spec); }));
}

grpc::Status ManagementService::Resize(grpc::ServerContext*,
                                       const v1::ResizeRequest* request,
                                       v1::ResizeResponse*) {
  return ToGrpc(links_.Call(
      [&](CoreClient& core) { return core.Resize(request->instance()); }));
}

grpc::Status ManagementService::Inject(grpc::ServerContext*,
                                       const v1::InjectRequest* request,
                                       v1::InjectResponse*) {
  const absl::StatusOr<Fault> fault = FromProto(request->fault());
  if (!fault.ok()) return ToGrpc(fault.status());
  const absl::StatusOr<FaultTarget> target = FromProto(request->target());
  if (!target.ok()) return ToGrpc(target.status());
  return ToGrpc(links_.Call([&](CoreClient& core) {
    return core.Inject(request->instance(), *fault, *target);
  }));
}

grpc::Status ManagementService::Events(
    grpc::ServerContext* context, const v1::EventsRequest* request,
    grpc::ServerWriter<v1::EventsResponse>* writer) {
  uint64_t since = request->since();
  bool first = since == 0;
  while (!context->IsCancelled()) {
    CoreClient::Events events;
    const absl::Status status =
        links_.Call([&](CoreClient& core) -> absl::Status {
          ASSIGN_OR_RETURN(events, core.ReadEvents(since, /*wait=*/false));
          return absl::OkStatus();
        });
    if (!status.ok()) return ToGrpc(status);
    if (events.events.empty()) {
      if (!request->follow()) break;
      std::this_thread::sleep_for(kEventInterval);
      continue;
    }
    since = events.last_sequence;
    v1::EventsResponse response;
    response.set_last_sequence(since);
    // Numbers do not start at 1, so a first question misses nothing.
    response.set_lost(first ? 0 : events.lost);
    first = false;
    for (const LaunchEvent& event : events.events) {
      *response.add_events() = ToProto(event);
    }
    if (!writer->Write(response)) break;
  }
  return grpc::Status::OK;
}

grpc::Status ManagementService::StateDump(
    grpc::ServerContext*, const v1::StateDumpRequest* request,
    grpc::ServerWriter<v1::StateDumpResponse>* writer) {
  std::vector<uint8_t> bytes;
  const absl::Status status =
      links_.Call([&](CoreClient& core) -> absl::Status {
        ASSIGN_OR_RETURN(const UniqueFd segment,
                         core.StateDump(request->instance()));
        ASSIGN_OR_RETURN(bytes, CopySegment(segment));
        return absl::OkStatus();
      });
  if (!status.ok()) return ToGrpc(status);
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    v1::StateDumpResponse response;
    response.set_piece(bytes.data() + at, std::min(kPiece, bytes.size() - at));
    if (!writer->Write(response)) break;
  }
  return grpc::Status::OK;
}

}  // namespace holdfast::launcher

#ifndef HOLDFAST_LAUNCHER_API_SERVICE_H_
#define HOLDFAST_LAUNCHER_API_SERVICE_H_

#include "launcher/api/core_links.h"
#include "protos/management.grpc.pb.h"

namespace holdfast::launcher {

// Hands each call on to the core and its answer back, codes and texts
// unchanged. Decides nothing. Thread-safe; `links` must outlive it.
class ManagementService final : public v1::Management::Service {
 public:
  explicit ManagementService(CoreLinks& links) : links_(links) {}

  grpc::Status Run(grpc::ServerContext*, const v1::RunRequest* request,
                   v1::RunResponse*) override;
  grpc::Status List(grpc::ServerContext*, const v1::ListRequest*,
                    v1::ListResponse* response) override;
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest* request,
                      v1::InstanceStatus* response) override;
  grpc::Status Stop(grpc::ServerContext*, const v1::StopRequest* request,
                    v1::StopResponse*) override;
  grpc::Status Restart(grpc::ServerContext*, const v1::RestartRequest* request,
                       v1::RestartResponse*) override;
  grpc::Status Replace(grpc::ServerContext*, const v1::ReplaceRequest* request,
                       v1::ReplaceResponse*) override;
  grpc::Status Resize(grpc::ServerContext*, const v1::ResizeRequest* request,
                      v1::ResizeResponse*) override;
  grpc::Status Inject(grpc::ServerContext*, const v1::InjectRequest* request,
                      v1::InjectResponse*) override;
  grpc::Status Events(grpc::ServerContext* context,
                      const v1::EventsRequest* request,
                      grpc::ServerWriter<v1::EventsResponse>* writer) override;
  grpc::Status StateDump(
      grpc::ServerContext*, const v1::StateDumpRequest* request,
      grpc::ServerWriter<v1::StateDumpResponse>* writer) override;

 private:
  CoreLinks& links_;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_SERVICE_H_

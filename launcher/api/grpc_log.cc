#include "launcher/api/grpc_log.h"

#include <grpc/support/log.h>

#include "base/log_limiter.h"

namespace holdfast::launcher {
namespace {

void Write(gpr_log_func_args* args) {
  // Threads of gRPC may still speak while the process ends.
  static auto* const limiter = new LogLimiter;
  if (args->severity < GPR_LOG_SEVERITY_ERROR) return;
  limiter->Warning("gRPC: ", args->message);
}

}  // namespace

void RouteGrpcLog() {
  gpr_set_log_function(&Write);
  // What is left out need not be put together either.
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
}

}  // namespace holdfast::launcher

#ifndef HOLDFAST_LAUNCHER_API_GRPC_LOG_H_
#define HOLDFAST_LAUNCHER_API_GRPC_LOG_H_

namespace holdfast::launcher {

// Makes gRPC, which writes to standard error what it likes, write to the log of
// base/log.h: its errors, each one line that begins with "gRPC: ".
// Clients can cause them at will, so they are limited by a LogLimiter. For the
// whole process and its life, before gRPC is used.
void RouteGrpcLog();

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_GRPC_LOG_H_

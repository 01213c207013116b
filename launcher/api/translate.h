#ifndef HOLDFAST_LAUNCHER_API_TRANSLATE_H_
#define HOLDFAST_LAUNCHER_API_TRANSLATE_H_

#include <string>

#include "absl/status/statusor.h"
#include "launcher/core_protocol.h"
#include "launcher/spec.h"
#include "protos/launch_spec.pb.h"
#include "protos/management.pb.h"

namespace holdfast::launcher {

// Between the public messages and the core's own types. Pure; no rule lives
// here: what a spec may say is ValidateSpec()'s.

// kInvalidArgument only for what the core's types cannot express.
absl::StatusOr<LaunchSpec> FromProto(const v1::LaunchSpec& proto);
absl::StatusOr<Fault> FromProto(v1::Fault fault);
absl::StatusOr<FaultTarget> FromProto(v1::FaultTarget target);

v1::InstanceStatus ToProto(const InstanceStatus& status);
v1::ProcessStatus ToProto(const ServantStatus& status);
v1::Event ToProto(const LaunchEvent& event);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_TRANSLATE_H_

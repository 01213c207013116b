#include "launcher/api/translate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status_macros.h"

namespace holdfast::launcher {
namespace {

absl::Status UnknownValue(absl::string_view field) {
  return absl::InvalidArgumentError(
      absl::StrCat(field,
                   ": a value that this release does not know: use the "
                   "holdfast and holdfastd of one release"));
}

absl::StatusOr<ResourceSpec> ResourceOf(const v1::Resource& proto,
                                        const std::string& field) {
  ResourceSpec resource;
  resource.name = proto.name();
  resource.path = proto.path();
  if (!v1::Resource::Access_IsValid(proto.access())) {
    return UnknownValue(field + ".access");
  }
  if (!v1::Resource::Kind_IsValid(proto.kind())) {
    return UnknownValue(field + ".kind");
  }
  if (!v1::Resource::Lock_IsValid(proto.lock())) {
    return UnknownValue(field + ".lock");
  }
  if (proto.access() == v1::Resource::READ_ONLY) {
    resource.access = ResourceAccess::kReadOnly;
  }
  if (proto.kind() == v1::Resource::BLOCK_DEVICE) {
    resource.kind = ResourceKind::kBlockDevice;
  }
  if (proto.lock() == v1::Resource::SHARED) {
    resource.lock = ResourceLock::kShared;
  }
  resource.direct = proto.direct();
  return resource;
}

void TakeLimits(const v1::ChildLimits& proto, ChildLimits& limits) {
  if (proto.has_open_files()) limits.open_files = proto.open_files();
  if (proto.has_threads()) limits.threads = proto.threads();
  if (proto.has_file_size_bytes()) limits.file_size = proto.file_size_bytes();
  if (proto.has_locked_memory_bytes()) {
    limits.locked_memory = proto.locked_memory_bytes();
  }
}

// Far beyond what ValidateSpec allows, so that it refuses, but no overflow.
absl::Duration Milliseconds(uint64_t count) {
  return absl::Milliseconds(
      static_cast<int64_t>(std::min<uint64_t>(count, uint64_t{1} << 40)));
}

void TakeRestart(const v1::RestartLimits& proto, RestartLimits& restart) {
  if (proto.has_budget()) restart.budget = proto.budget();
  if (proto.has_refill_every_ms()) {
    restart.refill_every = Milliseconds(proto.refill_every_ms());
  }
  if (proto.has_backoff_base_ms()) {
    restart.backoff_base = Milliseconds(proto.backoff_base_ms());
  }
  if (proto.has_backoff_max_ms()) {
    restart.backoff_max = Milliseconds(proto.backoff_max_ms());
  }
  if (proto.has_healthy_after_ms()) {
    restart.healthy_after = Milliseconds(proto.healthy_after_ms());
  }
}

}  // namespace

absl::StatusOr<LaunchSpec> FromProto(const v1::LaunchSpec& proto) {
  LaunchSpec spec;
  spec.name = proto.name();
  spec.binary = proto.binary();
  spec.args.assign(proto.args().begin(), proto.args().end());
  spec.socket_path = proto.socket_path();
  spec.socket_owner = proto.socket_owner();
  spec.socket_group = proto.socket_group();
  spec.socket_mode = proto.socket_mode();
  for (int i = 0; i < proto.resources_size(); ++i) {
    ASSIGN_OR_RETURN(
        ResourceSpec resource,
        ResourceOf(proto.resources(i), absl::StrCat("resources[", i, "]")));
    spec.resources.push_back(std::move(resource));
  }
  if (proto.has_segment_bytes()) spec.segment_bytes = proto.segment_bytes();
  spec.uid = proto.uid();
  TakeLimits(proto.limits(), spec.limits);
  spec.group_limits = {proto.group_limits().memory_bytes(),
                       proto.group_limits().tasks(),
                       proto.group_limits().cpu_percent()};
  spec.policy = proto.policy();
  if (proto.has_confined()) spec.confined = proto.confined();
  if (proto.has_standby()) spec.standby = proto.standby();
  spec.realtime_priority = proto.realtime_priority();
  TakeRestart(proto.restart(), spec.restart);
  const v1::Backend& backend = proto.backend();
  if (!v1::Backend::Handover_IsValid(backend.handover())) {
    return UnknownValue("backend.handover");
  }
  spec.backend.binary = backend.binary();
  spec.backend.args.assign(backend.args().begin(), backend.args().end());
  // By the same numbers.
  spec.backend.handover = static_cast<BackendHandover>(backend.handover());
  spec.backend.standby = backend.standby();
  spec.backend.polls = backend.polls();
  spec.backend.synchronous = backend.synchronous();
  return spec;
}

absl::StatusOr<Fault> FromProto(v1::Fault fault) {
  switch (fault) {
    case v1::KILL:
      return Fault::kKill;
    case v1::STOP:
      return Fault::kStop;
    case v1::SEGV:
      return Fault::kSegv;
    default:
      return UnknownValue("fault");
  }
}

absl::StatusOr<FaultTarget> FromProto(v1::FaultTarget target) {
  switch (target) {
    case v1::ACTIVE:
      return FaultTarget::kActive;
    case v1::STANDBY:
      return FaultTarget::kStandby;
    case v1::STORE:
      return FaultTarget::kStore;
    case v1::API:
      return FaultTarget::kApi;
    case v1::CORE:
      return FaultTarget::kCore;
    case v1::BACKEND:
      return FaultTarget::kBackend;
    default:
      return UnknownValue("target");
  }
}

v1::InstanceStatus ToProto(const InstanceStatus& status) {
  v1::InstanceStatus proto;
  proto.set_name(status.name);
  proto.set_state(status.state);
  proto.set_binary(status.binary);
  proto.set_socket_path(status.socket_path);
  proto.set_active_pid(status.active_pid);
  proto.set_standby_pid(status.standby_pid);
  proto.set_standby_ready(status.standby_ready);
  proto.set_connected(status.connected);
  proto.set_epoch(status.epoch);
  proto.set_uptime_us(status.uptime_us);
  proto.set_recoveries(status.recoveries);
  proto.set_last_recovery_us(status.last_recovery_us);
  proto.set_max_recovery_us(status.max_recovery_us);
  proto.set_median_recovery_us(status.median_recovery_us);
  if (!status.last_exit_cause.empty()) {
    v1::InstanceStatus::Exit* const exit = proto.mutable_last_exit();
    exit->set_cause(status.last_exit_cause);
    exit->set_pid(status.last_exit_pid);
    exit->set_unix_ns(status.last_exit_unix_ns);
  }
  proto.set_segment_bytes(status.segment_bytes);
  proto.set_crash_budget(status.crash_budget);
  for (const auto& [cause, count] : status.restarts) {
    v1::InstanceStatus::RestartCause* const restart = proto.add_restarts();
    restart->set_cause(cause);
    restart->set_count(count);
  }
  for (const std::string& text : status.degraded) proto.add_degraded(text);
  if (!status.backend.binary.empty()) {
    v1::InstanceStatus::Backend* const backend = proto.mutable_backend();
    backend->set_binary(status.backend.binary);
    backend->set_state(status.backend.state);
    backend->set_pid(status.backend.pid);
    backend->set_spare_pid(status.backend.spare_pid);
    backend->set_lives(status.backend.lives);
    backend->set_tracking(status.backend.tracking);
  }
  return proto;
}

v1::ProcessStatus ToProto(const ServantStatus& status) {
  v1::ProcessStatus proto;
  proto.set_name(status.name);
  proto.set_pid(status.pid);
  proto.set_lost(status.lost);
  proto.set_last_loss(status.last_loss);
  for (const std::string& text : status.degraded) proto.add_degraded(text);
  return proto;
}

v1::Event ToProto(const LaunchEvent& event) {
  v1::Event proto;
  proto.set_sequence(event.sequence);
  proto.set_unix_ns(event.unix_ns);
  proto.set_type(event.type);
  proto.set_instance(event.instance);
  proto.set_pid(event.pid);
  proto.set_cause(event.cause);
  proto.set_microseconds(event.microseconds);
  proto.set_detail(event.detail);
  return proto;
}

}  // namespace holdfast::launcher

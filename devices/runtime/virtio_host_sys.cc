#include "devices/runtime/virtio_host_sys.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "devices/runtime/capabilities.h"
#include "devices/runtime/config_notice.h"
#include "devices/runtime/event_sys.h"
#include "devices/vhost_user/message.h"
#include "statestore/inflight.h"
#include "statestore/lane_peek.h"
#include "statestore/queue_stats.h"

namespace holdfast {

DeviceClass OverVhostUser(const VirtioClass& device_class) {
  DeviceClass result;
  result.options = device_class.options;
  result.protocol = "vhost-user";
  result.open = [device_class](const DeviceOptions& options)
      -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    ASSIGN_OR_RETURN(VirtioSpec spec, device_class.spec(options));
    return std::unique_ptr<DeviceHost>(
        std::make_unique<VirtioHost>(device_class, std::move(spec)));
  };
  result.describe =
      [device_class](
          const DeviceOptions& options) -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const VirtioSpec spec, device_class.spec(options));
    return CapabilitiesJson(spec, device_class.options);
  };
  return result;
}

VirtioHost::VirtioHost(const VirtioClass& device_class, VirtioSpec spec)
    : class_(device_class), spec_(std::move(spec)) {}

VirtioHost::~VirtioHost() = default;

uint16_t VirtioHost::MaxQueueSize() const {
  uint16_t size = 0;
  for (const QueueSpec& queue : spec_.queues()) {
    size = std::max(size, queue.max_size);
  }
  return size;
}

absl::Status VirtioHost::AddTo(SegmentSpec& spec) const {
  ASSIGN_OR_RETURN(spec.state, spec_.schema());
  spec.queue_count = static_cast<uint16_t>(spec_.queues().size());
  spec.max_queue_size = MaxQueueSize();
  spec.inflight_size =
      static_cast<uint32_t>(InflightRegionSize(spec.max_queue_size));
  spec.session_size = sizeof(SessionRecord);
  return absl::OkStatus();
}

vhost_user::BackendInfo VirtioHost::MakeBackendInfo() const {
  vhost_user::BackendInfo info;
  info.features = spec_.features(guest_version()) | virtio::kFeatureVersion1 |
                  virtio::kFeatureRingIndirectDesc |
                  virtio::kFeatureRingEventIdx;
  info.protocol_features =
      vhost_user::kProtocolMq | vhost_user::kProtocolLogShmfd |
      vhost_user::kProtocolReplyAck | vhost_user::kProtocolBackendReq |
      vhost_user::kProtocolInflightShmfd | vhost_user::kProtocolResetDevice |
      vhost_user::kProtocolConfigureMemSlots | vhost_user::kProtocolStatus |
      (spec_.config_size() > 0 ? vhost_user::kProtocolConfig : 0);
  info.queue_count = static_cast<uint16_t>(spec_.queues().size());
  info.max_queue_size = MaxQueueSize();
  info.config_size = spec_.config_size();
  info.inflight_slot = kInflightSlot;
  info.inflight_size =
      vhost_user::InflightSize(info.queue_count, info.max_queue_size);
  return info;
}

absl::Status VirtioHost::DepositInflight() {
  if (services_.descriptors->Get(kInflightSlot).valid()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(
      UniqueFd region,
      CreateSealedMemfd("holdfast-inflight", MakeBackendInfo().inflight_size));
  RETURN_IF_ERROR(services_.keeper->Escrow(kInflightSlot, region));
  services_.descriptors->Set(kInflightSlot, std::move(region));
  return absl::OkStatus();
}

absl::Status VirtioHost::Build(const HostServices& services) {
  services_ = services;
  config_event_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  RETURN_IF_ERROR(DepositInflight());
  ASSIGN_OR_RETURN(device_, class_.make(*this));
  const Segment& segment = *services_.segment;
  auto* stats = reinterpret_cast<QueueStats*>(
      segment.section(SectionType::kStats).data());
  auto* stamps = reinterpret_cast<QueueStamp*>(
      segment.section(SectionType::kStamps).data());
  static_assert(VirtioSpec::kMaxQueues <= kMaxQueues);
  for (size_t i = 0; i < spec_.queues().size(); ++i) {
    runners_.push_back(std::make_unique<QueueRunner>(
        static_cast<uint16_t>(i), spec_.queues()[i].workers, *device_, stats[i],
        stamps[i]));
  }
  host_ = std::make_unique<VhostUserHost>(MakeBackendInfo(), *device_, segment,
                                          *services_.descriptors,
                                          *services_.keeper, runners_);
  host_->SetInFlight(class_.in_flight);
  return absl::OkStatus();
}

void VirtioHost::MapAhead() {
  vhost_user::SessionState session;
  if (PeekLaneBank(services_.segment->section(SectionType::kLane),
                   VhostUserHost::Sizes(),
                   {reinterpret_cast<uint8_t*>(&session), sizeof(session)})) {
    host_->MapAhead(session);
  }
}

absl::Status VirtioHost::Resume(Lane& lane, StateBank& state) {
  lane_ = &lane;
  // A standby is not told of changes, and may have looked long ago; the driver
  // may know of them. So before the first request, and the first answer.
  device_->OnResourceChanged();
  return host_->Resume(lane, state);
}

absl::StatusOr<DeviceHost::Served> VirtioHost::Serve(Lane::Waiting waiting) {
  return host_->Serve(*lane_, waiting);
}

void VirtioHost::NotifyConfigChange() { RaiseEvent(config_event_); }

void VirtioHost::ResourceChanged() {
  device_->OnResourceChanged();
  // Whoever says so may repeat it, and is to see that it arrives.
  NotifyConfigChange();
}

void VirtioHost::OnEvent() {
  // A change that nobody asked to tell is a line in the guest's kernel log.
  if (!DrainEvent(config_event_)) return;
  if (lane_ != nullptr) host_->TellConfig(/*asked=*/true);
}

}  // namespace holdfast

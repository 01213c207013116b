#include "devices/runtime/device_process_sys.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "devices/runtime/config_notice.h"
#include "devices/vhost_user/message.h"
#include "statestore/inflight.h"
#include "statestore/lane_peek.h"
#include "statestore/queue_stats.h"
#include "statestore/segment_sys.h"

namespace holdfast {
namespace {

// Holds a lock on the segment while it is formatted, so that an active child
// and a standby that start together do not format together. A lock of the
// process: it ends with it.
class FormatLock {
 public:
  explicit FormatLock(BorrowedFd fd) : fd_(fd) { Set(F_WRLCK); }
  ~FormatLock() { Set(F_UNLCK); }

 private:
  void Set(short type) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    while (fcntl(fd_.get(), F_SETLKW, &lock) != 0 && errno == EINTR) {
    }
  }
  BorrowedFd fd_;
};

}  // namespace

DeviceProcess::DeviceProcess(const DeviceClass& device_class, VirtioSpec spec,
                             const CommandLine& command_line, std::string name)
    : device_class_(device_class),
      spec_(std::move(spec)),
      command_line_(command_line),
      name_(std::move(name)),
      config_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

DeviceProcess::~DeviceProcess() = default;

SegmentSpec DeviceProcess::MakeSegmentSpec() const {
  SegmentSpec spec;
  spec.device = name_;
  spec.compat_version = command_line_.compat_version != 0
                            ? command_line_.compat_version
                            : spec_.compat_version();
  spec.state = *spec_.schema();
  spec.queue_count = static_cast<uint16_t>(spec_.queues().size());
  for (const QueueSpec& queue : spec_.queues()) {
    spec.max_queue_size = std::max(spec.max_queue_size, queue.max_size);
  }
  spec.inflight_size =
      static_cast<uint32_t>(InflightRegionSize(spec.max_queue_size));
  spec.lane_count = 1;
  spec.lane_size = static_cast<uint32_t>(LaneSize(VhostUserHost::Sizes()));
  spec.session_size = sizeof(SessionRecord);
  return spec;
}

absl::StatusOr<size_t> DeviceProcess::SegmentBytes() const {
  RETURN_IF_ERROR(spec_.schema().status());
  return SegmentSize(MakeSegmentSpec());
}

absl::Status DeviceProcess::AttachSegment(BorrowedFd segment) {
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(segment));
  ASSIGN_OR_RETURN(const size_t needed, SegmentBytes());
  if (size < needed) {
    return absl::InvalidArgumentError(
        absl::StrCat("the segment has ", size, " bytes, the device needs ",
                     needed, ": raise segment_bytes in the launch spec"));
  }
  ASSIGN_OR_RETURN(memory_, MapSegmentUnlocked(segment));
  const absl::Status locked = LockMemory(memory_.span().first(needed));
  {
    FormatLock lock(segment);
    if (Segment::IsEmpty(memory_.span())) {
      RETURN_IF_ERROR(FormatSegment(memory_.span(), MakeSegmentSpec()));
    }
  }
  ASSIGN_OR_RETURN(segment_, Segment::Attach(memory_.span()));
  if (!locked.ok()) {
    // The lane must never be missing when the kernel writes an entry of its
    // journal (its first condition). A fault elsewhere costs time only.
    RETURN_IF_ERROR(LockMemory(segment_->section(SectionType::kLane)));
    LogWarning("degraded: only the lane is locked: ", locked.message());
  }
  return CheckSegment();
}

absl::Status DeviceProcess::CheckSegment() const {
  if (segment_->device() != name_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the segment is of a '", segment_->device(),
                     "', this is a '", name_, "'"));
  }
  const SegmentSpec spec = MakeSegmentSpec();
  if (segment_->compat_version() != spec.compat_version) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the segment has compat version ", segment_->compat_version(),
        ", this process serves ", spec.compat_version,
        ": give --compat-version=", segment_->compat_version()));
  }
  if (segment_->queue_count() != spec.queue_count ||
      segment_->max_queue_size() < spec.max_queue_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("the segment has ", segment_->queue_count(), " queues of ",
                     segment_->max_queue_size(), " entries, this process has ",
                     spec.queue_count, " of ", spec.max_queue_size));
  }
  return CheckCompatible(segment_->schema(), *spec_.schema());
}

vhost_user::BackendInfo DeviceProcess::MakeBackendInfo() const {
  vhost_user::BackendInfo info;
  info.features = spec_.features() | virtio::kFeatureVersion1 |
                  virtio::kFeatureRingIndirectDesc |
                  virtio::kFeatureRingEventIdx;
  info.protocol_features =
      vhost_user::kProtocolMq | vhost_user::kProtocolLogShmfd |
      vhost_user::kProtocolReplyAck | vhost_user::kProtocolBackendReq |
      vhost_user::kProtocolInflightShmfd | vhost_user::kProtocolResetDevice |
      vhost_user::kProtocolConfigureMemSlots | vhost_user::kProtocolStatus |
      (spec_.config_size() > 0 ? vhost_user::kProtocolConfig : 0);
  info.queue_count = static_cast<uint16_t>(spec_.queues().size());
  info.max_queue_size = MakeSegmentSpec().max_queue_size;
  info.config_size = spec_.config_size();
  info.inflight_slot = kInflightSlot;
  info.inflight_size =
      vhost_user::InflightSize(info.queue_count, info.max_queue_size);
  return info;
}

absl::Status DeviceProcess::DepositInflight() {
  if (descriptors_.Get(kInflightSlot).valid()) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      UniqueFd region,
      CreateSealedMemfd("holdfast-inflight", MakeBackendInfo().inflight_size));
  RETURN_IF_ERROR(keeper_->Escrow(kInflightSlot, region));
  descriptors_.Set(kInflightSlot, std::move(region));
  return absl::OkStatus();
}

absl::Status DeviceProcess::Build() {
  RETURN_IF_ERROR(DepositInflight());
  ASSIGN_OR_RETURN(device_, device_class_.make(*this));
  auto* stats = reinterpret_cast<QueueStats*>(
      segment_->section(SectionType::kStats).data());
  auto* stamps = reinterpret_cast<QueueStamp*>(
      segment_->section(SectionType::kStamps).data());
  static_assert(VirtioSpec::kMaxQueues <= kMaxQueues);
  for (size_t i = 0; i < spec_.queues().size(); ++i) {
    runners_.push_back(std::make_unique<QueueRunner>(
        static_cast<uint16_t>(i), spec_.queues()[i].workers, *device_, stats[i],
        stamps[i]));
  }
  host_ = std::make_unique<VhostUserHost>(
      MakeBackendInfo(), *device_, *segment_, descriptors_, *keeper_, runners_);
  host_->SetInFlight(device_class_.in_flight);
  return absl::OkStatus();
}

void DeviceProcess::MapAhead() {
  vhost_user::SessionState session;
  if (PeekLaneBank(segment_->section(SectionType::kLane),
                   VhostUserHost::Sizes(),
                   {reinterpret_cast<uint8_t*>(&session), sizeof(session)})) {
    host_->MapAhead(session);
  }
}

absl::Status DeviceProcess::Promote(uint64_t epoch) {
  // A store that was not told of its predecessor's last promotion promotes the
  // active process again: under the same epoch, or under a later one.
  if (active() && epoch == epoch_) return absl::OkStatus();
  if (!segment_->ClaimEpoch(epoch)) {
    return absl::AbortedError("another process owns the segment");
  }
  epoch_ = epoch;
  if (active()) host_->StopQueues();  // They use the bank that is replaced.
  ASSIGN_OR_RETURN(
      state_, StateBank::Attach(segment_->section(SectionType::kState), epoch));
  ASSIGN_OR_RETURN(lane_, Lane::Attach(segment_->section(SectionType::kLane),
                                       VhostUserHost::Sizes(), epoch));
  // A standby is not told of changes, and may have looked long ago; the driver
  // may know of them. So before the first request, and the first answer.
  device_->OnResourceChanged();
  RETURN_IF_ERROR(host_->Resume(*lane_, *state_));
  return Serve();
}

absl::Status DeviceProcess::Serve() {
  const uint64_t before = lane_->sequence();
  ASSIGN_OR_RETURN(const VhostUserHost::Served served, host_->Serve(*lane_));
  stalled_ =
      served == VhostUserHost::Served::kIdle && lane_->sequence() == before;
  return absl::OkStatus();
}

void DeviceProcess::Quiesce() { host_->StopQueues(); }

BorrowedFd DeviceProcess::Resource(absl::string_view name) const {
  const auto it = resources_.find(std::string(name));
  return it == resources_.end() ? BorrowedFd(-1) : descriptors_.Get(it->second);
}

void DeviceProcess::NotifyConfigChange() {
  const uint64_t one = 1;
  (void)!write(config_event_.get(), &one, sizeof(one));
}

void DeviceProcess::ResourceChanged() {
  device_->OnResourceChanged();
  // Whoever says so may repeat it, and is to see that it arrives.
  NotifyConfigChange();
}

void DeviceProcess::TellConfigChange() {
  uint64_t count;
  const iovec part = {&count, sizeof(count)};
  // A change that nobody asked to tell is a line in the guest's kernel log.
  if (preadv2(config_event_.get(), &part, 1, -1, 0) != sizeof(count)) return;
  if (active()) host_->TellConfig(/*asked=*/true);
}

}  // namespace holdfast

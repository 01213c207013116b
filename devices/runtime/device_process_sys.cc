#include "devices/runtime/device_process_sys.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "statestore/segment_sys.h"

namespace holdfast {
namespace {

constexpr int kStallPauseMs = 1;

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

DeviceProcess::DeviceProcess(std::unique_ptr<DeviceHost> host,
                             const CommandLine& command_line, std::string name)
    : command_line_(command_line),
      name_(std::move(name)),
      host_(std::move(host)) {}

DeviceProcess::~DeviceProcess() = default;

absl::StatusOr<SegmentSpec> DeviceProcess::MakeSegmentSpec() const {
  SegmentSpec spec;
  spec.device = name_;
  spec.compat_version = command_line_.compat_version != 0
                            ? command_line_.compat_version
                            : host_->compat_version();
  spec.lane_count = 1;
  spec.lane_size = static_cast<uint32_t>(LaneSize(host_->lane_sizes()));
  RETURN_IF_ERROR(host_->AddTo(spec));
  return spec;
}

absl::StatusOr<size_t> DeviceProcess::SegmentBytes() const {
  ASSIGN_OR_RETURN(const SegmentSpec spec, MakeSegmentSpec());
  return SegmentSize(spec);
}

absl::Status DeviceProcess::AttachSegment(BorrowedFd segment) {
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(segment));
  ASSIGN_OR_RETURN(const SegmentSpec spec, MakeSegmentSpec());
  ASSIGN_OR_RETURN(const size_t needed, SegmentSize(spec));
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
      RETURN_IF_ERROR(FormatSegment(memory_.span(), spec));
    }
  }
  ASSIGN_OR_RETURN(segment_, Segment::Attach(memory_.span()));
  if (!locked.ok()) {
    // The lane must never be missing when the kernel writes an entry of its
    // journal (its first condition). A fault elsewhere costs time only.
    RETURN_IF_ERROR(LockMemory(segment_->section(SectionType::kLane)));
    LogWarning("degraded: only the lane is locked: ", locked.message());
  }
  return CheckSegment(spec);
}

absl::Status DeviceProcess::CheckSegment(const SegmentSpec& spec) const {
  if (segment_->device() != name_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the segment is of a '", segment_->device(),
                     "', this is a '", name_, "'"));
  }
  // The guest goes on with what it was started with, also when its device is a
  // newer binary by now.
  const uint32_t stored = segment_->compat_version();
  if (command_line_.compat_version != 0 &&
      command_line_.compat_version != stored) {
    return absl::FailedPreconditionError(
        absl::StrCat("the guest was started with compat version ", stored,
                     ", not ", command_line_.compat_version,
                     ": give --compat-version=", stored, ", or leave it out"));
  }
  if (stored > host_->compat_version()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the guest was started with compat version ", stored,
                     ", this binary serves 1 to ", host_->compat_version(),
                     ": give it the binary of that release or a later one"));
  }
  if (segment_->queue_count() != spec.queue_count ||
      segment_->max_queue_size() < spec.max_queue_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("the segment has ", segment_->queue_count(), " queues of ",
                     segment_->max_queue_size(), " entries, this process has ",
                     spec.queue_count, " of ", spec.max_queue_size));
  }
  RETURN_IF_ERROR(CheckCompatible(segment_->schema(), spec.state));
  const size_t areas = segment_->section(SectionType::kAreas).size();
  if (areas != spec.areas_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the segment has ", areas, " bytes of areas, this process ",
        spec.areas_size, ": other options, or another release"));
  }
  return absl::OkStatus();
}

absl::Status DeviceProcess::Build() {
  HostServices services;
  services.descriptors = &descriptors_;
  services.keeper = keeper_;
  services.segment = &*segment_;
  services.options = &command_line_.options;
  services.resources = &resources_;
  return host_->Build(services);
}

absl::Status DeviceProcess::Promote(uint64_t epoch) {
  // A store that was not told of its predecessor's last promotion promotes the
  // active process again: under the same epoch, or under a later one.
  if (active() && epoch == epoch_) return absl::OkStatus();
  if (!segment_->ClaimEpoch(epoch)) {
    return absl::AbortedError("another process owns the segment");
  }
  epoch_ = epoch;
  if (active()) host_->Quiesce();  // It uses the bank that is replaced.
  ASSIGN_OR_RETURN(
      state_, StateBank::Attach(segment_->section(SectionType::kState), epoch));
  ASSIGN_OR_RETURN(lane_, Lane::Attach(segment_->section(SectionType::kLane),
                                       host_->lane_sizes(), epoch));
  RETURN_IF_ERROR(host_->Resume(*lane_, *state_));
  return Serve(waiting());
}

absl::Status DeviceProcess::Serve(Lane::Waiting waiting) {
  const uint64_t before = lane_->sequence();
  ASSIGN_OR_RETURN(const DeviceHost::Served served, host_->Serve(waiting));
  stalled_ = host_->waiting() == Lane::Waiting::kLevel &&
             served == DeviceHost::Served::kIdle && lane_->sequence() == before;
  return absl::OkStatus();
}

bool DeviceProcess::IsReplaceable(store::Slot slot) const {
  return std::any_of(
      resources_.begin(), resources_.end(), [&](const auto& resource) {
        return resource.second == slot && host_->IsReplaceable(resource.first);
      });
}

int DeviceProcess::pause_ms() const {
  if (stalled_) return kStallPauseMs;
  if (!active()) return -1;
  const int hosts = host_->pause_ms();
  if (lane_->unread() == 0) return hosts;
  return hosts < 0 ? Lane::kSettlePauseMs
                   : std::min(hosts, Lane::kSettlePauseMs);
}

void DeviceProcess::Quiesce() {
  host_->Quiesce();
  // Or the VMM would not find the end of the stream when the last process that
  // has the socket is gone.
  const BorrowedFd socket = descriptors_.Get(store::kSlotConnection);
  if (active() && socket.valid()) (void)lane_->Settle(socket);
}

}  // namespace holdfast

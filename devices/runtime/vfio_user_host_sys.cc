#include "devices/runtime/vfio_user_host_sys.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/runtime/file_range_sys.h"
#include "devices/vfio_user/message.h"
#include "statestore/lane_peek.h"
#include "statestore/lane_sys.h"
#include "statestore/segment_sys.h"

namespace holdfast {
namespace {

using vfio_user::Afterwards;
using vfio_user::FileId;
using vfio_user::SessionState;

// Data in one message. A segment of a mebibyte has room for lane and windows;
// clients cut what is longer.
constexpr uint32_t kMaxTransfer = 64 << 10;

// Deaths by its own fault. Kills from outside blame nothing.
constexpr uint64_t kCrashesOfPoison = 2;

template <typename T>
bool SameBytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

}  // namespace

LaneSizes VfioUserHost::Sizes() {
  return vfio_user::Server::Sizes(kMaxTransfer);
}

VfioUserHost::VfioUserHost(const Segment& segment, DescriptorSlots& descriptors,
                           DescriptorKeeper& keeper)
    : segment_(segment),
      descriptors_(descriptors),
      keeper_(keeper),
      maps_(windows_, descriptors) {}

VfioUserHost::~VfioUserHost() {
  ObserveCrashes(nullptr);
  asks_.Refuse();  // Its threads end now.
}

VfioUserRecord& VfioUserHost::record() const {
  return *reinterpret_cast<VfioUserRecord*>(
      segment_.section(SectionType::kSession).data());
}

absl::Status VfioUserHost::SetDevice(RegionDevice& device) {
  RETURN_IF_ERROR(UseAsks());
  RETURN_IF_ERROR(vfio_user::CheckDevice(device));
  device_ = &device;
  interrupts_.Describe(device.irqs());
  worker_.emplace(device);
  ObserveCrashes(this);
  return absl::OkStatus();
}

// A segment of an older program has less.
absl::Status VfioUserHost::UseAsks() {
  const absl::Span<uint8_t> section = segment_.section(SectionType::kSession);
  if (section.size() == sizeof(VfioUserRecord)) return absl::OkStatus();
  const bool has_twin = section.size() == sizeof(VfioUserRecordWithTwin);
  if (section.size() != sizeof(VfioUserRecordWithAsks) && !has_twin) {
    return absl::FailedPreconditionError(
        "the segment is of a device that was served by another protocol");
  }
  // The kernel writes to it, as to the lane's journal.
  const absl::Span<uint8_t> journals =
      section.subspan(offsetof(VfioUserRecordWithAsks, asks));
  if (const absl::Status locked = LockMemory(journals); !locked.ok()) {
    LogWarning("degraded: no DMA by message: ", locked.message());
    return absl::OkStatus();
  }
  asks_.SetMemory(
      reinterpret_cast<VfioUserRecordWithAsks*>(section.data())->asks);
  if (!has_twin) return absl::OkStatus();
  return twin_.Open(absl::MakeSpan(
      reinterpret_cast<VfioUserRecordWithTwin*>(section.data())->lane));
}

void VfioUserHost::MapAhead() {
  SessionState session;
  if (PeekLaneBank(segment_.section(SectionType::kLane), Sizes(),
                   {reinterpret_cast<uint8_t*>(&session), sizeof(session)})) {
    maps_.MapAhead(session, record().memory.windows);
  }
}

// The names of accesses ascend from one connection to the next.
void VfioUserHost::NewServer() {
  vfio_user::Serving serving;
  serving.max_transfer = kMaxTransfer;
  serving.connection = static_cast<uint32_t>(record().connections + 1);
  vfio_user::ServerEnvironment& environment = *this;
  server_.emplace(serving, record().memory, *device_, environment);
}

absl::Status VfioUserHost::Resume(Lane& lane) {
  lane_ = &lane;
  twin_.Resume(segment_.epoch());
  NewServer();
  in_line_ = false;
  resuming_ = true;
  const absl::Status resumed = server_->Resume(lane.bank());
  resuming_ = false;
  RETURN_IF_ERROR(resumed);
  RETURN_IF_ERROR(asks_.Resume());
  RETURN_IF_ERROR(device_->Resume());
  worker_->Start();
  return absl::OkStatus();
}

absl::StatusOr<DeviceHost::Served> VfioUserHost::Serve(Lane::Waiting waiting) {
  const BorrowedFd socket = descriptors_.Get(store::kSlotConnection);
  if (!socket.valid()) {
    // What was ordered before the client left would have been cut off.
    worker_->Wake();
    return DeviceHost::Served::kIdle;
  }
  return ServeSocket(socket, waiting);
}

// The VMM's messages, then ours: on one socket the two never send at the same
// time.
absl::StatusOr<DeviceHost::Served> VfioUserHost::ServeSocket(
    BorrowedFd socket, Lane::Waiting waiting) {
  constexpr timespec kPatience = {0, 1'000'000};
  for (;;) {
    const bool run = twin().valid() || !asks_.unfinished();
    if (run) {
      const absl::StatusOr<Lane::Progress> progress =
          lane_->Run(socket, *server_, waiting);
      if (!progress.ok() || *progress != Lane::Progress::kIdle) {
        return GiveUp(progress.status());
      }
      worker_->Wake();
    }
    waiting = Lane::Waiting::kAny;  // If once more: an edge tells it once.
    const BorrowedFd by = twin().valid() ? twin() : socket;
    if (twin().valid()) {
      if (const absl::Status taken = TakeAnswers(); !taken.ok()) {
        (void)lane_->Settle(socket);
        return GiveUp(taken);
      }
    }
    const absl::StatusOr<MessageDma::Sent> sent = SendAsks(by);
    if (!sent.ok()) return GiveUp(sent.status());
    if (*sent == MessageDma::Sent::kClosed) {
      (void)lane_->Settle(socket);
      return GiveUp(absl::OkStatus());
    }
    if (*sent == MessageDma::Sent::kFull) {
      // Not for ever: the VMM may want to be read first.
      pollfd poll = {by.get(), POLLOUT, 0};
      (void)!ppoll(&poll, 1, &kPatience, nullptr);
    } else if (run) {
      return DeviceHost::Served::kIdle;
    }
  }
}

absl::StatusOr<MessageDma::Sent> VfioUserHost::SendAsks(BorrowedFd by) {
  LaneSocket io(by);
  return asks_.Send(io, windows_, std::max(1u, applied_.max_transfer));
}

// A VMM that closes its second socket answers no more.
absl::Status VfioUserHost::TakeAnswers() {
  ASSIGN_OR_RETURN(const Lane::Progress progress,
                   twin_.Serve(twin(), answers_));
  return progress == Lane::Progress::kIdle
             ? absl::OkStatus()
             : absl::UnavailableError("its second socket is closed");
}

// The connection is over: the VMM has closed it, or made a mistake.
absl::StatusOr<DeviceHost::Served> VfioUserHost::GiveUp(
    const absl::Status& why) {
  if (!why.ok()) {
    // Another epoch owns the lane, or its memory is damaged: not the client's
    // doing, and not to be answered by hanging up on it.
    if (absl::IsAborted(why) || absl::IsDataLoss(why)) return why;
    vmm_log_.Warning("closing the VMM's connection: ", why.message());
  }
  RETURN_IF_ERROR(Disconnect());
  return DeviceHost::Served::kDisconnected;
}

// A process that dies in here leaves a connection that is over, so its
// successor comes here, too.
absl::Status VfioUserHost::Disconnect() {
  RETURN_IF_ERROR(ResetDevice());
  asks_.Forget();
  SharedAccess::StoreRelease(&record().connections, record().connections + 1);
  RETURN_IF_ERROR(lane_->ResetConnection());
  NewServer();
  Apply(SessionState{}, record().memory.windows);
  const uint64_t connection = descriptors_.connection();
  descriptors_.SetConnection(UniqueFd(), 0);
  descriptors_.RetainSession(vfio_user::SlotBitmap{});
  keeper_.VmmClosed(connection);
  return absl::OkStatus();
}

// By looking: what ends is either a thread's work or its wait for the VMM,
// which must be served for it. Once in a process's life, as long as its work
// takes.
void VfioUserHost::Quiesce() {
  constexpr timespec kPause = {0, 200'000};
  worker_->Hold();
  while (!worker_->paused()) {
    if (asks_.waiting() && !Serve(Lane::Waiting::kAny).ok()) {
      // Nothing can be committed any more.
      asks_.Refuse();
      worker_->AwaitPause();
      asks_.Accept();
    }
    ppoll(nullptr, 0, &kPause, nullptr);
  }
}

void VfioUserHost::OnEvent() {
  asks_.ClearEvent();
  interrupts_.TakeUnmask(
      [this](uint32_t irq, uint32_t vector) { Unmasked(irq, vector); });
}

// What fails here has lost the state, which the next access finds, too.
void VfioUserHost::ResourceChanged() {
  // Whoever takes over looks by itself.
  if (lane_ == nullptr) return;
  (void)device_->ResourceChanged();
  worker_->Wake();
}

void VfioUserHost::Unmasked(uint32_t irq, uint32_t vector) {
  device_->OnUnmask(irq, vector);
}

// ---- SessionEnvironment ----

absl::StatusOr<FileId> VfioUserHost::IdentifyFile(store::Slot slot) {
  return holdfast::IdentifyFile(descriptors_.Get(slot));
}

absl::Status VfioUserHost::CheckFile(store::Slot slot, uint32_t access,
                                     uint64_t offset, uint64_t size) {
  ASSIGN_OR_RETURN(const FileId file, IdentifyFile(slot));
  if (file.access == O_WRONLY ||
      (file.access == O_RDONLY && (access & vfio_user::kDmaWriteable) != 0)) {
    return absl::PermissionDeniedError(
        "the window's file is not open for what the device may do with it");
  }
  return CheckFileHolds(descriptors_.Get(slot), offset, size);
}

absl::Status VfioUserHost::ReleaseWindow(const vfio_user::WindowState& window) {
  if (watcher_ != nullptr) watcher_->BeforeMemoryChanges();
  maps_.Release(window);
  in_line_ = false;
  return absl::OkStatus();
}

// Work that is cut off commits nothing more, whatever becomes of its transfers;
// and the VMM, which waits for this reset, may be unable to answer them. Once
// more only for work that was begun between the reset and the wait.
absl::Status VfioUserHost::ResetDevice() {
  absl::Status status = device_->Reset();
  while (absl::IsUnavailable(status)) {
    asks_.Refuse();
    worker_->AwaitPause();
    status = device_->Reset();
  }
  asks_.Accept();
  return status;
}

// ---- ServerEnvironment ----

absl::Status VfioUserHost::Escrow(store::Slot slot, UniqueFd descriptor) {
  RETURN_IF_ERROR(keeper_.Escrow(slot, descriptor));
  descriptors_.Set(slot, std::move(descriptor));
  retain_ = true;
  return absl::OkStatus();
}

void VfioUserHost::Apply(const SessionState& state, ConstWindowTable table) {
  if (!in_line_ || !SameBytes(state.windows, applied_.windows)) {
    if (watcher_ != nullptr) watcher_->BeforeMemoryChanges();
    if (const absl::Status mapped = maps_.Apply(state, table); !mapped.ok()) {
      vmm_log_.Error("a window of the VMM is not mapped: ", mapped.message());
    }
    if (watcher_ != nullptr) watcher_->MemoryChanged();
    retain_ = true;
  }
  if (!in_line_ || !SameBytes(state.vectors, applied_.vectors)) {
    interrupts_.Apply(
        state, descriptors_,
        [this](uint32_t irq, uint32_t vector) { Unmasked(irq, vector); });
    if (watcher_ != nullptr) watcher_->VectorsChanged();
    retain_ = true;
  }
  // The VMM has its end of the second socket now.
  retain_ = retain_ || (applied_.reply_region == vfio_user::kReplyTwin &&
                        state.reply_region != vfio_user::kReplyTwin);
  in_line_ = true;
  applied_ = state;
  deciding_ = false;
  // Not while it resumes: descriptors of a message that is yet to be decided
  // may be in escrow.
  if (!retain_ || resuming_) return;
  retain_ = false;
  const vfio_user::SlotBitmap slots = vfio_user::ReferencedSlots(state, table);
  maps_.Keep(slots);
  keeper_.Retain(slots);
  descriptors_.RetainSession(slots);
}

void VfioUserHost::Do(const Afterwards& afterwards) {
  for (uint32_t i = 0; i < afterwards.count; ++i) {
    if (!afterwards.which.empty() && afterwards.which[i] == 0) continue;
    const uint32_t vector = afterwards.start + i;
    if (afterwards.kind == Afterwards::Kind::kSignal) {
      interrupts_.Signal(afterwards.irq, vector);
    } else if (interrupts_.LetThrough(afterwards.irq, vector)) {
      Unmasked(afterwards.irq, vector);
    }
  }
}

void VfioUserHost::Answered() {
  worker_->Wake();
  deciding_ = true;
}

// The name of the access that is made now, if a message is being decided that
// stands for accesses.
uint64_t VfioUserHost::CurrentAccess() const {
  const uint64_t first =
      (record().connections + 1) << 40 | (applied_.accesses + 1);
  const vfio_user::AccessProgress& progress = record().memory.progress;
  return progress.first == first ? first + progress.done : first;
}

// Between the instructions of whatever crashed: stores and nothing else.
void VfioUserHost::OnCrash(int) {
  if (!deciding_) return;
  VfioUserRecord& blame = record();
  const uint64_t access = CurrentAccess();
  const uint64_t crashes = blame.blamed == access ? blame.crashes : 0;
  SharedAccess::Store(&blame.crashes, uint64_t{0});
  SharedAccess::Store(&blame.blamed, access);
  SharedAccess::Store(&blame.crashes, crashes + 1);
}

bool VfioUserHost::IsPoison(AccessId access) {
  if (record().blamed != static_cast<uint64_t>(access) ||
      record().crashes < kCrashesOfPoison) {
    return false;
  }
  vmm_log_.Error("an access has crashed ", record().crashes,
                 " processes and is refused");
  return true;
}

bool VfioUserHost::OfferTwin() {
  std::optional<TwinChannel::Pair> pair = twin_.Begin();
  return pair.has_value() &&
         Escrow(vfio_user::kTwinSlot, std::move(pair->ours)).ok() &&
         Escrow(vfio_user::kTwinClientSlot, std::move(pair->client)).ok();
}

bool VfioUserHost::Take(const vfio_user::Answer& answer) {
  return asks_.Take(answer);
}

void VfioUserHost::Refused(const absl::Status& refusal) {
  refusal_log_.Warning("refused ", refusal.message());
}

}  // namespace holdfast

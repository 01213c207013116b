#include "devices/runtime/vhost_user_host_sys.h"

#include <sys/socket.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/bus/virtio_ids.h"
#include "devices/vhost_user/codec.h"

namespace holdfast {
namespace {

using vhost_user::Decision;
using vhost_user::QueueStart;
using vhost_user::QueueState;
using vhost_user::SessionState;

SessionState StateOf(absl::Span<const uint8_t> bank) {
  SessionState state;
  std::memcpy(&state, bank.data(), sizeof(state));
  return state;
}

template <typename T>
bool SameBytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

bool Logs(const SessionState& state) {
  return (state.features & vhost_user::kFeatureLogAll) != 0 &&
         state.log.slot != 0;
}

// Executions of one message that end in a death before the connection is given
// up. Deaths from outside count, too, and a VMM that loses its device cannot go
// on: so many, but fewer than the launcher's crash budget.
constexpr uint32_t kMaxAttempts = 8;

// What a running queue depends on. Signals may change while it runs.
QueueState WithoutSignals(QueueState queue) {
  queue.call = 0;
  queue.err = 0;
  return queue;
}

}  // namespace

LaneSizes VhostUserHost::Sizes() {
  return {sizeof(SessionState), vhost_user::kMaxMessageSize,
          vhost_user::kMaxReplySize};
}

VhostUserHost::VhostUserHost(const vhost_user::BackendInfo& info,
                             VirtioDevice& device, const Segment& segment,
                             DescriptorSlots& descriptors,
                             DescriptorKeeper& keeper,
                             std::vector<std::unique_ptr<QueueRunner>>& runners)
    : info_(info),
      device_(device),
      segment_(segment),
      descriptors_(descriptors),
      keeper_(keeper),
      runners_(runners),
      config_notice_(segment.section(SectionType::kSession), device,
                     info.config_size) {}

void VhostUserHost::MapAhead(SessionState session) {
  if (!vhost_user::CheckInvariants(session).ok()) return;
  // A descriptor may still be on its way. What was mapped of the slot before is
  // let go of all the same.
  for (vhost_user::RegionState& region : session.regions) {
    if (region.size != 0 && !descriptors_.Get(region.slot).valid()) {
      region = {};
    }
  }
  if (!memory_.Update(session, descriptors_).ok()) memory_.Clear();
}

absl::Status VhostUserHost::Resume(Lane& lane, StateBank& state) {
  state_ = &state;
  const SessionState session = StateOf(lane.bank());
  RETURN_IF_ERROR(vhost_user::CheckInvariants(session));
  applied_ = SessionState{};
  // What cannot be applied is the VMM's doing (memory that it has cut, say).
  // The connection goes on, so that its end is seen and the next VMM served.
  if (const absl::Status applied = Apply(session); !applied.ok()) {
    vmm_log_.Error("the VMM's settings cannot be applied: ", applied.message());
  }
  TellConfig(/*asked=*/false);
  return absl::OkStatus();
}

absl::StatusOr<VhostUserHost::Served> VhostUserHost::Serve(
    Lane& lane, Lane::Waiting waiting) {
  const BorrowedFd socket = descriptors_.Get(store::kSlotConnection);
  if (!socket.valid()) return Served::kIdle;
  const absl::StatusOr<Lane::Progress> progress =
      lane.Run(socket, *this, waiting);
  if (progress.ok() && *progress == Lane::Progress::kIdle) {
    return Served::kIdle;
  }
  if (!progress.ok()) {
    // Another epoch owns the lane, or its memory is damaged: not the VMM's
    // doing, and not to be answered by hanging up on it.
    if (absl::IsAborted(progress.status()) ||
        absl::IsDataLoss(progress.status())) {
      return progress.status();
    }
    vmm_log_.Warning("closing the VMM's connection: ",
                     progress.status().message());
  }
  Disconnect(lane);
  return Served::kDisconnected;
}

void VhostUserHost::Disconnect(Lane& lane) {
  StopQueues();
  device_.Reset();
  if (const absl::Status reset = lane.ResetConnection(); !reset.ok()) {
    vmm_log_.Error("forgetting the connection: ", reset.message());
  }
  applied_ = SessionState{};
  memory_.Clear();
  log_ = UnalignedMapping();
  inflight_ = UnalignedMapping();
  const uint64_t connection = descriptors_.connection();
  descriptors_.SetConnection(UniqueFd(), 0);
  descriptors_.RetainSession(vhost_user::SlotBitmap{});
  keeper_.VmmClosed(connection);
  TellConfig(/*asked=*/false);
}

void VhostUserHost::StopQueues() { QuiesceAll(); }

void VhostUserHost::TellConfig(bool asked) {
  const uint64_t fingerprint = config_notice_.Fingerprint();
  // Without a connection there is nobody who could have read the old one.
  if (descriptors_.Get(store::kSlotConnection).valid() &&
      (asked || config_notice_.Differs(fingerprint))) {
    if (applied_.backend_request == 0) return;
    SendConfigChange(descriptors_.Get(applied_.backend_request));
  }
  config_notice_.Remember(fingerprint);
}

void VhostUserHost::SendConfigChange(BorrowedFd channel) {
  uint8_t bytes[sizeof(vhost_user::MessageHeader)];
  const absl::StatusOr<size_t> size = vhost_user::EncodeBackendRequest(
      vhost_user::BackendRequestType::kConfigChange, /*need_reply=*/false,
      absl::MakeSpan(bytes));
  if (!size.ok()) return;
  iovec part = {bytes, *size};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  // Not waited for: a front-end that does not read must not stop the device. A
  // full channel holds a notice that has not been read yet, which will do.
  (void)SendOne(channel, message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// ---- LaneHandler ----

size_t VhostUserHost::header_size() const {
  return sizeof(vhost_user::MessageHeader);
}

absl::StatusOr<size_t> VhostUserHost::MessageSize(
    absl::Span<const uint8_t> header) const {
  return vhost_user::MessageSize(header);
}

absl::Status VhostUserHost::Escrow(absl::Span<const uint8_t> message,
                                   absl::Span<UniqueFd> fds) {
  ASSIGN_OR_RETURN(const vhost_user::Request request,
                   vhost_user::Parse(message));
  ASSIGN_OR_RETURN(const vhost_user::SlotList slots,
                   vhost_user::SlotsFor(applied_, request, fds.size()));
  for (size_t i = 0; i < slots.count; ++i) {
    RETURN_IF_ERROR(keeper_.Escrow(slots.slots[i], fds[i]));
    descriptors_.Set(slots.slots[i], std::move(fds[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<LaneHandler::Outcome> VhostUserHost::Execute(
    absl::Span<const uint8_t> message, size_t fd_count,
    absl::Span<const uint8_t> old_bank, absl::Span<uint8_t> new_bank,
    absl::Span<uint8_t> reply, uint32_t attempts) {
  if (attempts > kMaxAttempts) {
    return absl::InternalError(
        absl::StrCat("a request of the VMM was executed ", attempts,
                     " times without success"));
  }
  const SessionState old_state = StateOf(old_bank);
  RETURN_IF_ERROR(vhost_user::CheckInvariants(old_state));
  ASSIGN_OR_RETURN(const vhost_user::Request request,
                   vhost_user::Parse(message));
  ASSIGN_OR_RETURN(const vhost_user::SlotList slots,
                   vhost_user::SlotsFor(old_state, request, fd_count));
  ASSIGN_OR_RETURN(
      const Decision decision,
      vhost_user::Decide(old_state, request, slots, info_, *this, reply));
  if (!decision.refusal.ok()) {
    refusal_log_.Warning("refused ", decision.refusal.message());
  }
  std::memcpy(new_bank.data(), &decision.next, sizeof(decision.next));
  return Outcome{decision.reply_size, decision.reply_slot != 0};
}

void VhostUserHost::Committed(absl::Span<const uint8_t> bank) {
  const SessionState session = StateOf(bank);
  const vhost_user::SlotBitmap before = vhost_user::ReferencedSlots(applied_);
  const bool has_channel = session.backend_request != applied_.backend_request;
  if (const absl::Status applied = Apply(session); !applied.ok()) {
    vmm_log_.Error("the VMM's settings cannot be applied: ", applied.message());
  }
  if (has_channel) TellConfig(/*asked=*/false);
  const vhost_user::SlotBitmap after = vhost_user::ReferencedSlots(session);
  if (before != after) {
    keeper_.Retain(after);
    descriptors_.RetainSession(after);
  }
}

absl::Span<const int> VhostUserHost::ReplyFds(absl::Span<const uint8_t>) {
  // GET_INFLIGHT_FD is the only reply that carries one.
  reply_fd_ = descriptors_.Get(info_.inflight_slot).get();
  return {&reply_fd_, 1};
}

// ---- SessionEnvironment ----

absl::Status VhostUserHost::PrepareQueue(const SessionState& next,
                                         uint16_t queue, QueueStart how) {
  if (queue >= runners_.size()) {
    return absl::InvalidArgumentError("no such queue");
  }
  if (how == QueueStart::kAdopt) return absl::OkStatus();
  // The ring itself is read when it starts: the table takes the used index
  // that it then finds. Until then the table says that it knows nothing.
  if (!SameBytes(next.inflight, applied_.inflight)) {
    RETURN_IF_ERROR(ApplyInflight(next));
  }
  ASSIGN_OR_RETURN(InflightTable table, TableOf(next, queue));
  table.Forget();
  return absl::OkStatus();
}

uint32_t VhostUserHost::QuiesceQueue(uint16_t queue) {
  return queue < runners_.size() ? runners_[queue]->Stop() : 0;
}

void VhostUserHost::QuiesceAll() {
  for (auto& runner : runners_) runner->Stop();
}

void VhostUserHost::ClearInflight() {
  const absl::StatusOr<UnalignedMapping> region = MapUnaligned(
      descriptors_.Get(info_.inflight_slot), 0, info_.inflight_size);
  if (region.ok()) std::memset(region->inside, 0, info_.inflight_size);
}

absl::Status VhostUserHost::ReadConfig(uint32_t offset,
                                       absl::Span<uint8_t> bytes) {
  device_.ReadConfig(offset, bytes);
  return absl::OkStatus();
}

absl::Status VhostUserHost::WriteConfig(uint32_t offset, bool,
                                        absl::Span<const uint8_t> bytes) {
  const bool told = !config_notice_.Differs(config_notice_.Fingerprint());
  RETURN_IF_ERROR(device_.WriteConfig(offset, bytes));
  // The driver knows what it wrote itself.
  if (told) config_notice_.Remember(config_notice_.Fingerprint());
  return absl::OkStatus();
}

absl::Status VhostUserHost::CheckRegion(store::Slot slot, uint64_t offset,
                                        uint64_t size) {
  return CheckFileHolds(descriptors_.Get(slot), offset, size);
}

void VhostUserHost::ResetDevice() {
  QuiesceAll();
  device_.Reset();
}

// ---- Applying a session ----

// What fails stays undone and is reported; `applied_` is the committed session
// all the same, since the next message is judged by that.
absl::Status VhostUserHost::Apply(const SessionState& session) {
  const bool shared_changes = !memory_.IsCurrent(session, descriptors_) ||
                              session.features != applied_.features ||
                              !SameBytes(session.log, applied_.log) ||
                              !SameBytes(session.inflight, applied_.inflight);
  absl::Status result;
  if (shared_changes) {
    QuiesceAll();
    device_.OnFeatures(session.features);
    result.Update(ApplyMemory(session));
    result.Update(ApplyLog(session));
    result.Update(ApplyInflight(session));
  }
  for (uint16_t i = 0; result.ok() && i < runners_.size(); ++i) {
    result.Update(ApplyQueue(session, i));
  }
  applied_ = session;
  return result;
}

absl::Status VhostUserHost::ApplyMemory(const SessionState& session) {
  return memory_.Update(session, descriptors_);
}

absl::Status VhostUserHost::ApplyLog(const SessionState& session) {
  memory_.memory().SetLog({});
  log_ = UnalignedMapping();
  if (!Logs(session)) return absl::OkStatus();
  ASSIGN_OR_RETURN(log_, MapUnaligned(descriptors_.Get(session.log.slot),
                                      session.log.offset, session.log.size));
  memory_.memory().SetLog({log_.inside, session.log.size});
  return absl::OkStatus();
}

absl::Status VhostUserHost::ApplyInflight(const SessionState& session) {
  inflight_ = UnalignedMapping();
  if (session.inflight.slot == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      inflight_, MapUnaligned(descriptors_.Get(session.inflight.slot),
                              session.inflight.offset, session.inflight.size));
  return absl::OkStatus();
}

absl::Status VhostUserHost::ApplyQueue(const SessionState& session,
                                       uint16_t queue) {
  QueueRunner& runner = *runners_[queue];
  const QueueState& next = session.queues[queue];
  if (!vhost_user::QueueRuns(session, queue)) {
    runner.Stop();
    return absl::OkStatus();
  }
  const BorrowedFd call(next.call == vhost_user::kSlotPolled || next.call == 0
                            ? -1
                            : descriptors_.Get(next.call).get());
  const QueueState& before = applied_.queues[queue];
  if (runner.running() &&
      SameBytes(WithoutSignals(before), WithoutSignals(next))) {
    if (before.call != next.call) runner.SetCall(call);
    return absl::OkStatus();
  }
  runner.Stop();
  ASSIGN_OR_RETURN(QueueRunner::Config config, ConfigOf(session, queue));
  config.call = call;
  const absl::Status started = runner.Start(std::move(config));
  if (!absl::IsDataLoss(started)) return started;
  // The table and the ring contradict each other: the guest has laid the ring
  // out anew, or written over it. A new life of the queue serves it again.
  vmm_log_.Error("queue ", queue,
                 ": what was in flight is given up: ", started.message());
  ASSIGN_OR_RETURN(InflightTable table, TableOf(session, queue));
  table.Forget();
  ASSIGN_OR_RETURN(config, ConfigOf(session, queue));
  config.call = call;
  return runner.Start(std::move(config));
}

absl::StatusOr<QueueRunner::Config> VhostUserHost::ConfigOf(
    const SessionState& session, uint16_t queue) {
  const QueueState& state = session.queues[queue];
  ASSIGN_OR_RETURN(const SplitRingConfig ring_config, RingOf(session, queue));
  ASSIGN_OR_RETURN(absl::optional<InflightTable> table,
                   TableOf(session, queue));
  uint16_t base = static_cast<uint16_t>(state.base);
  if (in_flight_ != InFlight::kTracked) {
    table->Forget();
    if (in_flight_ == InFlight::kUntracked) table.reset();
    std::memcpy(&base, ring_config.used + offsetof(vring::Used, idx),
                sizeof(base));
  }
  ASSIGN_OR_RETURN(
      SplitRing ring,
      SplitRing::Create(ring_config, &memory_.memory(), std::move(table)));
  QueueRunner::Config config{std::move(ring), state_};
  config.kick = descriptors_.Get(state.kick);
  config.base = base;
  if ((state.address_flags & vhost_user::kVringFlagLog) != 0) {
    config.used_log = GuestAddress{state.log_address};
  }
  return config;
}

absl::StatusOr<SplitRingConfig> VhostUserHost::RingOf(
    const SessionState& session, uint16_t queue) {
  const QueueState& state = session.queues[queue];
  SplitRingConfig config;
  config.size = static_cast<uint16_t>(state.num);
  config.event_idx = (session.features & virtio::kFeatureRingEventIdx) != 0;
  config.indirect = (session.features & virtio::kFeatureRingIndirectDesc) != 0;
  const GuestMemory& memory = memory_.memory();
  config.descriptors = memory
                           .TranslateUser(UserAddress{state.descriptor},
                                          vring::DescriptorBytes(config.size))
                           .host;
  config.available =
      memory
          .TranslateUser(UserAddress{state.available},
                         vring::AvailableBytes(config.size, config.event_idx))
          .host;
  config.used =
      memory
          .TranslateUser(UserAddress{state.used},
                         vring::UsedBytes(config.size, config.event_idx))
          .host;
  if (config.descriptors == nullptr || config.available == nullptr ||
      config.used == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring ", queue, " lies outside the guest's memory"));
  }
  return config;
}

absl::StatusOr<InflightTable> VhostUserHost::TableOf(
    const SessionState& session, uint16_t queue) {
  const auto num = static_cast<uint16_t>(session.queues[queue].num);
  absl::Span<uint8_t> region;
  if (session.inflight.slot != 0) {
    const size_t stride = InflightRegionSize(session.inflight.queue_size);
    if (queue >= session.inflight.queue_count ||
        (queue + 1) * stride > session.inflight.size) {
      return absl::InvalidArgumentError(
          absl::StrCat("the in-flight region has no place for queue ", queue));
    }
    region = {inflight_.inside + queue * stride, stride};
  } else {
    region = segment_.section(SectionType::kInflight, queue);
  }
  return InflightTable::Attach(region, num);
}

}  // namespace holdfast

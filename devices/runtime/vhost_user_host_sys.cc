#include "devices/runtime/vhost_user_host_sys.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/vhost_user/ring_place.h"

namespace holdfast {
namespace {

using vhost_user::QueueStart;
using vhost_user::QueueState;
using vhost_user::SessionState;

template <typename T>
bool SameBytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

bool Logs(const SessionState& state) {
  return (state.features & vhost_user::kFeatureLogAll) != 0 &&
         state.log.slot != 0;
}

// What a running queue depends on. Signals may change while it runs.
QueueState WithoutSignals(QueueState queue) {
  queue.call = 0;
  queue.err = 0;
  return queue;
}

}  // namespace

VhostUserHost::VhostUserHost(const vhost_user::BackendInfo& info,
                             VirtioDevice& device, const Segment& segment,
                             DescriptorSlots& descriptors,
                             DescriptorKeeper& keeper,
                             std::vector<std::unique_ptr<QueueRunner>>& runners)
    : SessionHost(info, descriptors, keeper),
      device_(device),
      segment_(segment),
      runners_(runners),
      config_notice_(segment.section(SectionType::kSession), device,
                     info.config_size) {}

absl::Status VhostUserHost::Resume(Lane& lane, StateBank& state) {
  state_ = &state;
  return ResumeSession(lane);
}

void VhostUserHost::Forget() {
  QuiesceAll();
  device_.Reset();
  memory_.Clear();
  log_ = UnalignedMapping();
  inflight_ = UnalignedMapping();
}

void VhostUserHost::TellConfig(bool asked) {
  const uint64_t fingerprint = config_notice_.Fingerprint();
  // Without a connection there is nobody who could have read the old one.
  if (descriptors_.Get(store::kSlotConnection).valid() &&
      (asked || config_notice_.Differs(fingerprint))) {
    if (applied().backend_request == 0) return;
    SendConfigChange();
  }
  config_notice_.Remember(fingerprint);
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
  if (!SameBytes(next.inflight, applied().inflight)) {
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

void VhostUserHost::ResetDevice() {
  QuiesceAll();
  device_.Reset();
}

// ---- Applying a session ----

absl::Status VhostUserHost::Apply(const SessionState& session) {
  const bool shared_changes = !memory_.IsCurrent(session, descriptors_) ||
                              session.features != applied().features ||
                              !SameBytes(session.log, applied().log) ||
                              !SameBytes(session.inflight, applied().inflight);
  absl::Status result;
  if (shared_changes) {
    QuiesceAll();
    device_.OnFeatures(session.features);
    result.Update(memory_.Update(session, descriptors_));
    result.Update(ApplyLog(session));
    result.Update(ApplyInflight(session));
  }
  for (uint16_t i = 0; result.ok() && i < runners_.size(); ++i) {
    result.Update(ApplyQueue(session, i));
  }
  return result;
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
  const QueueState& before = applied().queues[queue];
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
  ASSIGN_OR_RETURN(const SplitRingConfig ring_config,
                   vhost_user::PlaceOf(session, queue, memory_.memory()));
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

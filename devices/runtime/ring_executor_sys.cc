#include "devices/runtime/ring_executor_sys.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/bus/virtio_ids.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast {
namespace {

using virtio_pci::InterruptRoute;
using virtio_pci::RingLayout;

void Raise(BorrowedFd event) {
  const uint64_t one = 1;
  (void)!write(event.get(), &one, sizeof(one));
}

// Windows as memory that queues may read and write; neighbours that are mapped
// side by side are one. Others than for both are left out: rings do not say
// before what they are used for.
std::vector<GuestRegion> RegionsOf(const std::vector<DmaWindow>& windows) {
  std::vector<GuestRegion> regions;
  for (const DmaWindow& window : windows) {
    if (window.access != DmaAccess::kReadWrite) continue;
    if (!regions.empty()) {
      GuestRegion& last = regions.back();
      if (ToInt(last.guest_address) + last.size == ToInt(window.address) &&
          last.host + last.size == window.host) {
        last.size += window.size;
        continue;
      }
    }
    regions.push_back({window.address, window.size,
                       UserAddress{ToInt(window.address)}, window.host});
  }
  return regions;
}

}  // namespace

// A worker's: whatever the route, what waits is seen by the control thread.
void RingExecutor::Interrupt::Signal() {
  const InterruptRoute route = route_.load();
  switch (route.kind) {
    case InterruptRoute::Kind::kNone:
      return;
    case InterruptRoute::Kind::kMessage:
      return executor_.irqs_.Signal(kPciMsixIrq, route.vector);
    case InterruptRoute::Kind::kRegister:
      executor_.waiting_.fetch_or(uint64_t{1} << queue_);
      return Raise(executor_.wake_);
  }
}

RingExecutor::RingExecutor(const VirtioSpec& spec, VirtioDevice& device,
                           const Segment& segment, IrqSink& irqs,
                           BorrowedFd wake)
    : segment_(segment), irqs_(irqs), wake_(wake) {
  auto* stats = reinterpret_cast<QueueStats*>(
      segment.section(SectionType::kStats).data());
  auto* stamps = reinterpret_cast<QueueStamp*>(
      segment.section(SectionType::kStamps).data());
  for (uint16_t i = 0; i < spec.queues().size(); ++i) {
    Queue queue;
    queue.kick.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    queue.interrupt = std::make_unique<Interrupt>(*this, i);
    queue.runner = std::make_unique<QueueRunner>(i, spec.queues()[i].workers,
                                                 device, stats[i], stamps[i]);
    queues_.push_back(std::move(queue));
  }
}

// ---- As the registers say ----

absl::Status RingExecutor::Start(uint16_t queue, const RingLayout& ring) {
  if (queue >= queues_.size()) {
    return absl::InvalidArgumentError("no such queue");
  }
  queues_[queue].ring = ring;
  if (held_) return absl::OkStatus();
  const absl::Status status = Run(queue);
  if (!status.ok()) queues_[queue].ring.reset();
  return status;
}

void RingExecutor::End(uint16_t queue) {
  if (queue >= queues_.size()) return;
  queues_[queue].runner->Stop();
  queues_[queue].ring.reset();
  Forget(queue);
}

void RingExecutor::Route(uint16_t queue, InterruptRoute route) {
  if (queue >= queues_.size()) return;
  Queue& it = queues_[queue];
  it.interrupt->Set(route);
  if (it.runner->running()) it.interrupt->Signal();
}

void RingExecutor::Kick(uint16_t queue) {
  if (queue < queues_.size()) Raise(queues_[queue].kick);
}

// ---- As process and VMM say ----

void RingExecutor::Hold() {
  held_ = true;
  for (Queue& queue : queues_) queue.runner->Stop();
}

void RingExecutor::Release() {
  held_ = false;
  RunAll();
}

void RingExecutor::LetGo() {
  for (Queue& queue : queues_) queue.runner->Stop();
  memory_ = GuestMemory();
  windows_.clear();
}

void RingExecutor::SetMemory(std::vector<DmaWindow> windows) {
  LetGo();
  absl::StatusOr<GuestMemory> memory = GuestMemory::Create(RegionsOf(windows));
  if (!memory.ok()) {
    return log_.Error("queues have no memory: ", memory.status().message());
  }
  windows_ = std::move(windows);
  memory_ = *std::move(memory);
  if (!held_) RunAll();
}

void RingExecutor::SignalAll() {
  for (Queue& queue : queues_) {
    if (queue.runner->running()) queue.interrupt->Signal();
  }
}

void RingExecutor::RunAll() {
  for (uint16_t i = 0; i < queues_.size(); ++i) {
    if (!queues_[i].ring.has_value() || queues_[i].runner->running()) continue;
    const absl::Status status = Run(i);
    if (status.ok()) continue;
    log_.Warning("queue ", i, " waits: ", status.message());
  }
}

// ---- Rings ----

absl::Status RingExecutor::Run(uint16_t index) {
  if (state_ == nullptr) return absl::FailedPreconditionError("no state");
  ASSIGN_OR_RETURN(QueueRunner::Config config, ConfigOf(index));
  QueueRunner& runner = *queues_[index].runner;
  const absl::Status started = runner.Start(std::move(config));
  if (!absl::IsDataLoss(started)) return started;
  // Table and ring contradict each other: the guest has written over the ring.
  // A new life of the queue serves it again.
  log_.Error("queue ", index,
             ": what was in flight is given up: ", started.message());
  Forget(index);
  ASSIGN_OR_RETURN(config, ConfigOf(index));
  return runner.Start(std::move(config));
}

absl::StatusOr<QueueRunner::Config> RingExecutor::ConfigOf(uint16_t index) {
  const Queue& queue = queues_[index];
  ASSIGN_OR_RETURN(const SplitRingConfig place, PlaceOf(*queue.ring));
  ASSIGN_OR_RETURN(
      InflightTable table,
      InflightTable::Attach(segment_.section(SectionType::kInflight, index),
                            place.size));
  ASSIGN_OR_RETURN(SplitRing ring,
                   SplitRing::Create(place, &memory_, std::move(table)));
  QueueRunner::Config config{std::move(ring), state_};
  config.kick = queue.kick;
  config.signal = queue.interrupt.get();
  return config;
}

absl::StatusOr<SplitRingConfig> RingExecutor::PlaceOf(
    const RingLayout& ring) const {
  SplitRingConfig config;
  config.size = ring.size;
  config.event_idx = (ring.features & virtio::kFeatureRingEventIdx) != 0;
  config.indirect = (ring.features & virtio::kFeatureRingIndirectDesc) != 0;
  config.descriptors =
      memory_.Translate(ring.descriptors, vring::DescriptorBytes(config.size));
  config.available = memory_.Translate(
      ring.available, vring::AvailableBytes(config.size, config.event_idx));
  config.used = memory_.Translate(
      ring.used, vring::UsedBytes(config.size, config.event_idx));
  if (config.descriptors == nullptr || config.available == nullptr ||
      config.used == nullptr) {
    return absl::InvalidArgumentError(
        "the ring lies outside the memory that the VMM has granted");
  }
  return config;
}

// The smallest table will do: what is forgotten is in its header.
void RingExecutor::Forget(uint16_t index) {
  absl::StatusOr<InflightTable> table =
      InflightTable::Attach(segment_.section(SectionType::kInflight, index), 1);
  if (table.ok()) table->Forget();
}

}  // namespace holdfast

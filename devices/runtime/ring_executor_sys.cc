#include "devices/runtime/ring_executor_sys.h"

#include <sys/eventfd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/bus/virtio_ids.h"
#include "devices/runtime/event_sys.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast {
namespace {

using virtio_pci::InterruptRoute;
using virtio_pci::RingLayout;

// Windows as memory that queues may read and write; neighbours that are mapped
// side by side are one. Others than for both are left out: rings do not say
// before what they are used for, and are reached by transfers then.
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

// All but where it lies.
SplitRingConfig Negotiated(const RingLayout& ring) {
  SplitRingConfig config;
  config.size = ring.size;
  config.event_idx = (ring.features & virtio::kFeatureRingEventIdx) != 0;
  config.indirect = (ring.features & virtio::kFeatureRingIndirectDesc) != 0;
  return config;
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
      return RaiseEvent(executor_.wake_);
  }
}

RingExecutor::RingExecutor(const VirtioSpec& spec, VirtioDevice& device,
                           const Segment& segment, IrqSink& irqs,
                           DmaWindows& dma, MessageDma& messages,
                           BorrowedFd wake)
    : segment_(segment),
      irqs_(irqs),
      dma_(dma),
      messages_(messages),
      wake_(wake) {
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
    queue.dma_runner =
        std::make_unique<DmaQueueRunner>(i, device, stats[i], stamps[i], dma);
    queues_.push_back(std::move(queue));
  }
}

RingExecutor::~RingExecutor() {
  messages_.Refuse();  // Threads end now.
  queues_.clear();
  messages_.Accept();
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
  Stop({&queues_[queue], 1});
  queues_[queue].ring.reset();
  Forget(queue);
}

void RingExecutor::Route(uint16_t queue, InterruptRoute route) {
  if (queue >= queues_.size()) return;
  Queue& it = queues_[queue];
  it.interrupt->Set(route);
  if (it.running()) it.interrupt->Signal();
}

void RingExecutor::Kick(uint16_t queue) {
  if (queue < queues_.size()) RaiseEvent(queues_[queue].kick);
}

// ---- As process and VMM say ----

void RingExecutor::Hold() {
  held_ = true;
  Stop(absl::MakeSpan(queues_));
}

void RingExecutor::Release() {
  held_ = false;
  RunAll();
}

// Queues that wait for the VMM, which perhaps waits for this thread, would be
// waited for in vain.
void RingExecutor::Stop(absl::Span<Queue> queues) {
  bool by_dma = false;
  for (Queue& queue : queues) {
    queue.runner->Stop();
    by_dma = by_dma || queue.dma_runner->running();
  }
  if (!by_dma) return;
  messages_.Refuse();
  for (Queue& queue : queues) queue.dma_runner->Stop();
  messages_.Accept();
  // Others, whose transfers have failed with theirs, go on.
  for (Queue& queue : queues_) {
    if (queue.dma_runner->running()) RaiseEvent(queue.kick);
  }
}

void RingExecutor::LetGo() {
  Stop(absl::MakeSpan(queues_));
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
    if (queue.running()) queue.interrupt->Signal();
  }
}

void RingExecutor::RunAll() {
  for (uint16_t i = 0; i < queues_.size(); ++i) {
    if (!queues_[i].ring.has_value() || queues_[i].running()) continue;
    const absl::Status status = Run(i);
    if (status.ok()) continue;
    log_.Warning("queue ", i, " waits: ", status.message());
  }
}

// ---- Rings ----

absl::Status RingExecutor::Run(uint16_t index) {
  if (state_ == nullptr) return absl::FailedPreconditionError("no state");
  const std::optional<SplitRingConfig> place = PlaceOf(*queues_[index].ring);
  return place.has_value() ? RunInPlace(index, *place) : RunByDma(index);
}

absl::Status RingExecutor::RunInPlace(uint16_t index,
                                      const SplitRingConfig& place) {
  ASSIGN_OR_RETURN(QueueRunner::Config config, ConfigOf(index, place));
  QueueRunner& runner = *queues_[index].runner;
  const absl::Status started = runner.Start(std::move(config));
  if (!absl::IsDataLoss(started)) return started;
  // Table and ring contradict each other: the guest has written over the ring.
  // A new life of the queue serves it again.
  log_.Error("queue ", index,
             ": what was in flight is given up: ", started.message());
  Forget(index);
  ASSIGN_OR_RETURN(config, ConfigOf(index, place));
  return runner.Start(std::move(config));
}

absl::StatusOr<QueueRunner::Config> RingExecutor::ConfigOf(
    uint16_t index, const SplitRingConfig& place) {
  const Queue& queue = queues_[index];
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

std::optional<SplitRingConfig> RingExecutor::PlaceOf(
    const RingLayout& ring) const {
  SplitRingConfig config = Negotiated(ring);
  config.descriptors =
      memory_.Translate(ring.descriptors, vring::DescriptorBytes(config.size));
  config.available = memory_.Translate(
      ring.available, vring::AvailableBytes(config.size, config.event_idx));
  config.used = memory_.Translate(
      ring.used, vring::UsedBytes(config.size, config.event_idx));
  if (config.descriptors == nullptr || config.available == nullptr ||
      config.used == nullptr) {
    return std::nullopt;
  }
  return config;
}

absl::Status RingExecutor::RunByDma(uint16_t index) {
  const Queue& queue = queues_[index];
  const RingLayout& ring = *queue.ring;
  DmaQueueRunner::Config config;
  config.ring = Negotiated(ring);
  const uint16_t size = config.ring.size;
  const bool event_idx = config.ring.event_idx;
  RETURN_IF_ERROR(dma_.CheckGranted(
      ring.descriptors, vring::DescriptorBytes(size), DmaAccess::kRead));
  RETURN_IF_ERROR(dma_.CheckGranted(ring.available,
                                    vring::AvailableBytes(size, event_idx),
                                    DmaAccess::kRead));
  RETURN_IF_ERROR(dma_.CheckGranted(
      ring.used, vring::UsedBytes(size, event_idx), DmaAccess::kReadWrite));
  if (!messages_.has_memory()) {
    return absl::UnavailableError(
        "the ring is not mapped, and the VMM cannot be asked: the instance was "
        "started by an older program, or without locked memory");
  }
  const auto name = [](GuestAddress address) {
    return reinterpret_cast<uint8_t*>(uintptr_t{ToInt(address)});
  };
  config.ring.descriptors = name(ring.descriptors);
  config.ring.available = name(ring.available);
  config.ring.used = name(ring.used);
  RETURN_IF_ERROR(SplitRing::Check(config.ring));
  config.inflight = segment_.section(SectionType::kInflight, index);
  config.state = state_;
  config.kick = queue.kick;
  config.signal = queue.interrupt.get();
  queue.dma_runner->Start(config);
  return absl::OkStatus();
}

// The smallest table will do: what is forgotten is in its header.
void RingExecutor::Forget(uint16_t index) {
  absl::StatusOr<InflightTable> table =
      InflightTable::Attach(segment_.section(SectionType::kInflight, index), 1);
  if (table.ok()) table->Forget();
}

}  // namespace holdfast

// Shadow doorbells (sections 5.7 and B.5): the guest writes tails and heads of
// its I/O queues into its own memory, and a register only when the value passes
// the one that the controller has left beside it, its event. The admin queue
// is rung for always.
//
// What is in that memory is a hint that may come late, never a state: a
// successor serves all queues once, so it finds what a predecessor had seen and
// what it had not, and leaves events of its own.
#include <cstring>

#include "base/shared_access.h"
#include "devices/pci_nvme/pci_nvme.h"

namespace holdfast::nvme {
namespace {

uint32_t TailOf(size_t queue) { return static_cast<uint32_t>(2 * queue); }
uint32_t HeadOf(size_t queue) { return static_cast<uint32_t>(2 * queue + 1); }

absl::Status WriteWord(uint64_t address, uint32_t value, Dma& dma) {
  uint8_t bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  return dma.Write(GuestAddress{address}, bytes);
}

}  // namespace

// What queues hold that live already is where their shadows begin.
PciNvme::Outcome PciNvme::SetDoorbellBuffers(const Command& command,
                                             PciContext& context) {
  if (!identity_.shadow_doorbells) return {Status::kInvalidOpcode};
  if (command.prp1 % kPageSize != 0 || command.prp2 % kPageSize != 0 ||
      command.prp1 == 0 || command.prp2 == 0) {
    return {Status::kInvalidField};
  }
  Gate::Alone alone(gate_);
  Dma& dma = context.dma();
  absl::Status written;
  const auto put = [&](uint32_t doorbell, uint32_t value) {
    for (const uint64_t base : {command.prp1, command.prp2}) {
      written.Update(WriteWord(base + 4 * doorbell, value, dma));
    }
  };
  for (size_t i = 1; i <= io_queues_; ++i) {
    if (sqs_[i].live) put(TailOf(i), SubmissionQueue::TailIn(sqs_[i].area));
    if (cqs_[i].live) put(HeadOf(i), CompletionQueue::HeadIn(cqs_[i].area));
  }
  if (!written.ok()) return {Status::kDataTransferError};
  sqs_[0].queue.SetShadows(command.prp1, command.prp2);
  events_.store(command.prp2);
  shadows_.store(command.prp1);
  return {};
}

// Nothing if there are no shadows, or this one is none of its queue.
absl::optional<uint32_t> PciNvme::Shadow(uint32_t doorbell, uint32_t size,
                                         PciContext& context) {
  const uint64_t shadows = shadows_.load();
  if (shadows == 0) return absl::nullopt;
  uint8_t bytes[sizeof(uint32_t)];
  const GuestAddress at{shadows + 4 * doorbell};
  if (!context.dma().Read(at, bytes).ok()) return absl::nullopt;
  uint32_t value;
  std::memcpy(&value, bytes, sizeof(value));
  if (value >= size) return absl::nullopt;
  return value;
}

// The guest writes, then looks; we write, then look.
void PciNvme::PublishEvent(uint32_t doorbell, uint32_t value,
                           PciContext& context) {
  const uint64_t events = events_.load();
  if (events == 0) return;
  static_cast<void>(WriteWord(events + 4 * doorbell, value, context.dma()));
  SharedAccess::Fence();
}

bool PciNvme::FindTail(Submission& sq, PciContext& context) {
  const size_t queue = &sq - sqs_.data();
  if (shadows_.load() == 0 || queue == 0) return false;
  const auto look = [&] {
    const absl::optional<uint32_t> tail =
        Shadow(TailOf(queue), sq.queue.config().size, context);
    if (tail.has_value()) SubmissionQueue::StoreTail(sq.area, *tail);
    return sq.queue.HasNew();
  };
  if (look()) return true;
  PublishEvent(TailOf(queue), sq.queue.head(), context);
  return look();
}

// The caller waits for room, or for the guest to have seen all: a doorbell that
// is rung after the last look calls it.
bool PciNvme::FindHead(CompletionSide& cq, PciContext& context) {
  const size_t queue = &cq - cqs_.data();
  if (shadows_.load() == 0 || queue == 0) return false;
  const uint32_t size = cq.queue.config().size;
  bool moved = false;
  // A guest that takes what it was given comes to rest before that.
  for (uint32_t looks = 0; looks < 2 * size; ++looks) {
    const uint32_t known = CompletionQueue::HeadIn(cq.area);
    PublishEvent(HeadOf(queue), known, context);
    const absl::optional<uint32_t> head = Shadow(HeadOf(queue), size, context);
    if (!head.has_value() || *head == known) break;
    CompletionQueue::StoreHead(cq.area, *head);
    moved = true;
  }
  return moved;
}

}  // namespace holdfast::nvme

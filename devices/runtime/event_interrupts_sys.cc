#include "devices/runtime/event_interrupts_sys.h"

#include <poll.h>

#include <algorithm>

namespace holdfast {
namespace {

// A descriptor that is full holds a signal that the VMM has not taken, which
// will do; and whoever gives one that is always full must not stop the device.
void SignalOne(BorrowedFd event) {
  const timespec no_wait = {0, 0};
  pollfd poll = {event.get(), POLLOUT, 0};
  if (ppoll(&poll, 1, &no_wait, nullptr) != 1) return;
  RaiseEvent(event);
}

}  // namespace

void EventInterrupts::Describe(absl::Span<const IrqInfo> irqs) {
  std::lock_guard<std::mutex> lock(mutex_);
  first_.clear();
  vectors_.clear();
  for (uint32_t irq = 0; irq < irqs.size(); ++irq) {
    first_.push_back(vectors_.size());
    for (uint32_t i = 0; i < irqs[irq].count; ++i) {
      Vector vector;
      vector.name = {irq, i};
      vector.level = irqs[irq].level;
      vectors_.push_back(vector);
    }
  }
  first_.push_back(vectors_.size());
}

EventInterrupts::Vector* EventInterrupts::Find(uint32_t irq, uint32_t vector) {
  if (first_.empty() || irq >= first_.size() - 1 ||
      vector >= first_[irq + 1] - first_[irq]) {
    return nullptr;
  }
  return &vectors_[first_[irq] + vector];
}

void EventInterrupts::Signal(uint32_t irq, uint32_t vector) {
  // Also while it writes: nobody closes the descriptor meanwhile.
  std::lock_guard<std::mutex> lock(mutex_);
  Vector* const found = Find(irq, vector);
  if (found == nullptr || !found->trigger.valid() || found->masked ||
      found->signalled) {
    return;
  }
  found->signalled = found->level;
  SignalOne(found->trigger);
}

bool EventInterrupts::LetThrough(uint32_t irq, uint32_t vector) {
  std::lock_guard<std::mutex> lock(mutex_);
  Vector* const found = Find(irq, vector);
  if (found == nullptr) return false;
  found->signalled = false;
  return !found->masked;
}

std::vector<EventInterrupts::Name> EventInterrupts::Update(
    const vfio_user::SessionState& state, const DescriptorSlots& descriptors) {
  std::vector<Name> open;
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t count = std::min(vectors_.size(), vfio_user::kMaxVectors);
  for (size_t i = 0; i < count; ++i) {
    const vfio_user::VectorState& next = state.vectors[i];
    Vector& vector = vectors_[i];
    const BorrowedFd trigger(
        next.trigger == 0 ? -1 : descriptors.Get(next.trigger).get());
    const bool masked = next.masked != 0;
    const bool opens = trigger.valid() && !masked &&
                       (trigger.get() != vector.trigger.get() || vector.masked);
    vector.trigger = trigger;
    vector.masked = masked;
    if (!vector.level) continue;
    level_ = vector.name;
    unmask_ =
        BorrowedFd(next.unmask == 0 ? -1 : descriptors.Get(next.unmask).get());
    if (opens) {
      vector.signalled = false;
      open.push_back(vector.name);
    }
  }
  return open;
}

}  // namespace holdfast

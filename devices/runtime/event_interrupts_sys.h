#ifndef HOLDFAST_DEVICES_RUNTIME_EVENT_INTERRUPTS_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_EVENT_INTERRUPTS_SYS_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/region_device.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/event_sys.h"
#include "devices/vfio_user/session_state.h"

namespace holdfast {

// Interrupts as eventfds that the VMM has given. Signal from any thread, the
// rest on the control thread.
class EventInterrupts final : public IrqSink {
 public:
  // Of a device: which vectors there are. Before the first Signal that counts.
  void Describe(absl::Span<const IrqInfo> irqs);

  // IrqSink. A level is signalled once, until it is let through again; one
  // that the VMM has masked not at all.
  void Signal(uint32_t irq, uint32_t vector) override;

  // A level may be signalled again. False: the VMM has it masked.
  bool LetThrough(uint32_t irq, uint32_t vector);

  // Takes over what the VMM has set. Descriptors that it no longer names are
  // not used any more when this returns. `on_level` is called for each level
  // that may be signalled now and could not before.
  template <typename OnLevel>
  void Apply(const vfio_user::SessionState& state,
             const DescriptorSlots& descriptors, OnLevel on_level) {
    for (const Name& level : Update(state, descriptors)) {
      on_level(level.irq, level.vector);
    }
  }

  // Readable when the VMM lets a level through by descriptor; invalid: none.
  BorrowedFd unmask_event() const { return unmask_; }
  // Empties it and calls `on_level` if that is so.
  template <typename OnLevel>
  void TakeUnmask(OnLevel on_level) {
    if (DrainEvent(unmask_) && LetThrough(level_.irq, level_.vector)) {
      on_level(level_.irq, level_.vector);
    }
  }

 private:
  struct Name {
    uint32_t irq;
    uint32_t vector;
  };
  struct Vector {
    Name name{};
    bool level = false;
    BorrowedFd trigger{-1};
    bool masked = false;     // By the VMM.
    bool signalled = false;  // A level: not again until it is let through.
  };

  std::vector<Name> Update(const vfio_user::SessionState& state,
                           const DescriptorSlots& descriptors);
  Vector* Find(uint32_t irq, uint32_t vector);

  std::mutex mutex_;
  std::vector<size_t> first_;  // In vectors_, by kind.
  std::vector<Vector> vectors_;
  BorrowedFd unmask_{-1};  // Of the level. PCI has one.
  Name level_{};
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_EVENT_INTERRUPTS_SYS_H_

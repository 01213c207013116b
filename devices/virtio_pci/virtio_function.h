#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_FUNCTION_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_FUNCTION_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/pci_function.h"
#include "devices/bus/region_device.h"
#include "devices/bus/virtio_device.h"
#include "devices/virtio_pci/virtio_pci_device.h"
#include "statestore/schema.h"
#include "statestore/transaction.h"

namespace holdfast::virtio_pci {

// What runs the queues, as VirtioFunction tells it: of a process threads over
// rings in guest memory, of a test a list of calls. All calls come inside a
// call of VirtioFunction, on its thread.
class QueueExecutor : public QueueKicker {
 public:
  // Begins or goes on with the queue's life: what a predecessor has taken and
  // not answered is executed again, the driver is signalled once, and the ring
  // looked at without waiting for a kick. Comes for a queue that does not run.
  // An error: the queue cannot run so, and does not.
  virtual absl::Status Start(uint16_t queue, const RingLayout& ring) = 0;

  // Takes no more requests, returns when those in flight are answered, and
  // forgets the queue's life. Idempotent.
  virtual void End(uint16_t queue) = 0;

  // Where the queue's interrupts go from here on. If it runs, the driver is
  // signalled once, since what was on its way may have been lost.
  virtual void Route(uint16_t queue, InterruptRoute route) = 0;

  // Whether the VMM owes answers to requests for transfers, of queues that have
  // ended or of a predecessor's: what it was asked to write may still reach the
  // driver's memory.
  virtual bool IsOwedAnswers() = 0;
};

// A VirtioDevice as a PCI function: its registers, and queues that do what the
// registers say by the time the access that says so is answered.
//
// Registers are the truth. They are committed first, then queues are brought in
// line; a successor finds them in the segment and brings its own queues in line
// before it serves.
//
// Threads: as RegionDevice says, on the thread that may use the executor and
// the device's control calls.
class VirtioFunction final : public RegionDevice {
 public:
  // The state of a new segment: the device's, then all registers. Errors:
  // VirtioPciDevice::Spec, PciState::Create.
  static absl::StatusOr<Schema> StateSchema(const VirtioSpec& spec);

  // `stored` is the schema of the segment. All references outlive the function.
  // Errors: StateSchema, PciFunction::Create.
  static absl::StatusOr<std::unique_ptr<VirtioFunction>> Create(
      const VirtioSpec& spec, const Schema& stored, VirtioDevice& device,
      IrqSink& irqs, QueueExecutor& executor);

  // As PciFunction::Start; `bank` must have Threads::kMany if queues use it.
  // Queues do not run before Resume.
  absl::Status Start(StateBank& bank) { return function_->Start(bank); }

  // RegionDevice.
  bool is_pci() const override { return true; }
  absl::Span<const RegionInfo> regions() const override {
    return function_->regions();
  }
  absl::Span<const IrqInfo> irqs() const override { return function_->irqs(); }
  BorrowedFd RegionMemory(uint32_t region) const override {
    return function_->RegionMemory(region);
  }
  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) override;
  absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) override;
  absl::Status Reset() override;
  void OnUnmask(uint32_t irq, uint32_t vector) override {
    function_->OnUnmask(irq, vector);
  }
  // When guest memory is there, too: queues start.
  absl::Status Resume() override;
  bool work_pending() const override { return false; }
  absl::Status RunWork() override { return absl::OkStatus(); }

  // A queue whose route is kRegister has answered requests.
  absl::Status InterruptQueue(uint16_t queue);

  // Configuration space may have changed. `asked`: the driver is to be told,
  // even if it has not.
  absl::Status ConfigChanged(bool asked);

  // A queue broke, or cannot run on: the driver is told to reset the device.
  absl::Status NeedsReset();

  // Accesses that the device refused.
  uint64_t guest_errors() const { return function_->guest_errors(); }

 private:
  VirtioFunction(const VirtioSpec& spec, VirtioDevice& device, IrqSink& irqs,
                 QueueExecutor& executor)
      : spec_(spec), device_(device), irqs_(irqs), executor_(executor) {}

  absl::Status Change(absl::FunctionRef<void(PciTxn&)> change);
  absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> bytes);
  absl::Status Settle();
  absl::Status EndQueues(const DeviceView& view);
  absl::Status StartQueues(const DeviceView& view);

  const VirtioSpec& spec_;
  VirtioDevice& device_;
  IrqSink& irqs_;
  QueueExecutor& executor_;
  DmaWindows no_dma_;  // Queues reach guest memory by themselves.
  std::unique_ptr<PciFunction> function_;
  VirtioPciDevice* registers_ = nullptr;  // function_ owns it.

  // What the queues do, as the registers were when they were last brought in
  // line.
  enum class Queue : uint8_t { kUnknown, kEnded, kRuns, kFailed };
  bool settled_ = false;
  uint64_t resets_ = 0;
  bool features_told_ = false;
  std::array<Queue, kMaxQueues> queues_{};
  std::array<InterruptRoute, kMaxQueues> routes_{};
  LogLimiter log_;  // Of what the guest does.
};

}  // namespace holdfast::virtio_pci

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_FUNCTION_H_

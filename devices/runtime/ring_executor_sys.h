#ifndef HOLDFAST_DEVICES_RUNTIME_RING_EXECUTOR_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_RING_EXECUTOR_SYS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/guest_memory.h"
#include "devices/bus/region_device.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/dma_queue_sys.h"
#include "devices/runtime/message_dma_sys.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/virtio_pci/virtio_function.h"
#include "statestore/inflight.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast {

// Runs the queues of a VIRTIO device that is a PCI function: rings in windows
// of the VMM's memory, notifications by message, in-flight tables in the
// segment. A ring that is mapped here to be read and written is used in place,
// any other by transfers (dma_queue_sys.h).
//
// Control thread only, but for Signal of a queue's workers. It never waits for
// the VMM: where a queue must end its transfers, all that wait fail, and other
// queues go on as after a crash. References outlive the executor; the
// constructor makes the threads.
class RingExecutor final : public virtio_pci::QueueExecutor {
 public:
  // `wake` becomes readable when TakeWaiting has something.
  RingExecutor(const VirtioSpec& spec, VirtioDevice& device,
               const Segment& segment, IrqSink& irqs, DmaWindows& dma,
               MessageDma& messages, BorrowedFd wake);
  ~RingExecutor() override;

  // Before queues start, and while they are held.
  void SetState(StateBank& state) { state_ = &state; }

  // No queue runs, and none starts, until Release. One that starts meanwhile
  // and has its ring in no window waits for windows, as if it had run before.
  void Hold();
  void Release();

  // Queues use no window from here on, until SetMemory says which there are. A
  // queue whose ring lies in none waits for the next SetMemory.
  void LetGo();
  void SetMemory(std::vector<DmaWindow> windows);

  // Signals every queue that runs.
  void SignalAll();

  // Bits: the queues that have answered since the last call and whose
  // interrupts go through registers.
  uint64_t TakeWaiting() { return waiting_.exchange(0); }

  // QueueExecutor.
  absl::Status Start(uint16_t queue,
                     const virtio_pci::RingLayout& ring) override;
  void End(uint16_t queue) override;
  void Route(uint16_t queue, virtio_pci::InterruptRoute route) override;
  void Kick(uint16_t queue) override;
  bool IsOwedAnswers() override { return messages_.is_owed(); }

 private:
  // One queue's interrupts.
  class Interrupt final : public QueueSignal {
   public:
    Interrupt(RingExecutor& executor, uint16_t queue)
        : executor_(executor), queue_(queue) {}
    void Signal() override;
    void Set(virtio_pci::InterruptRoute route) { route_.store(route); }

   private:
    RingExecutor& executor_;
    const uint16_t queue_;
    std::atomic<virtio_pci::InterruptRoute> route_{{}};
  };
  struct Queue {
    UniqueFd kick;
    std::unique_ptr<Interrupt> interrupt;
    std::unique_ptr<QueueRunner> runner;  // In place; one of them runs.
    std::unique_ptr<DmaQueueRunner> dma_runner;
    bool running() const { return runner->running() || dma_runner->running(); }
    std::optional<virtio_pci::RingLayout> ring;  // Since Start.
  };

  absl::Status Run(uint16_t index);
  void RunAll();
  absl::Status RunInPlace(uint16_t index, const SplitRingConfig& place);
  absl::Status RunByDma(uint16_t index);
  absl::StatusOr<QueueRunner::Config> ConfigOf(uint16_t index,
                                               const SplitRingConfig& place);
  std::optional<SplitRingConfig> PlaceOf(
      const virtio_pci::RingLayout& ring) const;
  void Stop(absl::Span<Queue> queues);
  void Forget(uint16_t index);

  const Segment& segment_;
  IrqSink& irqs_;
  DmaWindows& dma_;
  MessageDma& messages_;
  const BorrowedFd wake_;
  std::atomic<uint64_t> waiting_{0};
  StateBank* state_ = nullptr;
  bool held_ = false;
  GuestMemory memory_;
  std::vector<DmaWindow> windows_;  // Keeps memory_ mapped.
  LogLimiter log_;                  // Of what guest and VMM do.
  std::vector<Queue> queues_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_RING_EXECUTOR_SYS_H_

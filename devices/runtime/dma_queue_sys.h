#ifndef HOLDFAST_DEVICES_RUNTIME_DMA_QUEUE_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_DMA_QUEUE_SYS_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/bus/dma.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/crash_handler_sys.h"
#include "devices/runtime/queue_runner_sys.h"
#include "devices/runtime/request_execution_sys.h"
#include "devices/virtqueue/dma_port.h"
#include "devices/virtqueue/split_ring.h"
#include "statestore/queue_stats.h"
#include "statestore/transaction.h"

namespace holdfast {

// Runs one virtqueue that cannot be used in place, because some of it or of its
// buffers is not mapped here for reading and writing: by transfers, on a thread
// of its own, one request at a time, on copies of the buffers.
//
// A transfer that fails ends the queue's life as a kill would (dma_port.h):
// it goes on with a new one, which recovers, when it is kicked. So whoever has
// transfers fail for a while, to reset a device or to take windows away, kicks
// afterwards.
//
// Start, Stop: control thread only, and they never wait for the VMM.
class DmaQueueRunner final : private CrashObserver {
 public:
  // Of all buffers of one request; larger ones are refused. Not touched before
  // it is needed.
  static constexpr size_t kRoom = 4 << 20;

  struct Config {
    // Its pointers are guest addresses (PortAccess). Passes SplitRing::Check.
    SplitRingConfig ring;
    absl::Span<uint8_t> inflight;  // Has room for the ring's requests.
    StateBank* state = nullptr;    // May be shared by queues; outlives Stop.
    BorrowedFd kick{-1};
    QueueSignal* signal = nullptr;  // Outlives Stop.
  };

  // All references outlive the runner. Makes the thread.
  DmaQueueRunner(uint16_t queue, VirtioDevice& device, QueueStats& stats,
                 QueueStamp& stamp, Dma& dma);
  DmaQueueRunner(const DmaQueueRunner&) = delete;
  DmaQueueRunner& operator=(const DmaQueueRunner&) = delete;
  // Precondition: as for Stop.
  ~DmaQueueRunner() override;

  // Goes on with the queue's life, as QueueRunner does; what is wrong with it
  // shows later. Precondition: not running.
  void Start(const Config& config);

  // Takes no more requests and waits until the thread is idle. Idempotent.
  // Precondition: transfers fail meanwhile, or are answered by another thread.
  // What was in flight and could not be answered stays so in the table.
  void Stop();

  bool running() const { return running_; }

 private:
  using Ring = BasicSplitRing<PortAccess>;

  // CrashObserver. Blames the request.
  void OnCrash(int signal) override;

  void Run();
  void Live();
  absl::Status Serve();
  absl::Status Recover();
  absl::StatusOr<bool> Take(TakenRequest* work);
  absl::Status Handle(const TakenRequest& work);
  absl::Status Execute(const TakenRequest& work, size_t* written);
  absl::Status Publish(uint16_t head, size_t written);
  void Signal();
  void AwaitKick();
  void Stamp(bool busy);

  const uint16_t queue_;
  VirtioDevice& device_;
  QueueStats& stats_;
  QueueStamp& stamp_;
  Dma& dma_;
  LogLimiter log_;  // Of what the guest does.
  const ExecutingQueue executing_{queue_, device_, stats_, stamp_, log_};
  UniqueFd wake_;         // Gets the thread out of its wait.
  bool running_ = false;  // Of the control thread.

  std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;  // Guarded by mutex_, as the next two.
  bool idle_ = false;
  bool exit_ = false;
  std::atomic<bool> stop_{false};

  // Of the thread, and of Start while it is idle.
  Config config_;
  DmaPort port_;
  std::optional<Ring> ring_;
  std::vector<TakenRequest> resubmit_;
  size_t resubmitted_ = 0;
  uint64_t answered_ = 0;  // In this life.
  Chain chain_;
  RequestBuffers buffers_;
  const std::unique_ptr<uint8_t[]> room_;
  volatile bool serving_ = false;
  volatile uint16_t head_ = 0;

  std::thread thread_;  // Last: it uses the others.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_DMA_QUEUE_SYS_H_

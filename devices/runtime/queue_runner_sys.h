#ifndef HOLDFAST_DEVICES_RUNTIME_QUEUE_RUNNER_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_QUEUE_RUNNER_SYS_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/request_execution_sys.h"
#include "devices/virtqueue/split_ring.h"
#include "statestore/queue_stats.h"
#include "statestore/transaction.h"

namespace holdfast {

// Where a queue's interrupts go that has no call descriptor. From any thread,
// with the queue's lock held: must not block, nor call the runner.
class QueueSignal {
 public:
  virtual ~QueueSignal() = default;
  virtual void Signal() = 0;
};

// Runs one virtqueue of a device on threads of its own.
//
// Leader and followers: of the idle workers one, the leader, waits for the kick
// and serves what it finds by itself, so a request at depth 1 never changes
// threads. When requests turn out to block, it calls followers in.
//
// Start, SetCall, Stop: control thread only. The constructor makes the threads;
// afterwards the steady state makes none and allocates nothing.
class QueueRunner {
 public:
  struct Config {
    // Recover() has not been called. Without an in-flight table, what was in
    // flight and what it did to the state are lost with the process.
    SplitRing ring;
    StateBank* state = nullptr;  // May be shared by queues; outlives Stop.
    BorrowedFd kick{-1};
    BorrowedFd call{-1};            // May be invalid: the driver polls.
    QueueSignal* signal = nullptr;  // Instead of `call`; outlives Stop.
    absl::optional<GuestAddress> used_log = absl::nullopt;
    uint16_t base = 0;
  };

  // All references outlive the runner.
  QueueRunner(uint16_t queue, uint16_t workers, VirtioDevice& device,
              QueueStats& stats, QueueStamp& stamp);
  QueueRunner(const QueueRunner&) = delete;
  QueueRunner& operator=(const QueueRunner&) = delete;
  // Never runs in production: the process ends with its threads. For tests.
  ~QueueRunner();

  // Goes on with the queue's life: recovers what was in flight, signals the
  // driver once and looks at the ring without waiting for a kick. The
  // descriptors in `config` stay open until Stop has returned.
  // Precondition: not running. Errors: those of SplitRing::Recover.
  absl::Status Start(Config config);

  // Replaces the call descriptor; the old one is not used afterwards.
  void SetCall(BorrowedFd call);

  // Takes no more requests and waits until those in flight are answered.
  // Idempotent. Returns the next available index; 0 before the first Start.
  uint16_t Stop();

  bool running() const { return running_; }

 private:
  class Worker;
  enum class Found { kRequest, kNothing };
  using Work = TakenRequest;

  std::unique_lock<std::mutex> LockAgainstFullCall();
  uint64_t CounterOf(uint16_t head);
  Found TakeLocked(Work* work);
  void WaitForKickLocked(std::unique_lock<std::mutex>& lock);
  void PublishLocked(uint16_t head, size_t written);
  absl::Status ResolveRecordLocked();
  void SignalLocked();
  void StampInFlightLocked();

  const uint16_t queue_;
  VirtioDevice& device_;
  QueueStats& stats_;
  QueueStamp& stamp_;
  LogLimiter log_;  // Of what the guest does.
  const ExecutingQueue executing_{queue_, device_, stats_, stamp_, log_};
  UniqueFd wake_;  // Gets the leader out of its wait.

  std::mutex mutex_;
  std::condition_variable work_;  // For followers: there is something to do.
  std::condition_variable idle_;  // Nobody is busy; at the start: all up.
  std::optional<SplitRing> ring_;
  Chain chain_;  // Of Start.
  StateBank* state_ = nullptr;
  BorrowedFd kick_{-1};
  BorrowedFd call_{-1};
  QueueSignal* signal_ = nullptr;
  std::vector<Work> resubmit_;  // Reserved once; taken from the front.
  size_t resubmitted_ = 0;
  bool running_ = false;
  bool exit_ = false;
  bool has_leader_ = false;
  int busy_ = 0;
  int waiting_ = 0;
  uint16_t started_ = 0;  // Workers whose thread has reached Run().
  // How long a request takes, in nanoseconds: rises at once, falls slowly.
  uint64_t service_time_;

  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_QUEUE_RUNNER_SYS_H_

#include "devices/runtime/work_runner_sys.h"

#include "absl/status/status.h"
#include "devices/runtime/prefault.h"

namespace holdfast {

WorkRunner::WorkRunner(RegionDevice& device) : device_(device) {
  const size_t count = device.work_threads();
  for (size_t i = 0; i < count; ++i) threads_.emplace_back([this] { Run(); });
  // The C library starts a thread with calls that the steady-state filter does
  // not know: they must be over before the filter comes.
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [&] { return up_ == count; });
  device.SetWorkCaller(this);
}

WorkRunner::~WorkRunner() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    exit_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkRunner::Start() {
  std::lock_guard<std::mutex> lock(mutex_);
  started_ = true;
}

void WorkRunner::Stop() {
  Hold();
  AwaitPause();
}

void WorkRunner::Hold() {
  std::lock_guard<std::mutex> lock(mutex_);
  started_ = false;
  // A thread that was called and comes too late must be called again.
  wanted_ = 0;
}

bool WorkRunner::paused() {
  std::lock_guard<std::mutex> lock(mutex_);
  return working_ == 0;
}

void WorkRunner::WakeThread() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!started_ || wanted_ == threads_.size()) return;
    ++wanted_;
  }
  wake_.notify_one();
}

void WorkRunner::AwaitPause() {
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return working_ == 0; });
}

void WorkRunner::Run() {
  PrefaultStack();
  ObserveCrashes(this);
  std::unique_lock<std::mutex> lock(mutex_);
  ++up_;
  idle_.notify_all();
  for (;;) {
    wake_.wait(lock, [this] { return exit_ || (started_ && wanted_ != 0); });
    if (exit_) return;
    --wanted_;
    while (started_ && !exit_ && device_.work_pending()) {
      ++working_;
      lock.unlock();
      const absl::Status status = device_.RunWork();
      lock.lock();
      if (--working_ == 0) idle_.notify_all();
      // Another process owns the state, or it is damaged: the control thread
      // meets the same and ends this process.
      if (absl::IsAborted(status) || absl::IsDataLoss(status)) {
        started_ = false;
      } else if (!status.ok()) {
        log_.Warning("the device refused work: ", status.message());
      }
    }
  }
}

}  // namespace holdfast

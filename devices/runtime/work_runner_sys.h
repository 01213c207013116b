#ifndef HOLDFAST_DEVICES_RUNTIME_WORK_RUNNER_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_WORK_RUNNER_SYS_H_

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log_limiter.h"
#include "devices/bus/region_device.h"
#include "devices/runtime/crash_handler_sys.h"

namespace holdfast {

// Does the work that a device's accesses have ordered, on as many threads of
// its own as the device asks for. They are there when the constructor returns,
// and rest until Start. Control thread only.
class WorkRunner final : private WorkCaller, private CrashObserver {
 public:
  explicit WorkRunner(RegionDevice& device);
  ~WorkRunner() override;

  // From now on Wake begins work.
  void Start();
  // Begins no more and waits for what is being done.
  void Stop();
  // Stop in two steps, for who must serve others meanwhile: begins no more.
  void Hold();
  // Whether no work is being done.
  bool paused();

  // Work may have been ordered, and the accesses that did it are answered:
  // calls a thread in. A load or two when there is none.
  void Wake() {
    if (device_.work_pending()) WakeThread();
  }

  // Waits until no work is being done.
  void AwaitPause();

 private:
  void Run();
  void WakeThread();
  void CallThread() override { WakeThread(); }
  void OnCrash(int) override { device_.OnWorkCrash(); }

  RegionDevice& device_;
  LogLimiter log_;  // Of what the guest orders.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  size_t up_ = 0;  // Threads that have reached Run.
  bool started_ = false;
  bool exit_ = false;
  size_t wanted_ = 0;   // Threads that were called and have not come yet.
  size_t working_ = 0;  // Threads in RunWork.
  std::vector<std::thread> threads_;  // Last: they use the others.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_WORK_RUNNER_SYS_H_

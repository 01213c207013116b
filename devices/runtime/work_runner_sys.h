#ifndef HOLDFAST_DEVICES_RUNTIME_WORK_RUNNER_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_WORK_RUNNER_SYS_H_

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/log_limiter.h"
#include "devices/bus/region_device.h"

namespace holdfast {

// Does the work that a device's accesses have ordered, on a thread of its own.
// The thread is there when the constructor returns, and rests until Start. The
// rest on the control thread.
class WorkRunner {
 public:
  explicit WorkRunner(RegionDevice& device);
  ~WorkRunner();

  // From now on Wake begins work.
  void Start();
  // Begins no more and waits for what is being done.
  void Stop();

  // Work may have been ordered, and the accesses that did it are answered. A
  // load when there is none.
  void Wake() {
    if (device_.work_pending()) WakeThread();
  }

  // Waits until no work is being done that had begun before.
  void AwaitPause();

 private:
  void Run();
  void WakeThread();

  RegionDevice& device_;
  LogLimiter log_;  // Of what the guest orders.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  bool up_ = false;  // The thread has reached Run.
  bool started_ = false;
  bool wanted_ = false;
  bool working_ = false;
  bool exit_ = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_WORK_RUNNER_SYS_H_

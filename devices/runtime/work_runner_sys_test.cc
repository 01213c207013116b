#include "devices/runtime/work_runner_sys.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "absl/status/status.h"
#include "devices/runtime/crash_handler_sys.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr int kBlamed = 7;  // Exit status.

// Has work, and nothing else.
class Worker final : public RegionDevice {
 public:
  explicit Worker(uint32_t threads) : threads_(threads) {}

  std::atomic<int> pending{0};
  std::atomic<int> done{0};
  WorkCaller* caller = nullptr;
  std::function<absl::Status()> work = [] { return absl::OkStatus(); };

  bool is_pci() const override { return false; }
  absl::Span<const RegionInfo> regions() const override { return {}; }
  absl::Span<const IrqInfo> irqs() const override { return {}; }
  BorrowedFd RegionMemory(uint32_t) const override { return BorrowedFd(-1); }
  absl::Status Read(AccessId, uint32_t, uint64_t,
                    absl::Span<uint8_t>) override {
    return absl::OkStatus();
  }
  absl::Status Write(AccessId, uint32_t, uint64_t,
                     absl::Span<const uint8_t>) override {
    return absl::OkStatus();
  }
  absl::Status Reset() override { return absl::OkStatus(); }
  void OnUnmask(uint32_t, uint32_t) override {}
  absl::Status Resume() override { return absl::OkStatus(); }
  uint32_t work_threads() const override { return threads_; }
  void SetWorkCaller(WorkCaller* called) override { caller = called; }
  bool work_pending() const override { return pending > 0; }
  absl::Status RunWork() override {
    --pending;
    const absl::Status status = work();
    ++done;
    return status;
  }
  void OnWorkCrash() override { _exit(kBlamed); }

 private:
  const uint32_t threads_;
};

template <typename Condition>
bool Becomes(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Holds who comes until it is opened.
class Gate {
 public:
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++inside_;
    threads_.insert(std::this_thread::get_id());
    changed_.wait(lock, [this] { return open_; });
    --inside_;
  }
  void Open() {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int inside() {
    std::lock_guard<std::mutex> lock(mutex_);
    return inside_;
  }
  size_t threads() {
    std::lock_guard<std::mutex> lock(mutex_);
    return threads_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int inside_ = 0;
  std::set<std::thread::id> threads_;
};

TEST(WorkRunner, DoesAllThatIsPending) {
  Worker device(1);
  WorkRunner runner(device);
  device.pending = 3;
  runner.Wake();  // Not yet.
  runner.Start();
  EXPECT_EQ(device.done, 0);
  runner.Wake();
  EXPECT_TRUE(Becomes([&] { return device.done == 3; }));
  runner.Wake();  // Nothing to do.
  runner.AwaitPause();
  EXPECT_EQ(device.done, 3);
}

TEST(WorkRunner, DoesOneThingAtATimeUnlessAskedForMore) {
  for (const uint32_t threads : {1u, 3u}) {
    Gate gate;
    Worker device(threads);
    device.work = [&] {
      gate.Pass();
      return absl::OkStatus();
    };
    WorkRunner runner(device);
    runner.Start();
    for (int i = 0; i < 6; ++i) {
      ++device.pending;
      runner.Wake();
    }
    EXPECT_TRUE(
        Becomes([&] { return gate.inside() == static_cast<int>(threads); }));
    gate.Open();
    EXPECT_TRUE(Becomes([&] { return device.done == 6; }));
    EXPECT_EQ(gate.threads(), threads);
  }
}

// Nobody outside knows of what a piece of work adds.
TEST(WorkRunner, WorkCallsInAnotherThread) {
  Gate gate;
  Worker device(3);
  std::atomic<int> begun{0};
  device.work = [&] {
    if (++begun < 3) {
      ++device.pending;
      device.caller->CallThread();
    }
    gate.Pass();
    return absl::OkStatus();
  };
  WorkRunner runner(device);
  runner.Start();
  ++device.pending;
  runner.Wake();
  EXPECT_TRUE(Becomes([&] { return gate.inside() == 3; }));
  gate.Open();
  EXPECT_TRUE(Becomes([&] { return device.done == 3; }));
  EXPECT_EQ(gate.threads(), 3u);
}

TEST(WorkRunner, StopWaitsForWhatIsDoneAndBeginsNoMore) {
  Gate gate;
  Worker device(1);
  device.work = [&] {
    gate.Pass();
    return absl::OkStatus();
  };
  WorkRunner runner(device);
  runner.Start();
  device.pending = 2;
  runner.Wake();
  ASSERT_TRUE(Becomes([&] { return gate.inside() == 1; }));
  std::thread opener([&] { gate.Open(); });
  runner.Stop();
  opener.join();
  const int done = device.done;
  EXPECT_GE(done, 1);
  runner.Wake();
  runner.AwaitPause();
  EXPECT_EQ(device.done, done);
  runner.Start();
  runner.Wake();
  EXPECT_TRUE(Becomes([&] { return device.done == 2; }));
}

TEST(WorkRunner, AMistakeOfTheGuestIsNoReasonToStopButALostStateIs) {
  Worker device(1);
  device.work = [] { return absl::InvalidArgumentError("guest"); };
  WorkRunner runner(device);
  runner.Start();
  device.pending = 2;
  runner.Wake();
  EXPECT_TRUE(Becomes([&] { return device.done == 2; }));
  device.work = [] { return absl::AbortedError("overtaken"); };
  device.pending = 2;
  runner.Wake();
  EXPECT_TRUE(Becomes([&] { return device.done == 3; }));
  runner.AwaitPause();
  EXPECT_EQ(device.pending, 1);
}

// Whoever was called just before a stop must be called again after it.
TEST(WorkRunner, GoesOnAfterAnyStop) {
  Worker device(1);
  WorkRunner runner(device);
  for (int i = 1; i <= 2000; ++i) {
    runner.Start();
    ++device.pending;
    runner.Wake();
    runner.Stop();
    std::this_thread::sleep_for(std::chrono::microseconds(i % 100));
    runner.Start();
    runner.Wake();
    ASSERT_TRUE(Becomes([&] { return device.done == i; })) << i;
    runner.Stop();
  }
}

// In another process: the handler ends it.
TEST(WorkRunnerDeathTest, ACrashIsTheDevicesToBlame) {
  const auto crash = [] {
    InstallCrashHandler();
    Worker device(1);
    device.pending = 1;
    device.work = [] {
      raise(SIGSEGV);
      return absl::OkStatus();
    };
    WorkRunner runner(device);
    runner.Start();
    runner.Wake();
    for (;;) pause();
  };
  EXPECT_EXIT(crash(), ::testing::ExitedWithCode(kBlamed), "");
}

}  // namespace
}  // namespace holdfast

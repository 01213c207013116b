// Device and driver in two threads that sleep until the other one wakes them:
// a wish for a kick or an interrupt that is seen too late ends in a hang.
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/inflight.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FakeDriver;
using ::testing::IsEmpty;
using Buffer = FakeDriver::Buffer;

constexpr uint16_t kSize = 8;
constexpr uint64_t kRequests = 20000;

// An eventfd.
class Event {
 public:
  void Signal() { set_.store(true); }
  // False: `done` was set, or nobody came for longer than anything takes.
  bool Wait(const std::atomic<bool>& done) {
    const auto give_up =
        std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!set_.exchange(false)) {
      if (done.load() || std::chrono::steady_clock::now() > give_up) {
        return false;
      }
      sched_yield();
    }
    return true;
  }

 private:
  std::atomic<bool> set_{false};
};

struct Machine {
  explicit Machine(const FakeDriver::Options& options) : driver(options) {}

  FakeDriver driver;
  alignas(64) std::array<uint8_t, InflightRegionSize(kSize)> region = {};
  Event kick;
  Event interrupt;
  std::atomic<bool> done{false};
  int kicks = 0;
  int interrupts = 0;
};

void RunDevice(Machine& machine, SplitRing& ring) {
  std::minstd_rand random(1);
  std::vector<Completion> batch;
  bool more = true;
  const auto publish = [&] {
    if (!ring.Publish(batch).ok()) machine.done.store(true);
    batch.clear();
    if (!ring.NeedsInterrupt()) return;
    ++machine.interrupts;
    machine.interrupt.Signal();
  };
  while (more || machine.kick.Wait(machine.done)) {
    if (random() % 2 == 0) ring.DisableKicks();
    while (true) {
      const Popped popped = ring.Pop();
      if (popped.result != PopResult::kRequest) break;
      batch.push_back({popped.head, 1});
      if (random() % 2 == 0) publish();
    }
    publish();
    more = ring.EnableKicks();
  }
}

void RunDriver(Machine& machine) {
  FakeDriver& driver = machine.driver;
  std::minstd_rand random(2);
  uint64_t posted = 0, answered = 0;
  while (answered < kRequests) {
    for (uint32_t burst = 1 + random() % kSize; burst > 0; --burst) {
      if (posted < kRequests && driver.Post({Buffer::Writable(1)})) ++posted;
    }
    if (driver.NeedsKick()) {
      ++machine.kicks;
      machine.kick.Signal();
    }
    driver.DisableInterrupts();
    answered += driver.Collect().size();
    if (random() % 2 == 0 || posted == kRequests) {
      const bool there = driver.EnableInterrupts();
      if (driver.outstanding() == 0) continue;
      if (!there && !machine.interrupt.Wait(machine.done)) break;
    }
  }
  EXPECT_EQ(answered, kRequests);
  machine.done.store(true);
}

class SplitRingStress : public ::testing::TestWithParam<bool> {};

TEST_P(SplitRingStress, NobodySleepsThroughAWish) {
  FakeDriver::Options options;
  options.size = kSize;
  options.event_idx = GetParam();
  auto machine = std::make_unique<Machine>(options);
  auto ring = SplitRing::Create(
      machine->driver.config(), &machine->driver.memory(),
      *InflightTable::Attach(absl::MakeSpan(machine->region), kSize));
  ASSERT_TRUE(ring.ok());
  ASSERT_TRUE(ring->Recover(0).ok());
  std::thread device([&] { RunDevice(*machine, *ring); });
  RunDriver(*machine);
  device.join();
  EXPECT_THAT(machine->driver.violations(), IsEmpty());
  std::printf("%d requests, %d kicks, %d interrupts\n",
              static_cast<int>(kRequests), machine->kicks, machine->interrupts);
}

INSTANTIATE_TEST_SUITE_P(All, SplitRingStress, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "EventIndex" : "Flags";
                         });

}  // namespace
}  // namespace holdfast

// The ring as it ships, in processes that are really killed at random moments,
// and in processes that are stopped after every single instruction to look at
// what a death there would leave. The guest is the parent process.
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/split_ring_impl.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/inflight.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FakeDriver;
using ::testing::IsEmpty;

constexpr uint16_t kSize = 16;
constexpr size_t kMemorySize = 1 << 20;

uint64_t AnswerTo(uint64_t question) {
  return question * 0x9e3779b97f4a7c15u + 1;
}

enum class Tracking { kOn, kIgnored };

// Wrong: a release store of an index happens one store too late.
struct LateAccess : SharedAccess {
  using Own = LateAccess;
  template <typename T>
  static void Store(T* to, T value) {
    SharedAccess::Store(to, value);
    if (late_to != nullptr) SharedAccess::Store(late_to, late_value);
    late_to = nullptr;
  }
  template <typename T>
  static void StoreRelease(T* to, T value) {
    Store(to, value);
  }
  static void StoreRelease(uint16_t* to, uint16_t value) {
    if (late_to != nullptr) SharedAccess::Store(late_to, late_value);
    late_to = to;
    late_value = value;
  }
  static inline uint16_t* late_to = nullptr;
  static inline uint16_t late_value = 0;
};

// The device process: takes what there is, answers it out of order and in
// batches, for ever.
template <typename Access>
class Device {
 public:
  Device(FakeDriver& driver, absl::Span<uint8_t> region, Tracking tracking)
      : random_(7) {
    auto table = *BasicInflightTable<Access>::Attach(region, kSize);
    uint16_t base = 0;
    if (tracking == Tracking::kIgnored) {
      table.Forget();
      base = driver.used().idx;
    }
    ring_ = std::make_unique<BasicSplitRing<Access>>(
        *BasicSplitRing<Access>::Create(driver.config(), &driver.memory(),
                                        table));
    base_ = base;
  }

  [[noreturn]] void Run() {
    const auto recovered = ring_->Recover(base_);
    if (!recovered.ok()) _exit(2);
    for (const InflightRequest& request : *recovered) {
      running_.push_back(request.head);
    }
    while (true) {
      const Popped popped = ring_->Pop();
      if (popped.result == PopResult::kBroken) _exit(3);
      if (popped.result == PopResult::kRequest) running_.push_back(popped.head);
      if (running_.size() < 3 && popped.result != PopResult::kEmpty) continue;
      if (!running_.empty()) Answer();
    }
  }

 private:
  void Answer() {
    std::array<Completion, 3> batch;
    size_t count = 0;
    for (const size_t wanted = 1 + random_() % batch.size();
         count < wanted && !running_.empty(); ++count) {
      const size_t i = random_() % running_.size();
      batch[count] = {running_[i], sizeof(uint64_t)};
      running_.erase(running_.begin() + i);
      Execute(batch[count].head);
      sched_yield();
    }
    if (!ring_->Publish({batch.data(), count}).ok()) _exit(4);
  }

  void Execute(uint16_t head) {
    if (!ring_->ReadChain(head, chain_).ok()) _exit(5);
    uint64_t question;
    std::memcpy(&question, chain_.readable()[0].data, sizeof(question));
    const uint64_t answer = AnswerTo(question);
    std::memcpy(chain_.writable()[0].data, &answer, sizeof(answer));
  }

  std::minstd_rand random_;
  std::unique_ptr<BasicSplitRing<Access>> ring_;
  uint16_t base_;
  std::vector<uint16_t> running_;
  Chain chain_;
};

class SplitRingKill : public ::testing::Test {
 protected:
  SplitRingKill() {
    memory_ = static_cast<uint8_t*>(
        mmap(nullptr, kMemorySize + InflightRegionSize(kSize),
             PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    FakeDriver::Options options;
    options.size = kSize;
    options.indirect = true;
    driver_ = std::make_unique<FakeDriver>(
        options, absl::MakeSpan(memory_, kMemorySize));
  }
  ~SplitRingKill() override {
    Kill();
    munmap(memory_, kMemorySize + InflightRegionSize(kSize));
  }

  absl::Span<uint8_t> region() {
    return {memory_ + kMemorySize, InflightRegionSize(kSize)};
  }

  template <typename Access = SharedAccess>
  void Spawn(Tracking tracking, bool traced = false) {
    child_ = fork();
    if (child_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Device<Access> device(*driver_, region(), tracking);
    if (traced) {
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      raise(SIGSTOP);
    }
    device.Run();
  }

  // Kills the device and waits until it is gone. False: it had given up.
  bool Kill() {
    if (child_ <= 0) return true;
    kill(child_, SIGKILL);
    int status = 0;
    // A traced child may have reported stops before.
    while (waitpid(child_, &status, 0) == child_ && WIFSTOPPED(status)) {
    }
    child_ = 0;
    return WIFSIGNALED(status);
  }

  // One turn of the guest. False: an answer was wrong.
  bool Guest() {
    bool good = true;
    for (const FakeDriver::Answer& answer : driver_->Collect()) {
      uint64_t value = 0;
      std::memcpy(&value, answer.data.data(), sizeof(value));
      if (value != AnswerTo(answer.request)) good = false;
      ++answers_;
    }
    if (driver_->outstanding() < 6) {
      Post();
    } else {
      sched_yield();
    }
    return good && driver_->violations().empty();
  }

  void Post() {
    const uint64_t number = ++posted_;
    std::vector<uint8_t> question(sizeof(number));
    std::memcpy(question.data(), &number, sizeof(number));
    driver_->Post({FakeDriver::Buffer::Readable(question),
                   FakeDriver::Buffer::Writable(sizeof(number))});
  }

  // A device that lives until all is answered. False: something is lost.
  bool Drain(Tracking tracking) {
    Spawn(tracking);
    const auto give_up =
        std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (driver_->outstanding() != 0) {
      driver_->Collect();
      sched_yield();
      if (std::chrono::steady_clock::now() > give_up) break;
    }
    return Kill() && driver_->outstanding() == 0 &&
           driver_->violations().empty();
  }

  uint8_t* memory_;
  std::unique_ptr<FakeDriver> driver_;
  pid_t child_ = 0;
  uint64_t posted_ = 0;
  uint64_t answers_ = 0;
};

class SplitRingRandomKill : public SplitRingKill {
 protected:
  // Lets the device answer a few requests, and kills it soon after. False:
  // something was wrong.
  bool OneLife(Tracking tracking) {
    const uint64_t enough = answers_ + random_() % 8;
    Spawn(tracking);
    bool good = true;
    for (int turns = 0; good && answers_ < enough && turns < 10000000;
         ++turns) {
      good = Guest();
    }
    for (uint32_t turns = random_() % 16; good && turns > 0; --turns) {
      good = Guest();
    }
    return Kill() && good;
  }

  std::minstd_rand random_{1};
};

TEST_F(SplitRingRandomKill, NothingIsLostOrDoubled) {
  constexpr int kKills = 2000;
  for (int i = 0; i < kKills; ++i) {
    ASSERT_TRUE(OneLife(Tracking::kOn)) << "kill " << i;
  }
  EXPECT_TRUE(Drain(Tracking::kOn));
  EXPECT_THAT(driver_->violations(), IsEmpty());
  std::printf("%d kills at random moments, %lu answers\n", kKills,
              static_cast<unsigned long>(answers_));
}

// From behind the last answer, as VMMs do it by themselves: noticed.
TEST_F(SplitRingRandomKill, WithTheTableIgnoredItIsNoticed) {
  int kills = 1;
  while (OneLife(Tracking::kIgnored) && kills < 3000) ++kills;
  EXPECT_LT(kills, 3000);
  std::printf("table ignored: noticed after %d kills\n", kills);
}

class SplitRingStep : public SplitRingKill {
 protected:
  static constexpr uint16_t kRequests = 9;

  SplitRingStep() {
    while (posted_ < kRequests) Post();
    Spawn(Tracking::kOn, /*traced=*/true);
    WaitForStop();
  }

  bool WaitForStop() {
    int status = 0;
    return waitpid(child_, &status, 0) == child_ && WIFSTOPPED(status);
  }
  bool Step() {
    ++steps_;
    return ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr) == 0 &&
           WaitForStop();
  }

  // Whether a successor that started from the memory as it is would answer all
  // that was taken exactly once: of the heads below the index at which it goes
  // on, every one is either answered, with the right data, or resubmitted.
  bool Consistent() {
    std::vector<uint64_t> copy(region().size() / sizeof(uint64_t));
    std::memcpy(copy.data(), region().data(), region().size());
    InflightTable table = *InflightTable::Attach(
        {reinterpret_cast<uint8_t*>(copy.data()), region().size()}, kSize);
    if (!table.InUse()) return driver_->used().idx == 0;
    std::array<InflightRequest, kSize> in_flight;
    const uint16_t used = driver_->used().idx;
    const auto count = table.Recover(used, absl::MakeSpan(in_flight));
    if (!count.ok() || used + *count > kRequests) return false;
    std::map<uint32_t, int> seen;
    for (uint16_t i = 0; i < used; ++i) {
      const uint32_t head = driver_->used_ring(i).id;
      if (head >= kSize || !AnswerIsThere(head)) return false;
      ++seen[head];
    }
    for (size_t i = 0; i < *count; ++i) ++seen[in_flight[i].head];
    if (seen.size() != used + *count) return false;
    for (size_t i = 0; i < used + *count; ++i) {
      if (seen.count(driver_->avail_ring(i)) == 0) return false;
    }
    return true;
  }

  // Steps through everything up to the last answer. False: a death at one of
  // the instructions would be visible.
  bool StepThrough() {
    while (driver_->used().idx != kRequests) {
      if (!Step() || !Consistent()) return false;
    }
    for (int i = 0; i < 2000; ++i) {  // The stores behind the commit.
      if (!Step() || !Consistent()) return false;
    }
    return true;
  }

  uint64_t steps_ = 0;

 private:
  bool AnswerIsThere(uint16_t head) {
    Chain chain;
    if (!ReadChain({driver_->config().descriptors, kSize, true}, head,
                   driver_->memory(), chain)
             .ok()) {
      return false;
    }
    uint64_t question, answer;
    std::memcpy(&question, chain.readable()[0].data, sizeof(question));
    std::memcpy(&answer, chain.writable()[0].data, sizeof(answer));
    return answer == AnswerTo(question);
  }
};

TEST_F(SplitRingStep, EveryInstructionLeavesAllThereIsToKnow) {
  EXPECT_TRUE(StepThrough());
  std::printf("%lu instructions, from the start of a first process\n",
              static_cast<unsigned long>(steps_));
}

// The successor is stepped as well, from a death in the middle.
TEST_F(SplitRingStep, SoDoesEveryInstructionOfASuccessor) {
  uint16_t answered = 2;
  for (int successors = 0; successors < 3; ++successors, answered += 2) {
    while (driver_->used().idx < answered) ASSERT_TRUE(Step());
    // Between the commit and what follows it.
    for (int i = 0; i < 20 * successors; ++i) ASSERT_TRUE(Step());
    ASSERT_TRUE(Kill());
    ASSERT_TRUE(Consistent());
    Spawn(Tracking::kOn, /*traced=*/true);
    ASSERT_TRUE(WaitForStop());
    steps_ = 0;
    while (steps_ < 6000) ASSERT_TRUE(Step() && Consistent()) << steps_;
  }
  EXPECT_TRUE(StepThrough());
}

TEST_F(SplitRingStep, AStoreOutOfOrderIsNoticed) {
  ASSERT_TRUE(Kill());
  Spawn<LateAccess>(Tracking::kOn, /*traced=*/true);
  ASSERT_TRUE(WaitForStop());
  EXPECT_FALSE(StepThrough());
  std::printf("wrong order noticed after %lu instructions\n",
              static_cast<unsigned long>(steps_));
}

}  // namespace
}  // namespace holdfast

#include "devices/runtime/queue_runner_sys.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/shared_access.h"
#include "base/testing/matchers.h"
#include "devices/runtime/testing/queue_rig_sys.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::QueueRig;
using ::holdfast::testing::ScriptedDevice;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr eventfd_t kFull = ~eventfd_t{0} - 1;

// What requests wait at until the test opens it.
class Gate {
 public:
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void AwaitWaiting(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ == count; });
  }
  void Open() {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

uint64_t Count(const UniqueFd& event) {
  eventfd_t count = 0;
  return eventfd_read(event.get(), &count) == 0 ? count : 0;
}

class QueueRunnerTest : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_THAT(rig_.driver().violations(), IsEmpty());
  }

  // Counts in the state and answers with the request's first byte.
  void CountRequests() {
    device_.handler = [this](uint8_t first, Request& request, Txn& txn) {
      txn.Set(rig_.counter().requests, txn.Get(rig_.counter().requests) + 1);
      txn.Complete(request, request.Write({&first, 1}));
      return absl::OkStatus();
    };
  }
  // 'G' waits at the gate, all else does not.
  void HoldAtGate() {
    device_.handler = [this](uint8_t first, Request& request, Txn& txn) {
      if (first == 'G') gate_.Pass();
      txn.Complete(request, request.Write({&first, 1}));
      return absl::OkStatus();
    };
  }

  QueueRig rig_;
  ScriptedDevice device_;
  Gate gate_;
};

// ---- Serving ----

TEST_F(QueueRunnerTest, AnswersInRingOrderWithOneWorker) {
  CountRequests();
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  for (char first : {'a', 'b', 'c'}) rig_.Post(first);
  rig_.Kick();
  EXPECT_THAT(rig_.Answers(3), ElementsAre("a", "b", "c"));
  EXPECT_EQ(runner->Stop(), 3);
  EXPECT_EQ(rig_.stats->requests, 3u);
  EXPECT_EQ(rig_.Requests(), 3u);
}

TEST_F(QueueRunnerTest, LooksAtTheRingWithoutAKickAndSignalsOnce) {
  const auto runner = rig_.Runner(device_);
  rig_.Post('a');
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_THAT(rig_.Answers(1), ElementsAre("."));
  runner->Stop();
  EXPECT_GE(Count(rig_.call), 1u);
}

TEST_F(QueueRunnerTest, CallsFollowersInWhenRequestsBlock) {
  HoldAtGate();
  const auto runner = rig_.Runner(device_, /*workers=*/4);
  ASSERT_OK(rig_.Start(*runner));
  for (int i = 0; i < 6; ++i) rig_.Post('G');
  rig_.Kick();
  gate_.AwaitWaiting(4);  // All at once, and no more than there are workers.
  EXPECT_EQ(rig_.driver().used().idx, 0);
  gate_.Open();
  EXPECT_EQ(rig_.Answers(6).size(), 6u);
}

// The leader is busy: another worker must wait for kicks in its place.
TEST_F(QueueRunnerTest, AFollowerBecomesTheLeader) {
  HoldAtGate();
  const auto runner = rig_.Runner(device_, /*workers=*/2);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Post('G');
  rig_.Kick();
  gate_.AwaitWaiting(1);
  for (char first : {'a', 'b', 'c'}) {
    rig_.Post(first);
    rig_.Kick();
    EXPECT_THAT(rig_.Answers(1), ElementsAre(std::string(1, first)));
  }
  gate_.Open();
  EXPECT_THAT(rig_.Answers(1), ElementsAre("G"));
}

TEST_F(QueueRunnerTest, SpuriousKicksDoNothing) {
  const auto runner = rig_.Runner(device_, /*workers=*/3);
  ASSERT_OK(rig_.Start(*runner));
  for (int i = 0; i < 1000; ++i) rig_.Kick();
  rig_.Post('a');
  rig_.Kick();
  EXPECT_EQ(rig_.Answers(1).size(), 1u);
  rig_.Post('b');
  eventfd_write(rig_.kick.get(), kFull);  // Absurd, but a kick.
  EXPECT_EQ(rig_.Answers(1).size(), 1u);
  runner->Stop();
  EXPECT_EQ(rig_.stats->requests, 2u);
}

TEST_F(QueueRunnerTest, ADriverThatPollsNeedsNoCall) {
  rig_.call.Reset();
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Post('a');
  rig_.Kick();
  EXPECT_EQ(rig_.Answers(1).size(), 1u);
  runner->Stop();
  EXPECT_EQ(rig_.stats->interrupts, 0u);
}

TEST_F(QueueRunnerTest, ServesSixteenQueuesAtOnce) {
  constexpr uint16_t kQueues = 16;
  constexpr int kRequests = 200;
  std::atomic<int> served{0};
  device_.handler = [&](uint8_t, Request& request, Txn& txn) {
    ++served;
    txn.Complete(request, 0);
    return absl::OkStatus();
  };
  std::vector<std::unique_ptr<QueueRig>> rigs;
  std::vector<std::unique_ptr<QueueRunner>> runners;
  StateBank& bank = rig_.Bank();
  for (uint16_t i = 0; i < kQueues; ++i) {
    rigs.push_back(std::make_unique<QueueRig>(i));
    runners.push_back(rigs[i]->Runner(device_, /*workers=*/2));
    ASSERT_OK(rigs[i]->Start(*runners[i], bank));
  }
  for (int round = 0; round < kRequests / 10; ++round) {
    for (auto& rig : rigs) {
      for (int i = 0; i < 10; ++i) rig->Post('a');
      rig->Kick();
    }
    for (auto& rig : rigs) rig->Answers(10);
  }
  for (uint16_t i = 0; i < kQueues; ++i) {
    EXPECT_EQ(runners[i]->Stop(), kRequests);
    EXPECT_THAT(rigs[i]->driver().violations(), IsEmpty());
  }
  EXPECT_EQ(served, kQueues * kRequests);
}

// As it is measured against.
TEST_F(QueueRunnerTest, WithoutATableServesAndLeavesNoRecord) {
  CountRequests();
  rig_.tracked = false;
  auto runner = rig_.Runner(device_, /*workers=*/2);
  ASSERT_OK(rig_.Start(*runner));
  for (char first : {'a', 'b', 'c'}) rig_.Post(first);
  rig_.Kick();
  EXPECT_EQ(rig_.Answers(3).size(), 3u);
  EXPECT_EQ(runner->Stop(), 3);
  runner.reset();
  EXPECT_EQ(rig_.Requests(), 3u);
  EXPECT_EQ(rig_.Bank().completion(0).counter, 0u);
  // Another one that had a table would find a queue without history.
  rig_.tracked = true;
  EXPECT_THAT(*rig_.Ring().Recover(3), IsEmpty());
}

// ---- Stopping and going on ----

TEST_F(QueueRunnerTest, StopWaitsForWhatIsInFlight) {
  HoldAtGate();
  const auto runner = rig_.Runner(device_, /*workers=*/3);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Post('G');
  rig_.Post('G');
  rig_.Kick();
  gate_.AwaitWaiting(2);
  auto stop = std::async(std::launch::async, [&] { return runner->Stop(); });
  EXPECT_EQ(stop.wait_for(std::chrono::milliseconds(50)),
            std::future_status::timeout);
  gate_.Open();
  EXPECT_EQ(stop.get(), 2);
  // Both are answered by the time that Stop returns.
  EXPECT_EQ(rig_.driver().Collect().size(), 2u);
  EXPECT_FALSE(runner->running());
}

TEST_F(QueueRunnerTest, StopLeavesTheRestToTheNextStart) {
  HoldAtGate();
  const auto runner = rig_.Runner(device_);
  StateBank& bank = rig_.Bank();
  ASSERT_OK(rig_.Start(*runner, bank));
  for (char first : {'G', 'b', 'c'}) rig_.Post(first);
  rig_.Kick();
  gate_.AwaitWaiting(1);
  auto stop = std::async(std::launch::async, [&] { return runner->Stop(); });
  EXPECT_EQ(stop.wait_for(std::chrono::milliseconds(50)),
            std::future_status::timeout);
  gate_.Open();
  const uint16_t base = stop.get();
  EXPECT_EQ(base, 1);
  EXPECT_THAT(rig_.Answers(1), ElementsAre("G"));
  EXPECT_EQ(runner->Stop(), base);  // Idempotent.
  ASSERT_OK(rig_.Start(*runner, bank, base));
  EXPECT_THAT(rig_.Answers(2), ElementsAre("b", "c"));
  EXPECT_EQ(runner->Stop(), 3);
}

TEST_F(QueueRunnerTest, TakesNothingWhileItIsStopped) {
  const auto runner = rig_.Runner(device_, /*workers=*/2);
  EXPECT_EQ(runner->Stop(), 0);  // Before the first Start.
  StateBank& bank = rig_.Bank();
  ASSERT_OK(rig_.Start(*runner, bank));
  runner->Stop();
  Count(rig_.call);
  rig_.Post('a');
  rig_.Kick();
  usleep(20'000);
  EXPECT_EQ(rig_.driver().used().idx, 0);
  EXPECT_EQ(Count(rig_.call), 0u);
  ASSERT_OK(rig_.Start(*runner, bank));
  EXPECT_EQ(rig_.Answers(1).size(), 1u);
}

TEST_F(QueueRunnerTest, ANewKickDescriptorTakesTheOldOnesPlace) {
  const auto runner = rig_.Runner(device_);
  StateBank& bank = rig_.Bank();
  ASSERT_OK(rig_.Start(*runner, bank));
  runner->Stop();
  UniqueFd old = std::move(rig_.kick);
  Count(old);
  rig_.kick.Reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  ASSERT_OK(rig_.Start(*runner, bank));
  rig_.Post('a');
  rig_.Kick();
  rig_.Answers(1);
  eventfd_write(old.get(), 7);
  rig_.Post('b');
  rig_.Kick();
  rig_.Answers(1);
  EXPECT_EQ(Count(old), 7u);  // Nobody has read it.
}

// ---- Interrupts ----

TEST_F(QueueRunnerTest, ANewCallDescriptorIsSignalledAtOnce) {
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Post('a');
  rig_.Kick();
  rig_.Answers(1);
  const UniqueFd next(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  runner->SetCall(next);
  EXPECT_EQ(Count(next), 1u);
  Count(rig_.call);
  rig_.driver().EnableInterrupts();
  rig_.Post('b');
  rig_.Kick();
  rig_.Answers(1);
  runner->Stop();
  EXPECT_EQ(Count(next), 1u);
  EXPECT_EQ(Count(rig_.call), 0u);
}

TEST_F(QueueRunnerTest, AFullCallDescriptorHoldsNothingUp) {
  eventfd_write(rig_.call.get(), kFull);
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  for (int i = 0; i < 10; ++i) {
    rig_.Post('a');
    rig_.Kick();
    rig_.Answers(1);
  }
  runner->Stop();
  EXPECT_EQ(Count(rig_.call), kFull);
}

// The VMM that fills a blocking one holds its own queue up, but not the
// process: the control thread gets through.
TEST_F(QueueRunnerTest, AFullCallDescriptorThatBlocksDoesNotHoldStopUp) {
  rig_.call.Reset(eventfd(0, EFD_CLOEXEC));
  const auto runner = rig_.Runner(device_, /*workers=*/2);
  ASSERT_OK(rig_.Start(*runner));
  rig_.driver().EnableInterrupts();
  ASSERT_EQ(Count(rig_.call), 1u);
  eventfd_write(rig_.call.get(), kFull);
  for (int i = 0; i < 4; ++i) rig_.Post('a');
  rig_.Kick();
  // The first answer is out, and its worker in the middle of the signal.
  while (SharedAccess::LoadAcquire(&rig_.driver().used().idx) == 0) {
    usleep(200);
  }
  usleep(10'000);
  runner->Stop();
  const UniqueFd next(eventfd(0, EFD_CLOEXEC));
  eventfd_write(next.get(), kFull);
  runner->SetCall(next);  // Not even while nothing runs.
  rig_.call.Reset(eventfd(0, EFD_CLOEXEC));
  eventfd_write(rig_.call.get(), kFull);
  ASSERT_OK(rig_.Start(*runner));
  runner->Stop();
  rig_.driver().Collect();
}

// ---- Mistakes of the driver ----

TEST_F(QueueRunnerTest, ABrokenRingIsServedAgainAfterARestart) {
  const auto runner = rig_.Runner(device_, /*workers=*/2);
  ASSERT_OK(rig_.Start(*runner));
  __atomic_store_n(&rig_.driver().avail_index(), 1000, __ATOMIC_RELEASE);
  rig_.Kick();
  while (__atomic_load_n(&rig_.stats->broken, __ATOMIC_RELAXED) == 0) {
    usleep(200);
  }
  EXPECT_EQ(runner->Stop(), 0);
  rig_.driver().avail_index() = 0;
  rig_.Post('a');
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_EQ(rig_.Answers(1).size(), 1u);
  runner->Stop();
  EXPECT_EQ(rig_.stats->broken, 1u);
}

TEST_F(QueueRunnerTest, ABadChainIsAnsweredWithNothing) {
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Post('a');
  const uint16_t head = rig_.driver().avail_ring(0);
  rig_.driver().descriptor(head).address = ~uint64_t{0} - 4096;
  rig_.Post('b');
  rig_.Kick();
  EXPECT_THAT(rig_.Answers(2), ElementsAre("", "."));
  runner->Stop();
  EXPECT_EQ(rig_.stats->errors, 1u);
}

TEST_F(QueueRunnerTest, ARefusedRequestLeavesNoTraceInTheState) {
  device_.handler = [this](uint8_t first, Request& request, Txn& txn) {
    txn.Set(rig_.counter().requests, txn.Get(rig_.counter().requests) + 1);
    if (first == 'n') return absl::InvalidArgumentError("no");
    txn.Complete(request, request.Write("y"));
    return absl::OkStatus();
  };
  auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  for (char first : {'y', 'n', 'y'}) rig_.Post(first);
  rig_.Kick();
  EXPECT_THAT(rig_.Answers(3), ElementsAre("y", "", "y"));
  runner.reset();
  EXPECT_EQ(rig_.Requests(), 2u);
  EXPECT_EQ(rig_.stats->errors, 1u);
}

// ---- The dirty log ----

// A request that was taken by somebody who is no more.
CompletionRecord TakeOne(QueueRig& rig) {
  SplitRing ring = rig.Ring();
  EXPECT_OK(ring.Recover(0));
  const Popped popped = ring.Pop();
  EXPECT_EQ(popped.result, PopResult::kRequest);
  return {ring.table()->counter(popped.head), popped.head, 2};
}

// Which pages of the driver's memory are marked.
class DirtyLog {
 public:
  explicit DirtyLog(QueueRig& rig) : rig_(rig), bits_(1 << 16) {
    rig.driver().memory().SetLog(absl::MakeSpan(bits_));
  }
  bool Has(const void* at) const {
    const uint64_t page = ToInt(rig_.driver().ToGuest(at)) / 4096;
    return (bits_[page / 8] >> page % 8 & 1) != 0;
  }
  void Clear() { std::fill(bits_.begin(), bits_.end(), 0); }

 private:
  QueueRig& rig_;
  std::vector<uint8_t> bits_;
};

// The next buffers that the driver uses begin with a page of their own.
const uint8_t* OwnPage(QueueRig& rig) {
  uint8_t* at = rig.driver().Allocate(16);
  while (reinterpret_cast<uintptr_t>(at) % 4096 != 4096 - 16) {
    at = rig.driver().Allocate(16);
  }
  return at + 16;
}

TEST_F(QueueRunnerTest, MarksBuffersAndUsedRing) {
  DirtyLog log(rig_);
  const uint8_t* const buffer = OwnPage(rig_);
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_TRUE(log.Has(&rig_.driver().used()));  // The flags of the start.
  log.Clear();
  rig_.driver().Post({QueueRig::DriverBuffer::Writable(3 * 4096)});
  rig_.Kick();
  rig_.Answers(1);
  runner->Stop();
  EXPECT_TRUE(log.Has(&rig_.driver().used()));
  EXPECT_TRUE(log.Has(buffer));
  EXPECT_TRUE(log.Has(buffer + 3 * 4096 - 1));
  EXPECT_FALSE(log.Has(buffer + 4 * 4096));
}

TEST_F(QueueRunnerTest, MarksWhatAPredecessorWroteAndCouldNotMark) {
  const uint8_t* const buffer = OwnPage(rig_);
  rig_.driver().Post({QueueRig::DriverBuffer::Writable(4096)});
  const CompletionRecord record = TakeOne(rig_);
  StateBank& bank = rig_.Bank();
  StateTxn txn = bank.Begin();
  txn.RecordCompletion(0, record);
  ASSERT_OK(bank.Commit(txn));
  // Nobody executes it again; it is answered and marked all the same.
  DirtyLog log(rig_);
  device_.handler = [](uint8_t, Request&, Txn&) {
    ADD_FAILURE() << "executed";
    return absl::OkStatus();
  };
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  rig_.Answers(1);
  runner->Stop();
  EXPECT_TRUE(log.Has(buffer));
  EXPECT_TRUE(log.Has(&rig_.driver().used()));
}

// ---- After a death ----

TEST_F(QueueRunnerTest, ExecutesAgainWhatWasInFlight) {
  CountRequests();
  rig_.Post('a');
  TakeOne(rig_);
  rig_.Post('b');
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_THAT(rig_.Answers(2), ElementsAre("a", "b"));
  runner->Stop();
  EXPECT_EQ(rig_.stats->resubmitted, 1u);
  EXPECT_EQ(rig_.Requests(), 2u);
}

// Death between the commit of the state and the used ring.
TEST_F(QueueRunnerTest, OnlyAnswersWhatTheStateContains) {
  CountRequests();
  rig_.Post('a');
  const CompletionRecord record = TakeOne(rig_);
  StateBank& bank = rig_.Bank();
  StateTxn txn = bank.Begin();
  txn.Set(rig_.counter().requests, 1);
  txn.RecordCompletion(0, record);
  ASSERT_OK(bank.Commit(txn));
  auto runner = rig_.Runner(device_);
  StateBank& next = rig_.Bank();
  ASSERT_OK(rig_.Start(*runner, next));
  const auto answers = rig_.Answers(1);
  EXPECT_EQ(answers[0].size(), record.written);
  EXPECT_EQ(next.completion(0).counter, 0u);
  runner->Stop();
  EXPECT_EQ(rig_.Requests(), 1u);
}

TEST_F(QueueRunnerTest, ForgetsARecordOfAnEarlierLife) {
  CountRequests();
  rig_.Post('a');
  CompletionRecord record = TakeOne(rig_);
  record.counter += 5;
  StateBank& bank = rig_.Bank();
  StateTxn txn = bank.Begin();
  txn.RecordCompletion(0, record);
  ASSERT_OK(bank.Commit(txn));
  const auto runner = rig_.Runner(device_);
  ASSERT_OK(rig_.Start(*runner));
  EXPECT_THAT(rig_.Answers(1), ElementsAre("a"));
}

}  // namespace
}  // namespace holdfast

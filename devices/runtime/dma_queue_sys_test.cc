#include "devices/runtime/dma_queue_sys.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "devices/runtime/testing/queue_rig_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;

// The driver's memory, as somebody else moves it: in pieces that a guest beside
// it sees whole, and not at all while nobody answers.
class SlowDma final : public Dma {
 public:
  explicit SlowDma(FakeDriver& driver) : driver_(driver) {}

  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    return Move(address, out.size(), [&](uint8_t* at, size_t i, size_t size) {
      if (size == 2) {
        const auto value =
            __atomic_load_n(reinterpret_cast<uint16_t*>(at), __ATOMIC_ACQUIRE);
        std::memcpy(&out[i], &value, 2);
      } else {
        out[i] = __atomic_load_n(at, __ATOMIC_ACQUIRE);
      }
    });
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    if (ToInt(address) >= read_only_from_) {
      return absl::PermissionDeniedError("read-only");
    }
    return Move(address, bytes.size(), [&](uint8_t* at, size_t i, size_t size) {
      if (size == 2) {
        uint16_t value;
        std::memcpy(&value, &bytes[i], 2);
        __atomic_store_n(reinterpret_cast<uint16_t*>(at), value,
                         __ATOMIC_RELEASE);
      } else {
        __atomic_store_n(at, bytes[i], __ATOMIC_RELEASE);
      }
    });
  }
  absl::StatusOr<DmaMapping> Map(GuestAddress, uint64_t, DmaAccess) override {
    return absl::FailedPreconditionError("nothing is mapped");
  }
  void Written(GuestAddress, uint64_t) override {}

  // Transfers fail from the `after`-th on, until they are accepted again: not
  // made, or made and not known to be.
  void RefuseAfter(int after, bool made) {
    made_ = made;
    left_.store(after);
  }
  void Refuse() { RefuseAfter(0, false); }
  void Accept() { left_.store(kAll); }
  // Whether one has failed since RefuseAfter.
  bool refused() const { return left_.load() < 0; }
  void MakeReadOnlyFrom(uint64_t address) { read_only_from_ = address; }

 private:
  static constexpr int kAll = 1 << 30;

  template <typename Piece>
  absl::Status Move(GuestAddress address, size_t size, Piece piece) {
    const bool fails = left_.fetch_sub(1) <= 0;
    if (fails && !made_) return absl::UnavailableError("not made");
    uint8_t* const at = driver_.memory().Translate(address, size);
    if (at == nullptr) return absl::OutOfRangeError("outside the windows");
    for (size_t i = 0; i < size;) {
      const bool two =
          (reinterpret_cast<uintptr_t>(at + i) & 1) == 0 && size - i >= 2;
      piece(at + i, i, two ? 2 : 1);
      i += two ? 2 : 1;
    }
    return fails ? absl::UnavailableError("made, not answered")
                 : absl::OkStatus();
  }

  FakeDriver& driver_;
  uint64_t read_only_from_ = ~uint64_t{0};
  std::atomic<bool> made_{false};
  std::atomic<int> left_{kAll};
};

class CountedSignal final : public QueueSignal {
 public:
  void Signal() override { ++count; }
  std::atomic<uint64_t> count{0};
};

class DmaQueueTest : public ::testing::Test {
 protected:
  DmaQueueTest() {
    device_.handler = [this](uint8_t first, Request& request, Txn& txn) {
      ++executed_;
      txn.Set(rig_.counter().requests, txn.Get(rig_.counter().requests) + 1);
      const std::string answer = absl::StrCat(std::string(1, first), "!");
      txn.Complete(request, request.Write(answer));
      return absl::OkStatus();
    };
    runner_ = std::make_unique<DmaQueueRunner>(0, device_, *rig_.stats,
                                               *rig_.stamp, dma_);
  }
  ~DmaQueueTest() override {
    dma_.Refuse();
    runner_.reset();
  }

  void Start() {
    const SplitRingConfig mapped = rig_.driver().config();
    const auto name = [this](const uint8_t* at) {
      return reinterpret_cast<uint8_t*>(
          uintptr_t{ToInt(rig_.driver().ToGuest(at))});
    };
    DmaQueueRunner::Config config;
    config.ring = mapped;
    config.ring.descriptors = name(mapped.descriptors);
    config.ring.available = name(mapped.available);
    config.ring.used = name(mapped.used);
    config.inflight = rig_.inflight();
    config.state = &rig_.Bank();
    config.kick = rig_.kick;
    config.signal = &signal_;
    runner_->Start(config);
  }
  void Stop() {
    dma_.Refuse();
    runner_->Stop();
    dma_.Accept();
  }

  QueueRig rig_;
  SlowDma dma_{rig_.driver()};
  CountedSignal signal_;
  std::atomic<uint64_t> executed_{0};
  ScriptedDevice device_;
  std::unique_ptr<DmaQueueRunner> runner_;
};

TEST_F(DmaQueueTest, AnswersInOrder) {
  rig_.Post('a');  // Found without a kick.
  Start();
  EXPECT_TRUE(runner_->running());
  EXPECT_THAT(rig_.Answers(1), ElementsAre("a!"));
  rig_.Post('b');
  rig_.Post('c');
  rig_.Kick();
  EXPECT_THAT(rig_.Answers(2), ElementsAre("b!", "c!"));
  Stop();
  EXPECT_FALSE(runner_->running());
  EXPECT_EQ(rig_.Requests(), 3u);
  EXPECT_EQ(rig_.stats->requests, 3u);
  EXPECT_GE(signal_.count, 2u);
  EXPECT_EQ(rig_.stamp->in_flight, 0u);
  EXPECT_THAT(rig_.driver().violations(), ElementsAre());
}

TEST_F(DmaQueueTest, StopsAndGoesOn) {
  for (int round = 0; round < 20; ++round) {
    Start();
    rig_.Post('x');
    rig_.Kick();
    if (round % 2 == 0) rig_.Answers(1);
    Stop();
    Stop();
    if (round % 2 == 1) {
      Start();
      rig_.Answers(1);
      Stop();
    }
  }
  EXPECT_EQ(rig_.Requests(), 20u);
  EXPECT_THAT(rig_.driver().violations(), ElementsAre());
}

// Whichever transfer it is that fails first, and whether it was made or not:
// each request is answered once, and counted once by the device's state.
TEST_F(DmaQueueTest, TransfersThatFailAreNotSeen) {
  Start();
  uint64_t posted = 0;
  for (int after = 0; after < 30; ++after) {
    for (const bool made : {false, true}) {
      rig_.Post('a');
      rig_.Post('b');
      posted += 2;
      dma_.RefuseAfter(after, made);
      // What was posted may be answered by now, and each kick is some more.
      while (!dma_.refused()) {
        rig_.Kick();
        std::this_thread::yield();
      }
      dma_.Accept();
      rig_.Kick();
      const std::vector<std::string> answers = rig_.Answers(2);
      EXPECT_THAT(answers, ElementsAre("a!", "b!")) << after << made;
    }
  }
  Stop();
  EXPECT_EQ(rig_.Requests(), posted);
  EXPECT_GT(executed_, posted);
  EXPECT_GT(rig_.stats->resubmitted, 0u);
  EXPECT_THAT(rig_.driver().violations(), ElementsAre());
}

// Else a successor, which only answers what is committed, would have nothing to
// answer with.
TEST_F(DmaQueueTest, NothingIsCommittedBeforeItIsDelivered) {
  device_.handler = [this](uint8_t, Request& request, Txn& txn) {
    dma_.Refuse();
    ++executed_;
    txn.Set(rig_.counter().requests, txn.Get(rig_.counter().requests) + 1);
    txn.Complete(request, request.Write("x"));
    return absl::OkStatus();
  };
  rig_.Post('a');
  Start();
  while (!dma_.refused()) std::this_thread::yield();
  runner_->Stop();
  EXPECT_EQ(executed_, 1u);
  EXPECT_EQ(rig_.Requests(), 0u);
  EXPECT_EQ(rig_.driver().outstanding(), 1u);
}

TEST_F(DmaQueueTest, ABufferThatCannotBeWrittenIsRefusedAndOthersAreNot) {
  Start();
  rig_.Post('a');
  rig_.Kick();
  rig_.Answers(1);
  Stop();
  dma_.MakeReadOnlyFrom(
      ToInt(rig_.driver().ToGuest(rig_.driver().Allocate(4))));
  const uint64_t counted = rig_.Requests();
  rig_.Post('b');
  Start();
  EXPECT_THAT(rig_.Answers(1), ElementsAre(""));
  EXPECT_EQ(rig_.stats->errors, 1u);
  Stop();
  EXPECT_EQ(rig_.Requests(), counted);
  dma_.MakeReadOnlyFrom(~uint64_t{0});
  Start();
  rig_.Post('c');
  rig_.Kick();
  EXPECT_THAT(rig_.Answers(1), ElementsAre("c!"));
}

TEST_F(DmaQueueTest, ARingThatIsBrokenWaitsForANewLife) {
  Start();
  rig_.Post('a');
  rig_.Kick();
  rig_.Answers(1);
  const uint16_t index = rig_.driver().avail_index();
  __atomic_store_n(&rig_.driver().avail_index(),
                   static_cast<uint16_t>(index + 1000), __ATOMIC_RELEASE);
  rig_.Kick();
  while (__atomic_load_n(&rig_.stats->broken, __ATOMIC_RELAXED) == 0) {
    std::this_thread::yield();
  }
  Stop();
  __atomic_store_n(&rig_.driver().avail_index(), index, __ATOMIC_RELEASE);
  Start();
  rig_.Post('b');
  rig_.Kick();
  EXPECT_THAT(rig_.Answers(1), ElementsAre("b!"));
}

// Two processes have died of it.
TEST_F(DmaQueueTest, PoisonIsAnsweredByTheDevice) {
  rig_.Post('p');
  const uint16_t size = rig_.driver().config().size;
  auto table = InflightTable::Attach(rig_.inflight(), size);
  ASSERT_OK(table);
  table->Reset(0, 0);
  table->Fetch(rig_.driver().avail_ring(0));
  std::vector<InflightRequest> left(size);
  for (int death = 0; death < 2; ++death) {
    table->MarkStarted(rig_.driver().avail_ring(0));
    ASSERT_OK(table->Recover(0, absl::MakeSpan(left)));
  }
  Start();
  EXPECT_THAT(rig_.Answers(1), ElementsAre("!?"));
  EXPECT_EQ(rig_.stats->poisoned, 1u);
  EXPECT_EQ(executed_, 0u);
}

}  // namespace
}  // namespace holdfast::testing

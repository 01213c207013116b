#include "devices/virtqueue/split_ring.h"

#include <array>
#include <memory>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FakeDriver;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StrEq;
using Buffer = FakeDriver::Buffer;

constexpr uint16_t kSize = 8;

class SplitRingTest : public ::testing::Test {
 protected:
  void Start(FakeDriver::Options options, uint16_t base = 0) {
    options.size = kSize;
    driver_ = std::make_unique<FakeDriver>(options);
    Restart(base);
  }

  // A new process: nothing is left but guest memory and the region.
  std::vector<uint16_t> Restart(uint16_t base = 0) {
    auto table = InflightTable::Attach(absl::MakeSpan(region_), kSize);
    ring_ = std::make_unique<SplitRing>(
        *SplitRing::Create(driver_->config(), &driver_->memory(), *table));
    recovered_ = ring_->Recover(base);
    std::vector<uint16_t> heads;
    if (!recovered_.ok()) return heads;
    for (const InflightRequest& r : *recovered_) heads.push_back(r.head);
    return heads;
  }

  uint64_t Post() { return *driver_->Post({Buffer::Writable(4)}); }
  uint16_t PopHead() {
    const Popped popped = ring_->Pop();
    EXPECT_EQ(popped.result, PopResult::kRequest);
    return popped.head;
  }
  void Publish(std::vector<uint16_t> heads) {
    std::vector<Completion> batch;
    for (uint16_t head : heads) batch.push_back({head, 4});
    ASSERT_OK(ring_->Publish(batch));
  }
  std::vector<uint64_t> Answers() {
    std::vector<uint64_t> numbers;
    for (const auto& answer : driver_->Collect()) {
      numbers.push_back(answer.request);
    }
    return numbers;
  }
  void ExpectBroken(const char* why) {
    EXPECT_EQ(ring_->Pop().result, PopResult::kBroken);
    EXPECT_THAT(ring_->broken(), StrEq(why));
    EXPECT_EQ(ring_->Pop().result, PopResult::kBroken);  // It stays so.
    EXPECT_FALSE(ring_->EnableKicks());
  }

  alignas(64) std::array<uint8_t, InflightRegionSize(kSize)> region_ = {};
  std::unique_ptr<FakeDriver> driver_;
  std::unique_ptr<SplitRing> ring_;
  absl::StatusOr<absl::Span<const InflightRequest>> recovered_;
};

TEST_F(SplitRingTest, CarriesARequestThereAndBack) {
  for (bool indirect : {false, true}) {
    FakeDriver::Options options;
    options.indirect = indirect;
    region_ = {};
    Start(options);
    driver_->Post({Buffer::Readable({1, 2, 3}), Buffer::Writable(2)});
    Chain chain;
    const uint16_t head = PopHead();
    ASSERT_OK(ring_->ReadChain(head, chain));
    ASSERT_EQ(chain.readable().size(), 1u);
    EXPECT_THAT(absl::MakeSpan(chain.readable()[0].data, 3),
                ElementsAre(1, 2, 3));
    chain.writable()[0].data[0] = 7;
    ASSERT_OK(ring_->Publish({{head, 1}}));
    const auto answers = driver_->Collect();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_THAT(answers[0].data, ElementsAre(7, 0));
    EXPECT_EQ(answers[0].written, 1u);
    EXPECT_THAT(driver_->violations(), IsEmpty());
    EXPECT_EQ(ring_->Pop().result, PopResult::kEmpty);
  }
}

TEST_F(SplitRingTest, AnswersInAnyOrderAcrossTheWrapOfTheIndices) {
  FakeDriver::Options options;
  options.first_index = 65530;
  Start(options, /*base=*/65530);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = Post(), b = Post(), c = Post();
    const uint16_t ha = PopHead(), hb = PopHead(), hc = PopHead();
    Publish({hc});
    Publish({hb, ha});
    EXPECT_THAT(Answers(), ElementsAre(c, b, a));
  }
  EXPECT_THAT(driver_->violations(), IsEmpty());
}

TEST_F(SplitRingTest, RestartResubmitsInOrderAndFetchesTheRestOnce) {
  Start({});
  const uint64_t a = Post(), b = Post(), c = Post();
  const uint16_t ha = PopHead(), hb = PopHead(), hc = PopHead();
  const uint64_t d = Post();
  Publish({hb});
  EXPECT_THAT(Restart(), ElementsAre(ha, hc));
  EXPECT_EQ(ring_->in_flight(), 2);
  const uint16_t hd = PopHead();
  EXPECT_EQ(ring_->Pop().result, PopResult::kEmpty);
  Publish({hd, hc, ha});
  EXPECT_THAT(Answers(), ElementsAre(b, d, c, a));
  EXPECT_THAT(Restart(), IsEmpty());
  EXPECT_EQ(ring_->Pop().result, PopResult::kEmpty);
}

TEST_F(SplitRingTest, BaseCountsForAFreshQueueOnly) {
  FakeDriver::Options options;
  options.first_index = 100;
  Start(options, /*base=*/100);
  Post();
  const uint16_t head = PopHead();
  EXPECT_THAT(Restart(/*base=*/100), ElementsAre(head));
  EXPECT_EQ(ring_->next_avail(), 101);
  EXPECT_EQ(ring_->Pop().result, PopResult::kEmpty);
}

// The front-end says 102 although only 100 were answered: two were lost before
// the queue came to us. The distance outlives any number of restarts.
TEST_F(SplitRingTest, KeepsTheDistanceOfRequestsLostEarlier) {
  FakeDriver::Options options;
  options.first_index = 100;
  Start(options, /*base=*/100);
  Post(), Post();
  ring_->table()->Forget();
  Restart(/*base=*/102);
  EXPECT_EQ(ring_->Pop().result, PopResult::kEmpty);
  const uint64_t later = Post();
  const uint16_t head = PopHead();
  EXPECT_THAT(Restart(/*base=*/102), ElementsAre(head));
  EXPECT_EQ(ring_->next_avail(), 103);
  Publish({head});
  EXPECT_THAT(Answers(), ElementsAre(later));
  EXPECT_THAT(Restart(), IsEmpty());
  EXPECT_EQ(ring_->next_avail(), 103);
}

TEST_F(SplitRingTest, WithoutATableStartsAtTheBase) {
  driver_ = std::make_unique<FakeDriver>(FakeDriver::Options());
  auto ring = SplitRing::Create(driver_->config(), &driver_->memory(), {});
  ASSERT_OK(ring);
  EXPECT_EQ(ring->Pop().result, PopResult::kBroken);  // Before Recover.
  ASSERT_OK(ring->Recover(0));
  Post();
  const Popped popped = ring->Pop();
  ASSERT_EQ(popped.result, PopResult::kRequest);
  ASSERT_OK(ring->Publish({{popped.head, 0}}));
  EXPECT_EQ(Answers().size(), 1u);
}

TEST_F(SplitRingTest, CreateRefusesWhatIsNotARing) {
  driver_ = std::make_unique<FakeDriver>(FakeDriver::Options());
  const auto refused = [&](SplitRingConfig config) {
    return !SplitRing::Create(config, &driver_->memory(), {}).ok();
  };
  const SplitRingConfig good = driver_->config();
  EXPECT_FALSE(refused(good));
  for (uint16_t size : {0, 3, 12, 32769, 65535}) {
    SplitRingConfig config = good;
    config.size = size;
    EXPECT_TRUE(refused(config)) << size;
  }
  for (auto area : {&SplitRingConfig::descriptors, &SplitRingConfig::available,
                    &SplitRingConfig::used}) {
    SplitRingConfig config = good;
    config.*area = nullptr;
    EXPECT_TRUE(refused(config));
    config.*area = good.*area + 1;
    EXPECT_TRUE(refused(config));
  }
  auto table = InflightTable::Attach(absl::MakeSpan(region_), 4);
  EXPECT_FALSE(SplitRing::Create(good, &driver_->memory(), *table).ok());
}

TEST_F(SplitRingTest, NewMemoryMayMoveButNotResizeTheRing) {
  Start({});
  SplitRingConfig config = driver_->config();
  EXPECT_OK(ring_->SetMemory(&driver_->memory(), config));
  config.size = 4;
  EXPECT_FALSE(ring_->SetMemory(&driver_->memory(), config).ok());
  config.size = kSize;
  config.used = nullptr;
  EXPECT_FALSE(ring_->SetMemory(&driver_->memory(), config).ok());
}

TEST_F(SplitRingTest, AnIndexThatJumpsBreaksTheRing) {
  Start({});
  driver_->avail_index() = kSize + 1;
  ExpectBroken("available index jumped");
}

TEST_F(SplitRingTest, AnIndexThatGoesBackBreaksTheRing) {
  Start({});
  Post();
  PopHead();
  driver_->avail_index() = 0;
  ExpectBroken("available index jumped");
}

TEST_F(SplitRingTest, AHeadOutsideTheTableBreaksTheRing) {
  Start({});
  driver_->avail_ring(0) = kSize;
  driver_->avail_index() = 1;
  ExpectBroken("head outside the table");
}

TEST_F(SplitRingTest, AHeadThatIsInFlightBreaksTheRing) {
  Start({});
  Post();
  PopHead();
  driver_->avail_ring(1) = driver_->avail_ring(0);
  driver_->avail_index() = 2;
  ExpectBroken("head made available twice");
  Restart();
  ExpectBroken("head made available twice");
}

TEST_F(SplitRingTest, AScribbledUsedIndexDoesNotComeBackToUs) {
  Start({});
  Post();
  const uint16_t head = PopHead();
  driver_->used().idx = 0x7777;
  Publish({head});
  EXPECT_EQ(driver_->used().idx, 1);
}

TEST_F(SplitRingTest, AUsedIndexScribbledBetweenLivesIsRefused) {
  Start({});
  driver_->used().idx = kSize + 1;
  Restart();
  EXPECT_THAT(recovered_, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  EXPECT_EQ(ring_->Pop().result, PopResult::kBroken);
}

TEST_F(SplitRingTest, ATableWithRequestsTheRingLacksIsRefused) {
  Start({});
  Post();
  PopHead();
  alignas(64) std::array<uint8_t, InflightRegionSize(16)> wide = {};
  InflightTable table = *InflightTable::Attach(absl::MakeSpan(wide), 16);
  table.Reset(0, 0);
  table.Fetch(kSize);
  auto ring = SplitRing::Create(driver_->config(), &driver_->memory(), table);
  ASSERT_OK(ring);
  EXPECT_THAT(ring->Recover(0), StatusIs(absl::StatusCode::kDataLoss,
                                         HasSubstr("unknown request")));
}

TEST_F(SplitRingTest, PublishRefusesWhatIsNotInFlightAndKeepsTheRest) {
  Start({});
  const uint64_t a = Post();
  Post();
  const uint16_t ha = PopHead();
  EXPECT_FALSE(ring_->Publish({{static_cast<uint16_t>(ha + 1), 0}}).ok());
  EXPECT_FALSE(ring_->Publish({{kSize, 0}}).ok());
  EXPECT_FALSE(ring_->Publish({{ha, 0}, {ha, 0}}).ok());
  EXPECT_FALSE(ring_->Publish({{ha, 0}, {0xffff, 0}}).ok());
  EXPECT_THAT(Answers(), IsEmpty());
  EXPECT_OK(ring_->Publish({}));
  Publish({ha});
  EXPECT_THAT(Answers(), ElementsAre(a));
  EXPECT_FALSE(ring_->Publish({{ha, 0}}).ok());
}

TEST_F(SplitRingTest, SignalsOnceAfterEveryRestart) {
  Start({});
  EXPECT_TRUE(ring_->NeedsInterrupt());
  EXPECT_FALSE(ring_->NeedsInterrupt());
  Restart();
  EXPECT_TRUE(ring_->NeedsInterrupt());
}

TEST_F(SplitRingTest, HonoursTheFlagAgainstInterrupts) {
  Start({});
  ring_->NeedsInterrupt();
  for (bool wanted : {true, false, true}) {
    if (wanted) {
      driver_->EnableInterrupts();
    } else {
      driver_->DisableInterrupts();
    }
    Post();
    Publish({PopHead()});
    EXPECT_EQ(ring_->NeedsInterrupt(), wanted);
    EXPECT_FALSE(ring_->NeedsInterrupt());
    Answers();
  }
}

TEST_F(SplitRingTest, SignalsWhenTheBatchPassesTheUsedEvent) {
  FakeDriver::Options options;
  options.event_idx = true;
  options.first_index = 65534;
  Start(options, /*base=*/65534);
  ring_->NeedsInterrupt();
  std::vector<bool> signals;
  driver_->used_event() = 65535;  // After the second answer.
  for (int i = 0; i < 4; ++i) {
    Post();
    Publish({PopHead()});
    signals.push_back(ring_->NeedsInterrupt());
  }
  EXPECT_THAT(signals, ElementsAre(false, true, false, false));
}

TEST_F(SplitRingTest, KickSuppressionFollowsTheFlag) {
  Start({});
  ring_->DisableKicks();
  Post();
  EXPECT_FALSE(driver_->NeedsKick());
  EXPECT_TRUE(ring_->EnableKicks());  // The recheck finds it.
  PopHead();
  EXPECT_FALSE(ring_->EnableKicks());
  Post();
  EXPECT_TRUE(driver_->NeedsKick());
}

TEST_F(SplitRingTest, KickSuppressionFollowsTheAvailEvent) {
  FakeDriver::Options options;
  options.event_idx = true;
  Start(options);
  EXPECT_FALSE(ring_->EnableKicks());
  Post();
  EXPECT_TRUE(driver_->NeedsKick());
  ring_->DisableKicks();
  EXPECT_EQ(driver_->used().flags, 0);  // Not used with the event index.
  Post();
  EXPECT_FALSE(driver_->NeedsKick());
  PopHead();
  EXPECT_TRUE(ring_->EnableKicks());
  PopHead();
  EXPECT_FALSE(ring_->EnableKicks());
  Post();
  EXPECT_TRUE(driver_->NeedsKick());
}

TEST_F(SplitRingTest, ARestartForgetsThatKicksWereOff) {
  Start({});
  ring_->DisableKicks();
  Restart();
  EXPECT_FALSE(ring_->EnableKicks());
  Post();
  EXPECT_TRUE(driver_->NeedsKick());
}

class SplitRingLogTest : public SplitRingTest {
 protected:
  SplitRingLogTest() {
    FakeDriver::Options options;
    options.guest_address = 0;
    Start(options);
    used_page_ = (ToInt(driver_->ToGuest(&driver_->used()))) / 4096;
    driver_->memory().SetLog(absl::MakeSpan(log_));
    ring_->SetUsedLog(driver_->ToGuest(&driver_->used()));
  }
  bool TakeDirty(uint64_t page) {
    const bool dirty = (log_[page / 8] >> (page % 8) & 1) != 0;
    log_ = {};
    return dirty;
  }
  std::array<uint8_t, 32> log_ = {};
  uint64_t used_page_;
};

TEST_F(SplitRingLogTest, EveryWriteToTheUsedRingIsLogged) {
  Post();
  const uint16_t head = PopHead();
  EXPECT_FALSE(TakeDirty(used_page_));
  Publish({head});
  EXPECT_TRUE(TakeDirty(used_page_));
  ring_->EnableKicks();
  EXPECT_TRUE(TakeDirty(used_page_));
  ring_->DisableKicks();
  EXPECT_TRUE(TakeDirty(used_page_));
}

TEST_F(SplitRingLogTest, TheRingMayBeLeftOutOfTheLog) {
  ring_->SetUsedLog(absl::nullopt);
  Post();
  Publish({PopHead()});
  EXPECT_FALSE(TakeDirty(used_page_));
}

// The mark of the last index before the death may be missing.
TEST_F(SplitRingLogTest, ARestartLogsTheWholeUsedRing) {
  auto table = InflightTable::Attach(absl::MakeSpan(region_), kSize);
  auto ring = SplitRing::Create(driver_->config(), &driver_->memory(), *table);
  ASSERT_OK(ring);
  ring->SetUsedLog(driver_->ToGuest(&driver_->used()));
  ASSERT_OK(ring->Recover(0));
  EXPECT_TRUE(TakeDirty(used_page_));
}

TEST_F(SplitRingLogTest, WritableBuffersAreLoggedAndReadableOnesNot) {
  driver_->Post(
      {Buffer::Readable(std::vector<uint8_t>(8192)), Buffer::Writable(8192)});
  Chain chain;
  ASSERT_OK(ring_->ReadChain(PopHead(), chain));
  const uint64_t read = ToInt(chain.readable()[0].address) / 4096;
  const uint64_t written = ToInt(chain.writable()[0].address) / 4096;
  ring_->MarkDirty(chain);
  EXPECT_EQ(log_[read / 8] >> (read % 8) & 1, 0);
  EXPECT_TRUE(TakeDirty(written + 1));
}

}  // namespace
}  // namespace holdfast

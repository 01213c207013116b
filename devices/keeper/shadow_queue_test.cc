// A guest's driver on one side, lives of a back-end on the other, which answer
// in any order, lie and die; and keepers that die with them.

#include "devices/keeper/shadow_queue.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/shadow_worker.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/inflight.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::FakeDriver;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ShadowWorker;
using Buffer = FakeDriver::Buffer;

constexpr uint16_t kSize = 16;

// One queue of one guest.
class World {
 public:
  explicit World(bool event_idx, bool tracked = true)
      : tracked_(tracked), driver_(OptionsOf(event_idx)) {
    Restart();
  }

  // Another life of the back-end, in the same keeper or in another: nothing is
  // left but guest memory and the table of requests in flight.
  void Restart(bool fault = false, bool on_trial = false) {
    absl::optional<InflightTable> table;
    if (tracked_) {
      table = *InflightTable::Attach({reinterpret_cast<uint8_t*>(table_.data()),
                                      table_.size() * sizeof(uint64_t)},
                                     kSize);
      for (uint16_t i = 0; fault && i < kSize; ++i) table->MarkStarted(i);
    }
    auto guest = SplitRing::Create(driver_.config(), &driver_.memory(), table);
    ASSERT_OK(guest);
    auto queue = ShadowQueue::Begin(
        *std::move(guest),
        ShadowRing(available(), used(), kSize, driver_.config().event_idx),
        static_cast<uint16_t>(driver_.used().idx));
    ASSERT_OK(queue);
    queue_.emplace(*std::move(queue));
    if (!holds_) queue_->Give(on_trial);
    worker_.emplace(available(), used(), kSize);
    has_.clear();
  }
  // The next request's number; 0: there is no room.
  uint64_t Post() { return driver_.Post({Buffer::Writable(8)}).value_or(0); }
  // A Turn of an honest life's keeper.
  void Turn(bool takes = true) {
    const auto turn = queue_->Turn(takes);
    ASSERT_OK(turn);
    called_ = called_ || turn->call;
    kicked_ = kicked_ || turn->kick;
  }
  // The life takes what there is; then one of what it has is answered.
  void Take() {
    for (const uint16_t head : worker_->Take()) has_.push_back(head);
  }
  void AnswerOne(size_t which) {
    worker_->Answer(has_[which], 8);
    has_.erase(has_.begin() + static_cast<ptrdiff_t>(which));
  }
  void Collect() {
    for (const FakeDriver::Answer& answer : driver_.Collect()) {
      answered_.push_back(answer.request);
    }
  }

  uint8_t* available() { return reinterpret_cast<uint8_t*>(memory_.data()); }
  uint8_t* used() { return available() + 1024; }

  const bool tracked_;
  FakeDriver driver_;
  std::vector<uint64_t> table_ =
      std::vector<uint64_t>(InflightRegionSize(kSize) / 8);
  std::vector<uint64_t> memory_ = std::vector<uint64_t>(512);
  std::optional<ShadowQueue> queue_;
  std::optional<ShadowWorker> worker_;
  std::vector<uint16_t> has_;  // Heads that the life has taken.
  std::vector<uint64_t> answered_;
  bool holds_ = false;  // Restart gives nothing.
  bool called_ = false;
  bool kicked_ = false;

 private:
  static FakeDriver::Options OptionsOf(bool event_idx) {
    FakeDriver::Options options;
    options.size = kSize;
    options.event_idx = event_idx;
    return options;
  }
};

class ShadowQueueTest : public ::testing::TestWithParam<bool> {
 protected:
  World world_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(EventIndex, ShadowQueueTest, ::testing::Bool());

TEST_P(ShadowQueueTest, PassesRequestsAndAnswersOn) {
  const uint64_t first = world_.Post();
  const uint64_t second = world_.Post();
  world_.Turn();
  EXPECT_TRUE(world_.kicked_);
  world_.Take();
  ASSERT_EQ(world_.has_.size(), 2u);
  world_.AnswerOne(1);
  world_.AnswerOne(0);
  world_.Turn();
  EXPECT_TRUE(world_.called_);
  world_.Collect();
  EXPECT_THAT(world_.answered_, ElementsAre(second, first));
  EXPECT_EQ(world_.queue_->in_flight(), 0);
  EXPECT_EQ(world_.queue_->next_available(), 2);
  EXPECT_THAT(world_.driver_.violations(), IsEmpty());
}

TEST_P(ShadowQueueTest, WhatIsStoppedTakesNothingAndAnswersOn) {
  world_.Post();
  world_.Turn();
  world_.Take();
  world_.Post();
  EXPECT_FALSE(world_.queue_->Rest(/*takes=*/false)) << "not for requests";
  world_.AnswerOne(0);
  EXPECT_TRUE(world_.queue_->Rest(/*takes=*/false));
  world_.Turn(/*takes=*/false);
  EXPECT_EQ(world_.queue_->in_flight(), 0);
  EXPECT_EQ(world_.queue_->next_available(), 1);
  EXPECT_TRUE(world_.queue_->Rest(/*takes=*/true)) << "there is one";
}

TEST_P(ShadowQueueTest, WhoRestsIsSignalled) {
  world_.Turn();
  EXPECT_FALSE(world_.queue_->Rest(/*takes=*/true));
  world_.Post();
  EXPECT_TRUE(world_.driver_.NeedsKick());
  world_.Turn();
  world_.Take();
  // With the event index the flag has no meaning.
  EXPECT_EQ(world_.worker_->WantsCall(), GetParam());
  EXPECT_FALSE(world_.queue_->Rest(/*takes=*/true));
  EXPECT_TRUE(world_.worker_->WantsCall());
}

// What a life had taken is there for the next one, before what is new and in
// the order of fetching.
TEST_P(ShadowQueueTest, TheNextLifeBeginsWithWhatIsInFlight) {
  for (int i = 0; i < 4; ++i) world_.Post();
  world_.Turn();
  world_.Take();
  const std::vector<uint16_t> heads = world_.has_;
  world_.AnswerOne(1);
  world_.Turn();
  world_.AnswerOne(0);  // Which no keeper sees any more.
  world_.Restart();
  world_.Post();
  world_.Turn();
  world_.Take();
  ASSERT_EQ(world_.has_.size(), 4u);
  EXPECT_EQ(world_.has_[0], heads[0]);
  EXPECT_EQ(world_.has_[1], heads[2]);
  EXPECT_EQ(world_.has_[2], heads[3]);
}

TEST_P(ShadowQueueTest, ALiarIsBelievedNothingMore) {
  const uint64_t number = world_.Post();
  world_.Turn();
  world_.Take();
  world_.worker_->Answer(world_.has_[0] + 1u, 0);
  EXPECT_THAT(world_.queue_->Turn(true),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("it ")));
  // What it says then is true, and too late.
  world_.worker_->MoveUsed(static_cast<uint16_t>(-1));
  EXPECT_THAT(world_.queue_->Turn(true),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("it ")));
  world_.Collect();
  EXPECT_THAT(world_.answered_, IsEmpty());
  world_.Restart();
  world_.Turn();
  world_.Take();
  world_.AnswerOne(0);
  world_.Turn();
  world_.Collect();
  EXPECT_THAT(world_.answered_, ElementsAre(number));
}

TEST_P(ShadowQueueTest, ADriverThatBreaksTheRingHarmsItself) {
  world_.Post();
  world_.Turn();
  world_.Take();
  world_.driver_.avail_index() += kSize + 1;
  world_.Turn();
  EXPECT_NE(world_.queue_->broken(), nullptr);
  EXPECT_FALSE(world_.queue_->Rest(true)) << "or it would turn for ever";
  world_.AnswerOne(0);
  world_.Turn();
  EXPECT_EQ(world_.queue_->in_flight(), 0);
}

class OnTrial : public ShadowQueueTest {
 protected:
  // Requests that were in flight at two deaths; the others came later.
  void TwoDeaths(int suspects) {
    for (int i = 0; i < suspects; ++i) numbers_.push_back(world_.Post());
    world_.Turn();
    world_.Restart(/*fault=*/true);
    world_.Restart(/*fault=*/true);
    EXPECT_FALSE(world_.queue_->on_trial());
    for (int i = 0; i < 2; ++i) numbers_.push_back(world_.Post());
    world_.Turn();
  }
  // What the life takes after a Turn.
  std::vector<uint16_t> Next() {
    world_.Turn();
    world_.Take();
    return world_.has_;
  }

  std::vector<uint64_t> numbers_;
};

INSTANTIATE_TEST_SUITE_P(EventIndex, OnTrial, ::testing::Bool());

TEST_P(OnTrial, RequestsComeOneByOneAndNothingNew) {
  TwoDeaths(2);
  world_.Restart(/*fault=*/false, /*on_trial=*/true);
  EXPECT_FALSE(world_.queue_->alone().has_value()) << "nobody can see it yet";
  const uint64_t late = world_.Post();
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(world_.queue_->on_trial()) << i;
    ASSERT_EQ(Next().size(), 1u) << i;
    ASSERT_TRUE(world_.queue_->alone().has_value());
    EXPECT_EQ(world_.queue_->alone()->head, world_.has_[0]);
    EXPECT_EQ(world_.queue_->alone()->deaths, i < 2 ? 2 : 0);
    EXPECT_FALSE(world_.queue_->Rest(true));
    world_.AnswerOne(0);
    EXPECT_FALSE(world_.queue_->alone().has_value()) << "it is answered";
  }
  world_.Turn();
  EXPECT_FALSE(world_.queue_->on_trial());
  ASSERT_EQ(Next().size(), 1u);
  world_.AnswerOne(0);
  world_.Turn();
  world_.Collect();
  numbers_.push_back(late);
  EXPECT_EQ(world_.answered_, numbers_);
}

TEST_P(OnTrial, OneIsRefusedAndTheOthersGoOn) {
  TwoDeaths(2);
  world_.Restart(/*fault=*/false, /*on_trial=*/true);
  const uint16_t head = Next().at(0);
  const InflightRequest alone = *world_.queue_->alone();
  EXPECT_EQ(alone.head, head);
  world_.holds_ = true;
  world_.Restart(/*fault=*/true);
  ShadowQueue& queue = *world_.queue_;
  EXPECT_TRUE(queue.HasSuspect());
  EXPECT_FALSE(
      queue.Refuse({0, head, alone.counter + 100}, KickBack::kBlock).ok())
      << "another request of this number";
  ASSERT_OK(queue.Refuse({0, head, alone.counter}, KickBack::kBlock));
  EXPECT_FALSE(queue.Refuse({0, head, alone.counter}, KickBack::kBlock).ok());
  const auto answers = world_.driver_.Collect();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].request, numbers_[0]);
  EXPECT_EQ(answers[0].written, 1u);
  EXPECT_TRUE(queue.HasSuspect()) << "the second one";
  queue.Give(/*on_trial=*/true);
  EXPECT_EQ(Next().size(), 1u);
}

TEST_P(OnTrial, WhatIsNotInFlightIsNotSuspect) {
  world_.Post();
  world_.Turn();
  world_.Take();
  world_.AnswerOne(0);
  world_.Turn();
  for (int i = 0; i < 3; ++i) world_.Restart(/*fault=*/true);
  EXPECT_FALSE(world_.queue_->HasSuspect());
  world_.Collect();
  // Nor what takes its place.
  world_.Post();
  world_.Turn();
  world_.holds_ = true;
  world_.Restart(/*fault=*/true);
  ASSERT_EQ(world_.queue_->left().size(), 1u);
  EXPECT_EQ(world_.queue_->left()[0].deaths, 1);
}

// Every request is answered once, whatever dies and whenever.
struct Ending {
  size_t answered = 0;
  size_t once = 0;
  bool clean = false;
};
Ending RunRandomly(uint32_t seed, bool tracked) {
  std::mt19937 source(seed);
  World world(/*event_idx=*/seed % 2 == 0, tracked);
  size_t posted = 0;
  const auto one_of = [&](size_t n) { return source() % n; };
  const auto step = [&](bool may_die) {
    switch (one_of(may_die ? 9 : 8)) {
      case 0:
      case 1:
        if (posted < 300 && world.Post() != 0) ++posted;
        break;
      case 2:
      case 3:
        world.Turn(one_of(8) != 0);
        break;
      case 4:
        world.Take();
        break;
      case 5:
      case 6:
        if (!world.has_.empty()) world.AnswerOne(one_of(world.has_.size()));
        break;
      case 7:
        world.Collect();
        break;
      default:
        world.Restart(/*fault=*/false, /*on_trial=*/one_of(3) == 0);
    }
  };
  for (int i = 0; i < 2000; ++i) step(/*may_die=*/true);
  // The last life answers what it has.
  for (int i = 0; i < 100; ++i) {
    world.Turn();
    world.Take();
    while (!world.has_.empty()) world.AnswerOne(one_of(world.has_.size()));
    world.Turn();
    world.Collect();
  }
  Ending ending;
  ending.answered = world.answered_.size();
  ending.once =
      std::set<uint64_t>(world.answered_.begin(), world.answered_.end()).size();
  ending.clean = world.driver_.violations().empty() &&
                 world.driver_.outstanding() == 0 && ending.once == posted;
  return ending;
}

TEST(ShadowQueueModel, AnswersEveryRequestOnce) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const Ending ending = RunRandomly(seed, /*tracked=*/true);
    ASSERT_TRUE(ending.clean) << seed;
    ASSERT_EQ(ending.answered, ending.once) << seed;
  }
}

// The same without the table: what a life had taken is lost.
TEST(ShadowQueueModel, LosesRequestsWithoutATable) {
  size_t noticed = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    if (!RunRandomly(seed, /*tracked=*/false).clean) ++noticed;
  }
  EXPECT_GE(noticed, 19u);
}

}  // namespace
}  // namespace holdfast::keeper

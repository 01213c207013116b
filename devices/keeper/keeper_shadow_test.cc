// A back-end that works behind shadow rings: what it is told, what it gets, and
// what becomes of it and of its keeper.

#include <string>
#include <thread>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/fake_backend.h"
#include "devices/keeper/testing/shadow_fixture.h"
#include "devices/vhost_user/message.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FakeBackend;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::ShadowTest;
using testing::Work;
using vhost_user::RequestType;

class KeeperShadowTest : public ShadowTest {};

TEST_F(KeeperShadowTest, RequestsGoThroughTheKeeper) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  EXPECT_THAT(life.told(), Contains("SET_MEM_TABLE +2"));
  EXPECT_THAT(life.told(), Contains("SET_VRING_BASE 0 0"));
  Work work(life);
  const uint64_t first = Post();
  const uint64_t second = Post();
  const std::vector<uint16_t> heads = work.Take(2);
  ASSERT_EQ(heads.size(), 2u);
  work.Answer(heads[1]);
  EXPECT_THAT(Answers(1), ElementsAre(second));
  work.Answer(heads[0]);
  EXPECT_THAT(Answers(1), ElementsAre(first));
  EXPECT_THAT(vmm_->driver(0).violations(), IsEmpty());
}

TEST_F(KeeperShadowTest, TheVmmIsOfferedWhatCanBeKept) {
  FakeBackend::Options options;
  options.features |= 1ull << 35;
  NewLife(options);
  Start();
  EXPECT_EQ(vmm_->features() >> 35 & 1, 0u) << "in order";
  EXPECT_EQ(vmm_->protocol_features() & vhost_user::kProtocolInflightShmfd, 0u);
  EXPECT_THAT(vmm_->AskNumber(RequestType::kGetMaxMemSlots),
              holdfast::testing::IsOkAndHolds(31u));
}

TEST_F(KeeperShadowTest, ABackEndWithoutRoomIsRefused) {
  FakeBackend::Options options;
  options.mem_slots = 1;
  NewLife(options);
  ASSERT_OK(rig_.Run());
  AwaitVerdict();
}

TEST_F(KeeperShadowTest, ACallThatTheVmmReplacesIsTheKeepersAffair) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Work work(life);
  const size_t told = life.told().size();
  ASSERT_OK(vmm_->ReplaceCall(0));
  const uint64_t number = Post();
  work.Answer(work.Take(1).at(0));
  EXPECT_THAT(Answers(1), ElementsAre(number));
  EXPECT_EQ(life.told().size(), told);
}

TEST_F(KeeperShadowTest, TheNextLifeGetsWhatIsInFlight) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Work work(life);
  std::vector<uint64_t> numbers;
  for (int i = 0; i < 3; ++i) numbers.push_back(Post());
  const std::vector<uint16_t> heads = work.Take(3);
  ASSERT_EQ(heads.size(), 3u);
  work.Answer(heads[1]);
  EXPECT_THAT(Answers(1), ElementsAre(numbers[1]));
  life.End();
  AwaitVerdict();
  numbers.push_back(Post());
  FakeBackend& second = NewLife();
  ASSERT_TRUE(Whole(second));
  Work again(second);
  const std::vector<uint16_t> left = again.Take(3);
  ASSERT_EQ(left.size(), 3u);
  EXPECT_EQ(left[0], heads[0]);
  EXPECT_EQ(left[1], heads[2]);
  for (const uint16_t head : left) again.Answer(head);
  EXPECT_THAT(Answers(3), ElementsAre(numbers[0], numbers[2], numbers[3]));
}

TEST_F(KeeperShadowTest, ASpareKnowsTheMemoryAndTakesOver) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  FakeBackend& spare = NewSpare();
  ASSERT_TRUE(spare.WaitFor("SET_MEM_TABLE +2"));
  const uint64_t number = Post();
  Work(life).Take(1);
  life.End();
  TakeOver();
  ASSERT_TRUE(Whole(spare));
  Work work(spare);
  work.Answer(work.Take(1).at(0));
  EXPECT_THAT(Answers(1), ElementsAre(number));
}

// What it had in its rings only the dead keeper knew.
TEST_F(KeeperShadowTest, AKeeperThatDiesTakesTheLifeAlong) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Work work(life);
  const uint64_t first = Post();
  const uint64_t second = Post();
  const std::vector<uint16_t> heads = work.Take(2);
  ASSERT_EQ(heads.size(), 2u);
  work.Answer(heads[1]);
  EXPECT_THAT(Answers(1), ElementsAre(second));
  rig_.Die();
  ASSERT_OK(rig_.Run());
  AwaitGivenUp();
  FakeBackend& next = NewLife();
  ASSERT_TRUE(Whole(next));
  Work again(next);
  EXPECT_THAT(again.Take(1), ElementsAre(heads[0]));
  again.Answer(heads[0]);
  EXPECT_THAT(Answers(1), ElementsAre(first));
}

TEST_F(KeeperShadowTest, ALiarIsGivenUpAndHarmsNobody) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Work work(life);
  const uint64_t number = Post();
  const uint16_t head = work.Take(1).at(0);
  work.Answer(head + 1u);
  store::BackendVerdict verdict = {};
  AwaitWord(life_, store::BackendVerdict::kUseless, verdict);
  EXPECT_THAT(std::string(verdict.why), HasSubstr("which it does not have"));
  life.End();
  FakeBackend& next = NewLife();
  ASSERT_TRUE(Whole(next));
  Work again(next);
  EXPECT_THAT(again.Take(1), ElementsAre(head));
  again.Answer(head);
  EXPECT_THAT(Answers(1), ElementsAre(number));
  EXPECT_THAT(vmm_->driver(0).violations(), IsEmpty());
}

// Not before all is answered that was taken, whoever answers it.
TEST_F(KeeperShadowTest, ARingIsStoppedWhenAllIsAnswered) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Work work(life);
  const uint64_t number = Post();
  const uint16_t head = work.Take(1).at(0);
  std::thread late([&] { work.Answer(head); });
  EXPECT_THAT(vmm_->StopQueue(0), holdfast::testing::IsOkAndHolds(1));
  late.join();
  EXPECT_THAT(vmm_->driver(0).Collect(), ::testing::SizeIs(1));
  ASSERT_TRUE(life.WaitFor("GET_VRING_BASE 0"));
  EXPECT_GT(number, 0u);
  // And goes on, in the same life.
  ASSERT_OK(vmm_->StartQueue(0));
  Work more(life);
  const uint64_t next = Post();
  more.Answer(more.Take(1).at(0));
  EXPECT_THAT(Answers(1), ElementsAre(next));
}

TEST_F(KeeperShadowTest, TheNextLifeFinishesWhatTheVmmStops) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Post();
  const uint16_t head = Work(life).Take(1).at(0);
  life.End();
  AwaitVerdict();
  std::thread late([&] {
    FakeBackend& next = NewLife();
    if (!Whole(next)) return;
    Work again(next);
    for (const uint16_t each : again.Take(1)) again.Answer(each);
  });
  EXPECT_THAT(vmm_->StopQueue(0), holdfast::testing::IsOkAndHolds(1));
  late.join();
  EXPECT_THAT(vmm_->driver(0).Collect(), ::testing::SizeIs(1));
  EXPECT_LT(head, 128);
}

TEST_F(KeeperShadowTest, TheNextVmmGetsAnotherLife) {
  FakeBackend& life = NewLife();
  Start();
  ASSERT_TRUE(Whole(life));
  Post();
  Work(life).Take(1);
  vmm_.reset();
  AwaitGivenUp(store::BackendVerdict::kFinished);
  FakeBackend& second = NewLife();
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->Start());
  ASSERT_TRUE(Whole(second));
  EXPECT_THAT(second.told(), Not(Contains("SET_INFLIGHT_FD +1")));
  Work work(second);
  const uint64_t number = Post();
  work.Answer(work.Take(1).at(0));
  EXPECT_THAT(Answers(1), ElementsAre(number));
}

}  // namespace
}  // namespace holdfast::keeper

// A back-end that works behind shadow rings: what it is told, what it gets, and
// what becomes of it and of its keeper.

#include <poll.h>
#include <sys/eventfd.h>

#include <string>
#include <thread>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "devices/keeper/shadow_session.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/keeper/testing/shadow_worker.h"
#include "devices/vhost_user/message.h"
#include "devices/virtqueue/testing/fake_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using DriverBuffer = ::holdfast::testing::FakeDriver::Buffer;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FakeBackend;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::KeeperTest;
using ::testing::Not;
using testing::ShadowWorker;
using vhost_user::RequestType;

constexpr uint16_t kSize = 128;

BackendTraits Shadowed() {
  BackendTraits traits;
  traits.tracking = Tracking::kShadow;
  return traits;
}

// Ring 0 as a life has it.
class Work {
 public:
  explicit Work(FakeBackend& life)
      : memory_(*MapShared(BorrowedFd(life.fd_of(RequestType::kSetMemTable)), 0,
                           kShadowBytes, MapAccess::kReadWrite)),
        kick_(life.fd_of(RequestType::kSetVringKick)),
        call_(life.fd_of(RequestType::kSetVringCall)),
        worker_(memory_.data() + ShadowAvailableAt(0),
                memory_.data() + ShadowUsedAt(0), kSize) {}

  // So many requests, as soon as they are there.
  std::vector<uint16_t> Take(size_t count) {
    std::vector<uint16_t> heads;
    while (heads.size() < count) {
      pollfd kick = {kick_, POLLIN, 0};
      if (poll(&kick, 1, 20'000) != 1) break;
      eventfd_t kicks;
      eventfd_read(kick_, &kicks);
      for (const uint16_t head : worker_.Take()) heads.push_back(head);
    }
    return heads;
  }
  void Answer(uint32_t id, uint32_t written = 4) {
    worker_.Answer(id, written);
    eventfd_write(call_, 1);
  }

 private:
  const Mapping memory_;
  const int kick_;
  const int call_;
  ShadowWorker worker_;
};

class KeeperShadowTest : public KeeperTest {
 protected:
  KeeperShadowTest() : KeeperTest(Shadowed()) {}

  uint64_t Post() {
    const auto posted = vmm_->driver(0).Post({DriverBuffer::Writable(4)});
    EXPECT_TRUE(posted.has_value());
    EXPECT_OK(vmm_->Kick(0));
    return posted.value_or(0);
  }
  // The next answers, by their numbers.
  std::vector<uint64_t> Answers(size_t count) {
    std::vector<uint64_t> numbers;
    while (numbers.size() < count && vmm_->WaitForCall(0).ok()) {
      for (const auto& answer : vmm_->driver(0).Collect()) {
        numbers.push_back(answer.request);
      }
    }
    return numbers;
  }
};

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
  EXPECT_LT(head, kSize);
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

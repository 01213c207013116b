// The life that waits to be current: what it is told, and when.

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/schema.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using testing::FakeBackend;
using ::testing::HasSubstr;
using testing::KeeperTest;
using ::testing::Not;
using testing::SlotOf;
using vhost_user::RequestType;

class SpareTest : public KeeperTest {
 protected:
  // A life that runs, and a spare that knows everything but the rings.
  void StartBoth(FakeBackend::Options options = {}) {
    first_ = &NewLife(options);
    spare_ = &NewSpare(options);
    Start();
    ASSERT_TRUE(Whole(*first_));
    ASSERT_TRUE(IsPrepared(*spare_));
  }
  static bool IsPrepared(FakeBackend& life) {
    return life.WaitFor("SET_MEM_TABLE +1");
  }
  // Of a life that was prepared, what it is told when it becomes current.
  std::vector<std::string> ToldAtTheEnd() {
    const size_t before = spare_->told().size();
    first_->End();
    TakeOver();
    EXPECT_TRUE(Whole(*spare_));
    std::vector<std::string> told = spare_->told();
    told.erase(told.begin(), told.begin() + static_cast<ptrdiff_t>(before));
    return told;
  }
  void ExpectSilence(FakeBackend& life) {
    const size_t before = life.told().size();
    // Whatever the keeper has to say, it has said before it answers.
    ASSERT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
    EXPECT_EQ(life.told().size(), before);
  }
  // What a keeper that has died has left.
  void WithState(const std::function<void(const Segment&, StateBank&)>& use) {
    const auto mapping =
        MapShared(rig_.segment(), 0, 1 << 20, MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    const auto segment = Segment::Attach(mapping->span());
    ASSERT_OK(segment);
    auto bank = StateBank::Attach(segment->section(SectionType::kState), 1);
    ASSERT_OK(bank);
    use(*segment, *bank);
  }

  FakeBackend* first_ = nullptr;
  FakeBackend* spare_ = nullptr;
};

TEST_F(SpareTest, ItIsToldAllButTheRings) {
  StartBoth();
  const std::vector<std::string> told = spare_->told();
  EXPECT_THAT(told, Contains("SET_OWNER"));
  EXPECT_THAT(told, Not(Contains(HasSubstr("VRING"))));
  EXPECT_THAT(told, Not(Contains(HasSubstr("INFLIGHT"))));
}

TEST_F(SpareTest, OnlyTheRingsAreLeftWhenItBecomesCurrent) {
  StartBoth();
  for (const std::string& request : ToldAtTheEnd()) {
    EXPECT_TRUE(request == "SET_INFLIGHT_FD +1" ||
                request.find("SET_VRING_") == 0)
        << request;
  }
  ExpectBothLook(*spare_);
}

// The control: one that nobody has prepared is told everything then.
TEST_F(SpareTest, WithoutASpareEverythingIsLeft) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  first.End();
  FakeBackend& next = NewSpare();
  TakeOver();
  ASSERT_TRUE(Whole(next));
  EXPECT_THAT(next.told(), Contains("SET_MEM_TABLE +1"));
}

TEST_F(SpareTest, OneSpareFollowsTheOther) {
  StartBoth();
  for (int i = 0; i < 3; ++i) {
    ToldAtTheEnd();
    first_ = spare_;
    spare_ = &NewSpare();
    ASSERT_TRUE(IsPrepared(*spare_));
    EXPECT_THAT(spare_->told(), Not(Contains(HasSubstr("VRING"))));
  }
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(first_->told().back(), "SET_VRING_CALL 0 +1");
}

TEST_F(SpareTest, WhatTheGuestWritesIsWrittenToBoth) {
  StartBoth();
  ASSERT_OK(vmm_->SetConfig(32, {0}));
  EXPECT_TRUE(first_->WaitFor("SET_CONFIG 32 0"));
  EXPECT_TRUE(spare_->WaitFor("SET_CONFIG 32 0"));
  EXPECT_THAT(ToldAtTheEnd(), Not(Contains("SET_CONFIG 32 0")));
}

TEST_F(SpareTest, WhatConcernsRingsIsNotToldToIt) {
  StartBoth();
  const size_t before = spare_->told().size();
  ASSERT_OK(vmm_->ReplaceCall(0));
  ASSERT_OK(vmm_->StopQueue(0));
  EXPECT_EQ(spare_->told().size(), before);
  EXPECT_THAT(spare_->told(), Not(Contains("GET_VRING_BASE 0")));
}

// Its start may last for ever: nobody waits for it.
TEST_F(SpareTest, OneThatSaysNothingHoldsNobodyUp) {
  std::atomic<bool> mute{true};
  FakeBackend::Options silent;
  silent.instead = [&](const vhost_user::Request&, BorrowedFd) {
    return mute.load();
  };
  FakeBackend& first = NewLife();
  FakeBackend& spare = NewSpare(silent);
  Start();
  ASSERT_TRUE(Whole(first));
  ASSERT_TRUE(spare.WaitFor("GET_FEATURES"));
  ExpectSilence(spare);
  ASSERT_OK(vmm_->StopQueue(0));
}

TEST_F(SpareTest, ALesserSpareIsGivenUpAndNobodyElse) {
  FakeBackend& first = NewLife();
  Start();
  ASSERT_TRUE(Whole(first));
  FakeBackend::Options lesser;
  lesser.config = std::vector<uint8_t>(60, 0x22);
  FakeBackend& second = NewSpare(lesser);
  AwaitGivenUp();
  EXPECT_THAT(second.told(), Not(Contains("SET_MEM_TABLE +1")));
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(first.told().back(), "SET_VRING_CALL 0 +1");
  // The next one will do.
  EXPECT_TRUE(IsPrepared(NewSpare()));
}

TEST_F(SpareTest, ASpareThatDiesHarmsNobody) {
  StartBoth();
  spare_->End();
  spare_->WaitForEnd();
  ASSERT_OK(vmm_->SetConfig(32, {0}));
  EXPECT_TRUE(first_->WaitFor("SET_CONFIG 32 0"));
  spare_ = &NewSpare();
  ASSERT_TRUE(spare_->WaitFor("SET_CONFIG 32 0"));
  ASSERT_TRUE(IsPrepared(*spare_));
  ToldAtTheEnd();
}

// The image was resized, and a spare has seen its size before.
TEST_F(SpareTest, ASpareOfAnotherOpinionIsGivenUp) {
  FakeBackend::Options options;
  options.protocol_features |= vhost_user::kProtocolBackendReq;
  StartBoth(options);
  first_->SetConfig(std::vector<uint8_t>(60, 0x77));
  const std::vector<uint8_t> notice =
      vhost_user::RawMessage(2, vhost_user::kVersion, 0, {});
  ASSERT_EQ(write(first_->fd_of(RequestType::kSetBackendReqFd), notice.data(),
                  notice.size()),
            static_cast<ssize_t>(notice.size()));
  AwaitGivenUp();
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(first_->told().back(), "SET_VRING_CALL 0 +1");
}

TEST_F(SpareTest, ANewKeeperGoesOnWithBoth) {
  StartBoth();
  rig_.Die();
  ASSERT_OK(rig_.Run());
  ExpectSilence(*spare_);
  EXPECT_THAT(ToldAtTheEnd(), Not(Contains("SET_OWNER")));
}

TEST_F(SpareTest, ANewKeeperFindsThatTheSpareIsCurrent) {
  StartBoth();
  rig_.Die();
  first_->End();
  TakeOver();
  ASSERT_OK(rig_.Run());
  EXPECT_TRUE(Whole(*spare_));
  const std::vector<std::string> told = spare_->told();
  EXPECT_EQ(std::count(told.begin(), told.end(), "SET_OWNER"), 1);
  EXPECT_OK(vmm_->WaitForCall(0));
}

TEST_F(SpareTest, ASpareThatWasSpokenToInTheEndIsGivenUp) {
  StartBoth();
  rig_.Die();
  WithState([](const Segment& segment, StateBank& bank) {
    const auto cells = BindState<SecondSeatState>(segment.schema());
    ASSERT_OK(cells);
    StateTxn txn = bank.Begin();
    txn.Set(cells->life.talking, true);
    ASSERT_OK(bank.Commit(txn));
  });
  ASSERT_OK(rig_.Run());
  AwaitGivenUp();
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(first_->told().back(), "SET_VRING_CALL 0 +1");
}

// It has the guest's memory.
TEST_F(SpareTest, TheNextVmmGetsAnotherSpare) {
  StartBoth();
  vmm_.reset();
  AwaitGivenUp(store::BackendVerdict::kFinished);
}

TEST_F(SpareTest, ASpareThatKnowsNothingYetIsForTheNextVmm) {
  first_ = &NewLife();
  const uint64_t first = life_;
  spare_ = &NewSpare();
  ASSERT_OK(rig_.Run());
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
  ASSERT_TRUE(spare_->WaitFor("GET_CONFIG"));
  vmm_.reset();
  life_ = first;
  AwaitVerdict(store::BackendVerdict::kFinished);
  first_->End();
  TakeOver();
  vmm_ = rig_.Connect();
  ASSERT_OK(vmm_->Start());
  EXPECT_TRUE(Whole(*spare_));
}

// The launcher is told, and another one as well.
TEST_F(SpareTest, TheLauncherHearsThatItIsReady) {
  StartBoth();
  store::BackendVerdict verdict = {};
  AwaitWord(life_, store::BackendVerdict::kReady, verdict);
  NewLauncher();
  AwaitWord(life_, store::BackendVerdict::kReady, verdict);
}

// What was said in a seat that is not remembered may have been anything.
TEST_F(SpareTest, WhoSitsInASeatWithoutAMemoryIsGivenUp) {
  const auto old = DescribeState<KeeperState>();
  ASSERT_OK(old);
  ASSERT_OK(BindState<KeeperState>(*old));
  EXPECT_FALSE(BindState<SecondSeatState>(*old).ok());
  const SecondSeatState cells;
  DescriptorSlots slots;
  BackendLife seat(cells.life, {1, 2, 3, 4}, slots);
  ASSERT_OK(rig_.Run());
  rig_.Die();
  WithState([&](const Segment&, StateBank& bank) {
    EXPECT_OK(seat.Resume(bank, Agreement()));
    slots.Set(3, testing::Pair(SOCK_STREAM).first);
    EXPECT_TRUE(absl::IsAborted(seat.Resume(bank, Agreement())));
  });
}

}  // namespace
}  // namespace holdfast::keeper

// A life whose fence has fallen: the spare that the launcher has named before
// goes on without another word.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/vhost_user/message.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using testing::FakeBackend;
using ::testing::HasSubstr;
using testing::KeeperTest;
using ::testing::Not;
using testing::SlotOf;
using vhost_user::RequestType;

class FenceTest : public KeeperTest {
 protected:
  // As of a life that is alive: a pipe, which hangs up when it is no more.
  void Raise(size_t seat) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    rig_.GiveResource(SlotOf(store::FenceOf(seat)), UniqueFd(ends[0]));
    threads_[seat].Reset(ends[1]);
  }
  void Fall(size_t seat) { threads_[seat].Reset(); }
  // The spare is to follow.
  void Grant() {
    rig_.GiveResource(SlotOf(store::kBackendNext),
                      rig_.keeper().Duplicate(SlotOf(store::InSeat(
                          1 - seat_, store::kBackendConnection))));
  }
  void StartBoth() {
    Raise(0);
    Raise(1);
    first_ = &NewLife();
    spare_ = &NewSpare();
    Grant();
    Start();
    ASSERT_TRUE(Whole(*first_));
    ASSERT_TRUE(IsPrepared(*spare_));
  }
  static bool IsPrepared(FakeBackend& life) {
    return life.WaitFor("SET_MEM_TABLE +1");
  }
  // Whatever the keeper does by itself, it has done before it answers.
  void ExpectNoRings(FakeBackend& life) {
    ASSERT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
    ASSERT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
    EXPECT_THAT(life.told(), Not(Contains(HasSubstr("VRING"))));
  }

  std::array<UniqueFd, store::kBackendSeats> threads_;
  FakeBackend* first_ = nullptr;
  FakeBackend* spare_ = nullptr;
};

TEST_F(FenceTest, TheSpareGoesOnWithoutTheLauncher) {
  StartBoth();
  Fall(0);
  ASSERT_TRUE(Whole(*spare_));
  ExpectBothLook(*spare_);
  // Which says the same later.
  const size_t before = spare_->told().size();
  TakeOver();
  ASSERT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
  EXPECT_EQ(spare_->told().size(), before);
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(spare_->told().back(), "SET_VRING_CALL 0 +1");
}

// What its memory's end still does is nobody's business: it is not spoken to.
TEST_F(FenceTest, WhoHasFallenIsToldNothing) {
  StartBoth();
  const size_t before = first_->told().size();
  Fall(0);
  ASSERT_TRUE(Whole(*spare_));
  ASSERT_OK(vmm_->ReplaceCall(0));
  ASSERT_OK(vmm_->SetConfig(32, {0}));
  EXPECT_TRUE(spare_->WaitFor("SET_CONFIG 32 0"));
  EXPECT_EQ(first_->told().size(), before);
}

TEST_F(FenceTest, OneAfterTheOtherInTheSeatsOfTheDead) {
  StartBoth();
  for (int i = 0; i < 5; ++i) {
    Fall(seat_);
    ASSERT_TRUE(Whole(*spare_));
    ExpectBothLook(*spare_);
    TakeOver();
    first_ = spare_;
    spare_ = &NewSpare();  // Before its fence: the old one is still there.
    Raise(1 - seat_);
    Grant();
    ASSERT_TRUE(IsPrepared(*spare_));
    EXPECT_THAT(spare_->told(), Not(Contains(HasSubstr("VRING"))));
  }
}

// Its connection may be closed by one that goes on with the rings.
TEST_F(FenceTest, AnEndedConnectionIsNoFence) {
  StartBoth();
  first_->End();
  first_->WaitForEnd();
  ExpectNoRings(*spare_);
  Fall(0);
  EXPECT_TRUE(Whole(*spare_));
}

TEST_F(FenceTest, WhoIsNotNamedDoesNotFollow) {
  StartBoth();
  rig_.GiveResource(SlotOf(store::kBackendNext),
                    rig_.keeper().Duplicate(
                        SlotOf(store::InSeat(0, store::kBackendConnection))));
  Fall(0);
  ExpectNoRings(*spare_);
  TakeOver();
  EXPECT_TRUE(Whole(*spare_));
}

TEST_F(FenceTest, TheSparesFenceChangesNothing) {
  StartBoth();
  Fall(1);
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(first_->told().back(), "SET_VRING_CALL 0 +1");
  EXPECT_THAT(spare_->told(), Not(Contains(HasSubstr("VRING"))));
}

TEST_F(FenceTest, ANewKeeperGoesOnWithTheSameOne) {
  StartBoth();
  Fall(0);
  ASSERT_TRUE(Whole(*spare_));
  ExpectBothLook(*spare_);
  rig_.Die();
  const size_t before = spare_->told().size();
  ASSERT_OK(rig_.Run());
  ASSERT_OK(vmm_->ReplaceCall(0));
  EXPECT_EQ(spare_->told().back(), "SET_VRING_CALL 0 +1");
  EXPECT_EQ(spare_->told().size(), before + 1);
}

TEST_F(FenceTest, ANewKeeperFindsThatItHasFallen) {
  StartBoth();
  rig_.Die();
  Fall(0);
  ASSERT_OK(rig_.Run());
  EXPECT_TRUE(Whole(*spare_));
  EXPECT_OK(vmm_->WaitForCall(0));
}

}  // namespace
}  // namespace holdfast::keeper

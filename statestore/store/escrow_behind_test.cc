// Children whose channel is full: nothing piles up, nothing is lost, and only
// one that never reads is given up.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/backlog.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/escrow_fixture.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kDisk;
using ::testing::Not;
using testing::Of;
using testing::WithArg;

class EscrowBehind : public testing::EscrowTest {
 protected:
  void Deposit(Slot slot) { scene().Say(active_, Type::kEscrow, slot, 1); }
};

TEST_F(EscrowBehind, StandbyThatIsFullIsNotKilledAndTheActiveChildIsAnswered) {
  scene().Stuff(standby_);
  Deposit(40);
  EXPECT_THAT(scene().SentTypes(active_), ElementsAre(Type::kAck));
  EXPECT_THAT(scene().SentTypes(standby_), IsEmpty());
  EXPECT_THAT(scene().told(), IsEmpty());
  EXPECT_TRUE(scene().escrow().anyone_behind());
}

TEST_F(EscrowBehind, ItIsSentTheLastThatASlotHeld) {
  scene().Stuff(standby_);
  for (int i = 0; i < 1000; ++i) Deposit(40);
  scene().Drain(standby_);
  ASSERT_EQ(scene().sent().size(), 1u);
  EXPECT_EQ(scene().sent()[0].fd, HeldIn(40));
  EXPECT_FALSE(scene().escrow().anyone_behind());
  // From here as usual.
  Deposit(41);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kForward));
}

TEST_F(EscrowBehind, NothingOvertakesWhatWaits) {
  scene().Stuff(standby_);
  Deposit(40);
  Deposit(41);
  scene().Drain(standby_, 1);  // There is room now, but not for all.
  Deposit(42);
  EXPECT_THAT(scene().SentTypes(standby_), IsEmpty());
  scene().Drain(standby_);
  EXPECT_THAT(scene().SentTypes(standby_),
              ElementsAre(Type::kForward, Type::kForward));
}

// Sessions come and go: what is sent in the end is the last one.
TEST_F(EscrowBehind, SessionsThatAreOverAreNotSent) {
  Message listen = Of(Type::kSetListener);
  scene().Request(listen, 1);
  scene().Stuff(standby_);
  for (int i = 0; i < 500; ++i) {
    scene().Connect(kDisk);
    for (Slot slot = 40; slot < 50; ++slot) Deposit(slot);
    scene().Say(active_, WithArg(Type::kVmmClosed, disk().connection));
  }
  scene().Connect(kDisk);
  Deposit(44);
  scene().Drain(standby_);
  // Ten session slots, the connection, and one moment to catch up.
  EXPECT_EQ(scene().sent().size(), 12u);
  EXPECT_EQ(scene().sent()[0].message.arg0, disk().connection);
  EXPECT_EQ(scene().sent()[0].fd, HeldIn(kSlotConnection));
  const Message& sync = scene().sent().back().message;
  EXPECT_EQ(sync.type, Type::kSync);
  EXPECT_EQ(sync.bitmap[0], uint64_t{1} << 44) << "it keeps what is there now";
}

// What lingers for a child's sake does so until it has answered the kSync that
// it was sent late.
TEST_F(EscrowBehind, LateSyncIsAnsweredAsUsual) {
  Deposit(40);
  const Handle held = HeldIn(40);
  scene().Stuff(standby_);
  scene().Say(active_, Of(Type::kRetain));
  ASSERT_TRUE(scene().IsOpen(held));
  scene().Drain(standby_);
  const Message sync = scene().sent().back().message;
  ASSERT_NE(sync.arg0, 0u);
  scene().Say(standby_, WithArg(Type::kSettled, sync.arg0));
  EXPECT_FALSE(scene().IsOpen(held));
}

TEST_F(EscrowBehind, PromotionComesAfterAllThatWaits) {
  scene().Stuff(standby_);
  Deposit(40);
  scene().Hangup(active_);
  scene().Fence(active_);
  EXPECT_THAT(scene().ToldTypes(), Contains(Type::kPromoted));
  EXPECT_THAT(scene().SentTypes(standby_), IsEmpty());
  scene().Drain(standby_);
  EXPECT_THAT(scene().SentTypes(standby_),
              ElementsAre(Type::kForward, Type::kPromote));
  EXPECT_EQ(scene().sent().back().message.arg0, 2u);
}

TEST_F(EscrowBehind, OneThatIsNotBehindIsPromotedFirst) {
  const auto second = scene().Add(kDisk, 3);
  scene().Say(second, Type::kReady);
  scene().Stuff(standby_);
  Deposit(40);
  scene().Hangup(active_);
  scene().Fence(active_);
  EXPECT_THAT(scene().SentTypes(second), Contains(Type::kPromote));
  EXPECT_EQ(disk().promotion.members[1], Member::kStandby);
}

TEST_F(EscrowBehind, OneThatReadsALittleIsNeverGivenUp) {
  scene().Stuff(standby_);
  for (Slot slot = 40; slot < 60; ++slot) Deposit(slot);
  for (int i = 0; i < 20; ++i) {
    scene().Silence(kPatienceNs / 2);
    EXPECT_FALSE(scene().WasKilled(standby_.pidfd));
    scene().Drain(standby_, 1);
  }
  EXPECT_FALSE(scene().escrow().anyone_behind());
}

TEST_F(EscrowBehind, OneThatNeverReadsIsGivenUp) {
  scene().Stuff(standby_);
  Deposit(40);
  scene().Silence(kPatienceNs + 1);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  ASSERT_EQ(scene().told().size(), 1u);
  EXPECT_EQ(scene().told()[0].message.type, Type::kChildMisbehaved);
  EXPECT_EQ(scene().told()[0].message.arg0,
            static_cast<uint64_t>(Error::kLimit));
  EXPECT_FALSE(scene().escrow().anyone_behind());
  scene().Fence(standby_);
  EXPECT_EQ(HeldIn(40) != kNoHandle, true) << "for the next one";
}

// A guest waits for it.
TEST_F(EscrowBehind, HeirThatNeverReadsIsGivenUpSooner) {
  scene().Stuff(standby_);
  Deposit(40);
  scene().Hangup(active_);
  scene().Fence(active_);
  scene().Silence(kHeirPatienceNs + 1);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  EXPECT_THAT(scene().ToldTypes(), Not(Contains(Type::kPromoted)));
  const auto next = scene().Add(kDisk, 3);
  scene().Say(next, Type::kReady);
  EXPECT_THAT(scene().SentTypes(next), IsEmpty()) << "not before the fence";
  scene().Fence(standby_);
  EXPECT_THAT(scene().SentTypes(next), ElementsAre(Type::kPromote));
}

// It waits for one answer at a time, as it must: that one has a place.
TEST_F(EscrowBehind, ChildThatAsksAgainAndReadsNoAnswerIsKilled) {
  scene().Stuff(active_);
  Deposit(40);
  EXPECT_FALSE(scene().WasKilled(active_.pidfd));
  Deposit(41);
  EXPECT_TRUE(scene().WasKilled(active_.pidfd));
}

TEST_F(EscrowBehind, ItsDeathLeavesNothingBehind) {
  scene().Stuff(standby_);
  Deposit(40);
  scene().Fence(standby_);
  EXPECT_FALSE(scene().escrow().anyone_behind());
  const auto next = scene().Add(kDisk, 3);
  EXPECT_THAT(scene().SentTypes(next),
              ElementsAre(Type::kForward, Type::kForwardDone));
}

TEST_F(EscrowBehind, NewcomerThatIsFullGetsAllThereIs) {
  scene().Fence(standby_);
  for (Slot slot = 40; slot < 60; ++slot) Deposit(slot);
  const auto next = scene().Add(kDisk, 3);
  scene().Stuff(next);
  Deposit(60);
  scene().Drain(next);
  scene().Say(next, Type::kReady);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildReady));
}

}  // namespace
}  // namespace holdfast::store

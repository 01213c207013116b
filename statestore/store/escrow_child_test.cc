// Children: their start, their death and their heirs.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/escrow_fixture.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::IsError;
using testing::kDisk;
using testing::WithArg;
using testing::WithChild;
using testing::WithSlot;

class EscrowChild : public testing::EscrowTest {};

TEST_F(EscrowChild, NewChildGetsEveryOccupiedSlotThenDone) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  scene().Say(active_, Type::kEscrow, 40, 1);
  const auto third = scene().Add(kDisk, 3);
  EXPECT_THAT(scene().SentTypes(third),
              ElementsAre(Type::kForward, Type::kForward, Type::kForwardDone));
}

TEST_F(EscrowChild, ChildrenBeyondTheTableAreRefused) {
  EXPECT_NE(scene().Add(kDisk, 3).channel, kNoHandle);
  EXPECT_NE(scene().Add(kDisk, 4).channel, kNoHandle);
  EXPECT_EQ(scene().Add(kDisk, 5).channel, kNoHandle);
}

TEST_F(EscrowChild, ChildNumbersAreUniqueAndNotZero) {
  EXPECT_EQ(scene().Add(kDisk, 2).channel, kNoHandle);
  EXPECT_EQ(scene().Add(kDisk, 0).channel, kNoHandle);
}

TEST_F(EscrowChild, ReadyStandbyIsTold) {
  const auto third = scene().Add(kDisk, 3);
  scene().Say(third, Type::kReady);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildReady));
  scene().Say(third, Type::kReady);
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
}

TEST_F(EscrowChild, FencePromotesFirstAndTellsAfterwards) {
  scene().Fence(active_);
  EXPECT_EQ(scene().actions().begin()->message.type, Type::kPromote);
  EXPECT_EQ(scene().actions().begin()->message.arg0, 2u);
  EXPECT_THAT(scene().ToldTypes(),
              ElementsAre(Type::kChildLost, Type::kPromoted));
  EXPECT_FALSE(scene().IsOpen(active_.pidfd));
  EXPECT_FALSE(scene().IsOpen(active_.control));
}

TEST_F(EscrowChild, OnlyTheDeclaredFenceCounts) {
  scene().Fence(active_, Watch::kPidfd);
  EXPECT_EQ(scene().actions().size(), 0u);
  EXPECT_FALSE(scene().IsWatched(active_.pidfd));
  EXPECT_TRUE(scene().IsWatched(active_.listener));
}

TEST_F(EscrowChild, WithoutTheListenerThePidfdIsTheFence) {
  scene().Create(8, 0);
  const auto first = scene().Add(8, 11), second = scene().Add(8, 12);
  scene().Say(first, Type::kReady);
  scene().Say(second, Type::kReady);
  scene().Fence(first, Watch::kListener);
  EXPECT_EQ(scene().actions().size(), 0u);
  scene().Fence(first, Watch::kPidfd);
  EXPECT_THAT(scene().SentTypes(second), ElementsAre(Type::kPromote));
  EXPECT_EQ(scene().told()[0].message.arg1,
            static_cast<uint64_t>(Fence::kPidfd));
}

TEST_F(EscrowChild, EndOfTheChannelKillsButDoesNotPromote) {
  scene().Hangup(active_);
  EXPECT_TRUE(scene().WasKilled(active_.pidfd));
  EXPECT_THAT(scene().sent(), IsEmpty());
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
  scene().Fence(active_);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kPromote));
}

// A store without the right to kill must not leave a live child unfenced.
TEST_F(EscrowChild, FailedKillAfterTheEndOfTheChannelIsTold) {
  scene().Hangup(active_);
  const Action& last = scene().actions().end()[-1];
  EXPECT_EQ(last.stamp, Action::Stamp::kIfKillFailed);
  EXPECT_EQ(last.message.type, Type::kChildMisbehaved);
  EXPECT_EQ(last.message.child, 1u);
}

TEST_F(EscrowChild, NothingOfAKilledChildIsHeard) {
  scene().Hangup(active_);
  scene().Say(active_, Type::kEscrow, 40, 1);
  EXPECT_EQ(HeldIn(40), kNoHandle);
  EXPECT_THAT(scene().sent(), IsEmpty());
}

TEST_F(EscrowChild, DeathWithoutAStandbyIsRememberedForTheHeir) {
  scene().Fence(standby_);
  scene().Fence(active_);
  const uint64_t death = disk().death_ns;
  EXPECT_NE(death, 0u);
  const auto heir = scene().Add(kDisk, 3);
  scene().Say(heir, Type::kReady);
  EXPECT_EQ(scene().sent()[0].message.type, Type::kPromote);
  EXPECT_EQ(scene().sent()[0].message.arg1, death);
  EXPECT_EQ(scene().told()[1].message.arg2, death);
  EXPECT_EQ(disk().death_ns, 0u);
}

TEST_F(EscrowChild, HeldPromotionWaitsForRelease) {
  scene().Request(WithArg(Type::kHoldPromotion, 1));
  scene().Fence(active_);
  EXPECT_THAT(scene().sent(), IsEmpty());
  scene().Request(WithArg(Type::kHoldPromotion, 0));
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kPromote));
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kPromoted, Type::kOk));
  EXPECT_TRUE(IsError(scene().Request(WithArg(Type::kHoldPromotion, 2)),
                      Error::kBadMessage));
}

TEST_F(EscrowChild, KillOnRequestIsFollowedByTheFence) {
  EXPECT_EQ(scene().Request(WithChild(Type::kKillChild, 1)).type, Type::kOk);
  EXPECT_TRUE(scene().WasKilled(active_.pidfd));
  EXPECT_EQ(scene().Request(WithChild(Type::kKillChild, 1)).type, Type::kOk);
  EXPECT_TRUE(IsError(scene().Request(WithChild(Type::kKillChild, 55)),
                      Error::kUnknown));
  scene().Fence(active_);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kPromote));
}

TEST_F(EscrowChild, StandbyThatDoesNotReadIsKilled) {
  scene().FailSend(standby_, /*gone=*/false);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildMisbehaved));
  scene().Fence(active_);
  EXPECT_THAT(scene().sent(), IsEmpty());
}

TEST_F(EscrowChild, StandbyThatClosedIsKilledWithoutBlame) {
  scene().FailSend(standby_, /*gone=*/true);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
}

TEST_F(EscrowChild, StaleKeyOfARemovedChildDoesNothing) {
  scene().Fence(standby_);
  scene().Add(kDisk, 3);  // Takes its place.
  scene().Say(standby_, Type::kEscrow, 40, 1);
  scene().Fence(standby_);
  scene().FailSend(standby_, false);
  EXPECT_EQ(scene().actions().size(), 0u);
  EXPECT_EQ(disk().children[1].id, 3u);
}

}  // namespace
}  // namespace holdfast::store

// A new store, which children of an older one deposit in.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/escrow_fixture.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kDisk;
using testing::Of;
using testing::WithSlot;

class EscrowReattach : public testing::EscrowTest {};

TEST_F(EscrowReattach, ActiveChildDepositsEveryRange) {
  scene().Create(8);
  const auto child = scene().Add(8, 11, kAddReattached | kAddActive, 41);
  EXPECT_THAT(scene().SentTypes(child), IsEmpty());
  Message deposit = WithSlot(Type::kEscrow, kSlotConnection);
  deposit.arg0 = 4711;
  scene().Say(child, deposit, 1);
  for (Slot slot : {Slot{3}, kSlotFirstDevice, kSlotFirstSession}) {
    scene().Say(child, Type::kEscrow, slot, 1);
    EXPECT_THAT(scene().SentTypes(child), ElementsAre(Type::kAck));
  }
  scene().Say(child, Type::kReady);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildReady));
  EXPECT_EQ(scene().instance(8).connection, 4711u);
  EXPECT_EQ(scene().instance(8).promotion.epoch, 41u);
  scene().Say(child, Type::kEscrow, 3, 1);
  EXPECT_TRUE(scene().WasKilled(child.pidfd));
}

TEST_F(EscrowReattach, NoVmmIsAcceptedWhileTheOldOneMayBeDeposited) {
  scene().Create(8);
  const auto child = scene().Add(8, 11, kAddReattached | kAddActive);
  scene().Request(Of(Type::kSetListener, 8), 1);
  EXPECT_FALSE(scene().IsWatched(scene().instance(8).listener));
  scene().Say(child, Type::kReady);
  EXPECT_TRUE(scene().IsWatched(scene().instance(8).listener));
}

TEST_F(EscrowReattach, DepositorsDeathLetsTheNextVmmIn) {
  scene().Create(8);
  const auto child = scene().Add(8, 11, kAddReattached | kAddActive);
  scene().Request(Of(Type::kSetListener, 8), 1);
  scene().Fence(child);
  EXPECT_TRUE(scene().IsWatched(scene().instance(8).listener));
}

TEST_F(EscrowReattach, StandbyDoesNotOverruleTheActiveOne) {
  scene().Create(8);
  const auto active = scene().Add(8, 11, kAddReattached | kAddActive);
  const auto standby = scene().Add(8, 12, kAddReattached);
  scene().Say(active, Type::kEscrow, 40, 1);
  const Handle held = scene().instance(8).slots[40];
  scene().Say(standby, Type::kEscrow, 40, 1);
  EXPECT_EQ(scene().instance(8).slots[40], held);
  EXPECT_THAT(scene().SentTypes(standby),
              ElementsAre(Type::kAck, Type::kForward));
}

// Of a re-attached active child 11 and standby 12 of instance 8.
class EscrowReattachedPair : public EscrowReattach {
 protected:
  EscrowReattachedPair() {
    scene().Create(8);
    active_ = scene().Add(8, 11, kAddReattached | kAddActive, 5);
    standby_ = scene().Add(8, 12, kAddReattached, 5);
  }
  Handle HeldIn(Slot slot) { return scene().instance(8).slots[slot]; }
  // What the store would send a new standby, by way of the promotion.
  void LoseActive() {
    scene().Fence(active_);
    scene().Say(standby_, Type::kReady);
    EXPECT_THAT(scene().SentTypes(standby_), Contains(Type::kPromote));
  }
};

TEST_F(EscrowReattachedPair, StandbysDepositStandsUntilTheActiveOneSpeaks) {
  scene().Say(standby_, Type::kEscrow, 40, 1);
  const Handle older = HeldIn(40);
  EXPECT_NE(older, kNoHandle);
  scene().Say(active_, Type::kEscrow, 40, 1);
  EXPECT_FALSE(scene().IsOpen(older));
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kForward));
}

// 300 kills of random processes found this: the standby's word was dropped
// while an active one was there, the active one died before it had spoken, and
// the standby after the next lacked guest memory.
TEST_F(EscrowReattachedPair, StandbysDepositIsKeptWhenTheActiveOneDiesSilent) {
  scene().Say(standby_, Type::kEscrow, 40, 1);
  const Handle held = HeldIn(40);
  LoseActive();
  EXPECT_EQ(HeldIn(40), held);
  const auto next = scene().Add(8, 13);
  EXPECT_THAT(scene().SentTypes(next), Contains(Type::kForward));
}

// The standby made its list of deposits before it was forwarded the newer one.
TEST_F(EscrowReattachedPair, StaleDepositDoesNotReplaceADeadActiveOnesWord) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle newest = HeldIn(40);
  scene().Fence(active_);
  scene().Say(standby_, Type::kEscrow, 40, 1);
  EXPECT_EQ(HeldIn(40), newest);
  EXPECT_THAT(scene().SentTypes(standby_),
              ElementsAre(Type::kAck, Type::kForward));
  EXPECT_EQ(scene().sent().back().fd, newest);
}

TEST_F(EscrowReattachedPair, SlotThatTheActiveOneEmptiedStaysEmpty) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  scene().Say(active_, Type::kEscrow, 40, 0);
  scene().Say(standby_, Type::kEscrow, 40, 1);
  EXPECT_EQ(HeldIn(40), kNoHandle);
}

TEST_F(EscrowReattachedPair, WhatTheActiveOneDoesNotHoldIsDroppedAtItsReady) {
  scene().Say(standby_, Type::kEscrow, 41, 1);
  scene().Say(standby_, Type::kEscrow, kSlotConnection, 1);
  EXPECT_THAT(scene().SentTypes(active_), IsEmpty());
  scene().Say(active_, Type::kEscrow, 40, 1);
  scene().Say(active_, Type::kReady);
  EXPECT_NE(HeldIn(40), kNoHandle);
  EXPECT_EQ(HeldIn(41), kNoHandle);
  EXPECT_EQ(HeldIn(kSlotConnection), kNoHandle);
  EXPECT_THAT(scene().SentTypes(standby_),
              ElementsAre(Type::kForward, Type::kForward));
}

TEST_F(EscrowReattachedPair, ActiveOneThatIsReadyHasSaidAll) {
  scene().Say(active_, Type::kReady);
  scene().Say(standby_, Type::kEscrow, 41, 1);
  EXPECT_EQ(HeldIn(41), kNoHandle);
  EXPECT_EQ(scene().sent().back().message.type, Type::kForward);
  EXPECT_EQ(scene().sent().back().fd, kNoHandle);
  EXPECT_FALSE(scene().WasKilled(standby_.pidfd));
}

// A resource is the same file for life; the child's own descriptor of it may
// carry locks, so it stands before the launcher's.
TEST_F(EscrowReattachedPair, ResourceOfAChildReplacesTheLaunchers) {
  Message resource = WithSlot(Type::kSetResource, 3);
  resource.instance = 8;
  scene().Request(resource, 1);
  const Handle given = HeldIn(3);
  scene().Say(standby_, Type::kEscrow, 3, 1);
  EXPECT_FALSE(scene().IsOpen(given));
  scene().Say(active_, Type::kReady);
  EXPECT_NE(HeldIn(3), kNoHandle);
}

TEST_F(EscrowReattach, StandbyWhoseActiveOneDiedInheritsItsDeposits) {
  scene().Create(8);
  const auto standby = scene().Add(8, 12, kAddReattached, 5);
  scene().Say(standby, Type::kEscrow, 40, 1);
  scene().Say(standby, Type::kReady);
  EXPECT_THAT(scene().SentTypes(standby), ElementsAre(Type::kPromote));
  EXPECT_EQ(scene().sent()[0].message.arg0, 6u);
  EXPECT_NE(scene().instance(8).slots[40], kNoHandle);
}

// It may be active without this store's knowledge, or know alone what a
// newcomer cannot: who is ready earlier waits for it.
TEST_F(EscrowReattach, NobodyIsPromotedWhileADepositIsAwaited) {
  scene().Create(8);
  const auto standby = scene().Add(8, 12, kAddReattached, 5);
  const auto newcomer = scene().Add(8, 13);
  scene().Say(newcomer, Type::kReady);
  EXPECT_THAT(scene().sent(), IsEmpty());
  scene().Say(standby, Type::kEscrow, 40, 1);
  EXPECT_THAT(scene().SentTypes(newcomer), ElementsAre(Type::kForward));
  scene().Say(standby, Type::kReady);
  EXPECT_THAT(scene().SentTypes(newcomer), ElementsAre(Type::kPromote));
  EXPECT_THAT(scene().ToldTypes(),
              ElementsAre(Type::kChildReady, Type::kPromoted));
}

TEST_F(EscrowReattach, DepositorsDeathEndsTheWaitOfOthers) {
  scene().Create(8);
  const auto standby = scene().Add(8, 12, kAddReattached, 5);
  const auto newcomer = scene().Add(8, 13);
  scene().Say(newcomer, Type::kReady);
  scene().Hangup(standby);
  EXPECT_THAT(scene().sent(), IsEmpty());  // It may still act.
  scene().Fence(standby);
  EXPECT_THAT(scene().SentTypes(newcomer), ElementsAre(Type::kPromote));
}

TEST_F(EscrowReattach, SecondActiveChildIsRefused) {
  EXPECT_EQ(scene().Add(kDisk, 3, kAddReattached | kAddActive).channel,
            kNoHandle);
}

}  // namespace
}  // namespace holdfast::store

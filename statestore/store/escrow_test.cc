#include "statestore/store/escrow.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Scene;

constexpr InstanceId kDisk = 7;

Message Of(Type type, InstanceId instance = kDisk) {
  Message message;
  message.type = type;
  message.instance = instance;
  return message;
}

Message WithSlot(Type type, Slot slot) {
  Message message = Of(type);
  message.slot = slot;
  return message;
}

Message WithChild(Type type, ChildId child) {
  Message message = Of(type);
  message.child = child;
  return message;
}

Message WithArg(Type type, uint64_t arg0) {
  Message message = Of(type);
  message.arg0 = arg0;
  return message;
}

bool IsError(const Message& answer, Error error) {
  return answer.type == Type::kError &&
         answer.arg0 == static_cast<uint64_t>(error);
}

// An instance with an active child 1 and a ready standby 2.
class EscrowTest : public ::testing::Test {
 protected:
  EscrowTest() : scene_(std::make_unique<Scene>()) {
    scene().Create(kDisk);
    active_ = scene().Add(kDisk, 1);
    scene().Say(active_, Type::kReady);
    standby_ = scene().Add(kDisk, 2);
    scene().Say(standby_, Type::kReady);
  }
  void TearDown() override { EXPECT_THAT(scene().problems(), IsEmpty()); }

  Scene& scene() { return *scene_; }
  const Instance& disk() { return scene().instance(kDisk); }
  Handle Slot_(Slot slot) { return disk().slots[slot]; }

  std::unique_ptr<Scene> scene_;
  Scene::ChildHandles active_, standby_;
};

// ---- instances ----

TEST_F(EscrowTest, SecondInstanceOfTheSameNumberIsRefused) {
  EXPECT_TRUE(IsError(scene().Create(kDisk), Error::kExists));
  EXPECT_TRUE(IsError(scene().Create(0), Error::kBadMessage));
}

TEST_F(EscrowTest, InstancesBeyondTheTableAreRefused) {
  for (InstanceId id = 100; id < 100 + kMaxInstances - 1; ++id) {
    EXPECT_EQ(scene().Create(id).type, Type::kOk);
  }
  EXPECT_TRUE(IsError(scene().Create(99), Error::kLimit));
}

TEST_F(EscrowTest, RequestForAnUnknownInstanceIsRefusedAndItsFdsClosed) {
  Message message = Of(Type::kSetListener, 1234);
  EXPECT_TRUE(IsError(scene().Request(message, 1), Error::kUnknown));
}

TEST_F(EscrowTest, InstanceWithChildrenIsNotRemoved) {
  EXPECT_TRUE(
      IsError(scene().Request(Of(Type::kRemoveInstance)), Error::kExists));
}

TEST_F(EscrowTest, RemovalClosesEverythingOfTheInstance) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Request(Of(Type::kPutBlob), 1);
  scene().Connect(kDisk);
  scene().Say(active_, Type::kEscrow, kSlotFirstSession, 1);
  const Handle segment = disk().segment, listener = disk().listener;
  scene().Fence(active_);
  scene().Fence(standby_);
  EXPECT_EQ(scene().Request(Of(Type::kRemoveInstance)).type, Type::kOk);
  EXPECT_FALSE(scene().IsOpen(segment));
  EXPECT_FALSE(scene().IsOpen(listener));
  EXPECT_EQ(disk().id, 0u);
}

TEST_F(EscrowTest, BlobIsReplaced) {
  scene().Request(Of(Type::kPutBlob), 1);
  const Handle old = disk().blob;
  scene().Request(Of(Type::kPutBlob), 1);
  EXPECT_FALSE(scene().IsOpen(old));
  EXPECT_NE(disk().blob, old);
}

TEST_F(EscrowTest, MessageOfAnotherDirectionIsRefused) {
  EXPECT_TRUE(IsError(scene().Request(Of(Type::kReady)), Error::kBadMessage));
  EXPECT_TRUE(IsError(scene().Request(Of(Type::kOk)), Error::kBadMessage));
}

TEST_F(EscrowTest, WrongNumberOfDescriptorsIsRefused) {
  EXPECT_TRUE(
      IsError(scene().Request(Of(Type::kSetListener), 0), Error::kBadMessage));
  EXPECT_TRUE(
      IsError(scene().Request(Of(Type::kSetListener), 2), Error::kBadMessage));
}

// ---- children ----

TEST_F(EscrowTest, NewChildGetsEveryOccupiedSlotThenDone) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  scene().Say(active_, Type::kEscrow, 40, 1);
  const auto third = scene().Add(kDisk, 3);
  EXPECT_THAT(scene().SentTypes(third),
              ElementsAre(Type::kForward, Type::kForward, Type::kForwardDone));
}

TEST_F(EscrowTest, ChildrenBeyondTheTableAreRefused) {
  EXPECT_NE(scene().Add(kDisk, 3).channel, kNoHandle);
  EXPECT_NE(scene().Add(kDisk, 4).channel, kNoHandle);
  EXPECT_EQ(scene().Add(kDisk, 5).channel, kNoHandle);
}

TEST_F(EscrowTest, ChildNumbersAreUniqueAndNotZero) {
  EXPECT_EQ(scene().Add(kDisk, 2).channel, kNoHandle);
  EXPECT_EQ(scene().Add(kDisk, 0).channel, kNoHandle);
}

TEST_F(EscrowTest, ReadyStandbyIsTold) {
  const auto third = scene().Add(kDisk, 3);
  scene().Say(third, Type::kReady);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildReady));
  scene().Say(third, Type::kReady);
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
}

TEST_F(EscrowTest, FencePromotesFirstAndTellsAfterwards) {
  scene().Fence(active_);
  EXPECT_EQ(scene().actions().begin()->message.type, Type::kPromote);
  EXPECT_EQ(scene().actions().begin()->message.arg0, 2u);
  EXPECT_THAT(scene().ToldTypes(),
              ElementsAre(Type::kChildLost, Type::kPromoted));
  EXPECT_FALSE(scene().IsOpen(active_.pidfd));
  EXPECT_FALSE(scene().IsOpen(active_.control));
}

TEST_F(EscrowTest, OnlyTheDeclaredFenceCounts) {
  scene().Fence(active_, Watch::kPidfd);
  EXPECT_EQ(scene().actions().size(), 0u);
  EXPECT_FALSE(scene().IsWatched(active_.pidfd));
  EXPECT_TRUE(scene().IsWatched(active_.listener));
}

TEST_F(EscrowTest, WithoutTheListenerThePidfdIsTheFence) {
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

TEST_F(EscrowTest, EndOfTheChannelKillsButDoesNotPromote) {
  scene().Hangup(active_);
  EXPECT_TRUE(scene().WasKilled(active_.pidfd));
  EXPECT_THAT(scene().sent(), IsEmpty());
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
  scene().Fence(active_);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kPromote));
}

// A store without the right to kill must not leave a live child unfenced.
TEST_F(EscrowTest, FailedKillAfterTheEndOfTheChannelIsTold) {
  scene().Hangup(active_);
  const Action& last = scene().actions().end()[-1];
  EXPECT_EQ(last.stamp, Action::Stamp::kIfKillFailed);
  EXPECT_EQ(last.message.type, Type::kChildMisbehaved);
  EXPECT_EQ(last.message.child, 1u);
}

TEST_F(EscrowTest, NothingOfAKilledChildIsHeard) {
  scene().Hangup(active_);
  scene().Say(active_, Type::kEscrow, 40, 1);
  EXPECT_EQ(Slot_(40), kNoHandle);
  EXPECT_THAT(scene().sent(), IsEmpty());
}

TEST_F(EscrowTest, DeathWithoutAStandbyIsRememberedForTheHeir) {
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

TEST_F(EscrowTest, HeldPromotionWaitsForRelease) {
  scene().Request(WithArg(Type::kHoldPromotion, 1));
  scene().Fence(active_);
  EXPECT_THAT(scene().sent(), IsEmpty());
  scene().Request(WithArg(Type::kHoldPromotion, 0));
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kPromote));
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kPromoted, Type::kOk));
  EXPECT_TRUE(IsError(scene().Request(WithArg(Type::kHoldPromotion, 2)),
                      Error::kBadMessage));
}

TEST_F(EscrowTest, KillOnRequestIsFollowedByTheFence) {
  EXPECT_EQ(scene().Request(WithChild(Type::kKillChild, 1)).type, Type::kOk);
  EXPECT_TRUE(scene().WasKilled(active_.pidfd));
  EXPECT_EQ(scene().Request(WithChild(Type::kKillChild, 1)).type, Type::kOk);
  EXPECT_TRUE(IsError(scene().Request(WithChild(Type::kKillChild, 55)),
                      Error::kUnknown));
  scene().Fence(active_);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kPromote));
}

TEST_F(EscrowTest, StandbyThatDoesNotReadIsKilled) {
  scene().FailSend(standby_, /*gone=*/false);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildMisbehaved));
  scene().Fence(active_);
  EXPECT_THAT(scene().sent(), IsEmpty());
}

TEST_F(EscrowTest, StandbyThatClosedIsKilledWithoutBlame) {
  scene().FailSend(standby_, /*gone=*/true);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
}

TEST_F(EscrowTest, StaleKeyOfARemovedChildDoesNothing) {
  scene().Fence(standby_);
  scene().Add(kDisk, 3);  // Takes its place.
  scene().Say(standby_, Type::kEscrow, 40, 1);
  scene().Fence(standby_);
  scene().FailSend(standby_, false);
  EXPECT_EQ(scene().actions().size(), 0u);
  EXPECT_EQ(disk().children[1].id, 3u);
}

// ---- slots ----

TEST_F(EscrowTest, DepositIsForwardedBeforeItIsAcknowledged) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  ASSERT_EQ(scene().sent().size(), 2u);
  EXPECT_EQ(scene().sent()[0].channel, standby_.channel);
  EXPECT_EQ(scene().sent()[0].fd, Slot_(40));
  EXPECT_EQ(scene().sent()[1].channel, active_.channel);
  EXPECT_EQ(scene().sent()[1].message.type, Type::kAck);
  EXPECT_EQ(scene().sent()[1].message.tag, 77u);
}

TEST_F(EscrowTest, DepositReplacesAndAnEmptyOneClears) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle first = Slot_(40);
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle second = Slot_(40);
  EXPECT_FALSE(scene().IsOpen(first));
  scene().Say(active_, Type::kEscrow, 40, 0);
  EXPECT_FALSE(scene().IsOpen(second));
  EXPECT_EQ(Slot_(40), kNoHandle);
}

TEST_F(EscrowTest, StandbyMayNotDeposit) {
  scene().Say(standby_, Type::kEscrow, 40, 1);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  ASSERT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildMisbehaved));
  EXPECT_EQ(scene().told()[0].message.arg0,
            static_cast<uint64_t>(Error::kNotActive));
}

TEST_F(EscrowTest, ActiveChildMayNotTouchResourcesOrTheConnection) {
  for (Slot slot : {Slot{0}, Slot{1}, Slot{15}, Slot{kSlotCount}}) {
    Scene scene;
    scene.Create(kDisk);
    const auto child = scene.Add(kDisk, 1);
    scene.Say(child, Type::kReady);
    scene.Say(child, Type::kEscrow, slot, 1);
    EXPECT_TRUE(scene.WasKilled(child.pidfd)) << slot;
    EXPECT_THAT(scene.problems(), IsEmpty());
  }
}

TEST_F(EscrowTest, StartingChildOfANewInstanceMayFillTheDeviceRange) {
  scene().Create(8);
  const auto child = scene().Add(8, 11);
  scene().Say(child, Type::kEscrow, kSlotFirstDevice, 1);
  EXPECT_THAT(scene().SentTypes(child), ElementsAre(Type::kAck));
  scene().Say(child, Type::kEscrow, kSlotFirstSession, 1);
  EXPECT_TRUE(scene().WasKilled(child.pidfd));
}

TEST_F(EscrowTest, ResourceGoesToEveryChild) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  EXPECT_THAT(scene().SentTypes(active_), ElementsAre(Type::kForward));
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kForward));
  for (Slot slot : {Slot{0}, kSlotEndResource}) {
    EXPECT_TRUE(IsError(scene().Request(WithSlot(Type::kSetResource, slot), 1),
                        Error::kBadMessage));
  }
}

TEST_F(EscrowTest, RetainClosesTheOthersHereAndInTheStandby) {
  for (Slot slot : {40, 100, 191}) {
    scene().Say(active_, Type::kEscrow, slot, 1);
  }
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  Message retain = Of(Type::kRetain);
  retain.bitmap[100 / 64] = uint64_t{1} << (100 % 64);
  scene().Say(active_, retain);
  EXPECT_EQ(Slot_(40), kNoHandle);
  EXPECT_NE(Slot_(100), kNoHandle);
  EXPECT_EQ(Slot_(191), kNoHandle);
  EXPECT_NE(Slot_(3), kNoHandle);
  EXPECT_THAT(scene().SentTypes(standby_),
              ElementsAre(Type::kForward, Type::kForward, Type::kSync));
  EXPECT_EQ(scene().sent().back().message.bitmap[1], retain.bitmap[1]);
  scene().Say(active_, retain);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kSync));
}

TEST_F(EscrowTest, OnlyTheActiveChildMayRetainOrCloseTheVmm) {
  for (Type type : {Type::kRetain, Type::kVmmClosed}) {
    const auto third = scene().Add(kDisk, 30 + static_cast<int>(type) % 2);
    scene().Say(third, type);
    EXPECT_TRUE(scene().WasKilled(third.pidfd));
    scene().Fence(third);
  }
}

TEST_F(EscrowTest, FullInstanceFitsTheActionList) {
  scene().Add(kDisk, 3);
  scene().Add(kDisk, 4);
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  for (Slot s = 1; s < kSlotCount; ++s) {
    if (s < kSlotEndResource) {
      scene().Request(WithSlot(Type::kSetResource, s), 1);
    } else {
      scene().Say(active_, Type::kEscrow, s, 1);
    }
  }
  scene().Say(active_, Type::kVmmClosed);
  EXPECT_EQ(scene().sent().size(), 3 * 161u + 1);
  EXPECT_FALSE(scene().actions().overflowed());
}

TEST_F(EscrowTest, GetDescriptorLendsSlotControlPidfdAndListener) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  EXPECT_EQ(scene().Request(WithSlot(Type::kGetDescriptor, 3)).type,
            Type::kDescriptor);
  EXPECT_THAT(scene().told()[0].fds, ElementsAre(Slot_(3)));
  Message child = WithChild(Type::kGetDescriptor, 2);
  scene().Request(child);
  EXPECT_THAT(scene().told()[0].fds, ElementsAre(standby_.control));
  child.arg0 = 1;
  scene().Request(child);
  EXPECT_THAT(scene().told()[0].fds, ElementsAre(standby_.pidfd));
  child.arg0 = 2;
  scene().Request(child);
  EXPECT_THAT(scene().told()[0].fds, ElementsAre(standby_.listener));
  child.arg0 = 3;
  EXPECT_TRUE(IsError(scene().Request(child), Error::kBadMessage));
  EXPECT_TRUE(IsError(scene().Request(WithSlot(Type::kGetDescriptor, 90)),
                      Error::kUnknown));
  EXPECT_TRUE(IsError(scene().Request(WithChild(Type::kGetDescriptor, 9)),
                      Error::kUnknown));
}

// ---- the VMM ----

TEST_F(EscrowTest, ConnectionGoesToTheActiveChildFirst) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle vmm = scene().Connect(kDisk);
  EXPECT_EQ(Slot_(kSlotConnection), vmm);
  ASSERT_EQ(scene().sent().size(), 2u);
  EXPECT_EQ(scene().sent()[0].channel, active_.channel);
  EXPECT_EQ(scene().sent()[0].message.arg0, disk().connection);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmConnected));
}

TEST_F(EscrowTest, SecondVmmIsTurnedAway) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  const Handle second = scene().Connect(kDisk);
  EXPECT_FALSE(scene().IsOpen(second));
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmRefused));
}

TEST_F(EscrowTest, ClosedVmmTakesItsSessionWithItButNothingElse) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  scene().Say(active_, Type::kEscrow, kSlotFirstDevice, 1);
  scene().Say(active_, Type::kEscrow, 40, 1);
  scene().Say(active_, Type::kVmmClosed);
  EXPECT_EQ(Slot_(kSlotConnection), kNoHandle);
  EXPECT_EQ(Slot_(40), kNoHandle);
  EXPECT_NE(Slot_(kSlotFirstDevice), kNoHandle);
  EXPECT_EQ(scene().sent().back().message.type, Type::kAck);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmGone));
  scene().Connect(kDisk);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmConnected));
}

// The predecessor died between the store's work and its own knowledge of it.
TEST_F(EscrowTest, RepeatedCloseOfAnOldConnectionSparesTheNewOne) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  const Message close = WithArg(Type::kVmmClosed, disk().connection);
  scene().Say(active_, close);
  const Handle next = scene().Connect(kDisk);
  scene().Say(active_, close);
  EXPECT_EQ(Slot_(kSlotConnection), next);
  EXPECT_THAT(scene().SentTypes(active_), ElementsAre(Type::kAck));
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
}

TEST_F(EscrowTest, GivenConnectionReplacesTheOldOne) {
  scene().Request(Of(Type::kSetConnection), 1);
  const Handle first = Slot_(kSlotConnection);
  const uint64_t number = disk().connection;
  scene().Request(Of(Type::kSetConnection), 1);
  EXPECT_FALSE(scene().IsOpen(first));
  EXPECT_GT(disk().connection, number);
}

TEST_F(EscrowTest, NewListenerReplacesTheWatchedOne) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle first = disk().listener;
  scene().Request(Of(Type::kSetListener), 1);
  EXPECT_FALSE(scene().IsOpen(first));
  EXPECT_TRUE(scene().IsWatched(disk().listener));
}

// ---- a new store ----

TEST_F(EscrowTest, ReattachedActiveChildDepositsEveryRange) {
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

TEST_F(EscrowTest, NoVmmIsAcceptedWhileTheOldOneMayBeDeposited) {
  scene().Create(8);
  const auto child = scene().Add(8, 11, kAddReattached | kAddActive);
  scene().Request(Of(Type::kSetListener, 8), 1);
  EXPECT_FALSE(scene().IsWatched(scene().instance(8).listener));
  scene().Say(child, Type::kReady);
  EXPECT_TRUE(scene().IsWatched(scene().instance(8).listener));
}

TEST_F(EscrowTest, DepositorsDeathLetsTheNextVmmIn) {
  scene().Create(8);
  const auto child = scene().Add(8, 11, kAddReattached | kAddActive);
  scene().Request(Of(Type::kSetListener, 8), 1);
  scene().Fence(child);
  EXPECT_TRUE(scene().IsWatched(scene().instance(8).listener));
}

TEST_F(EscrowTest, ReattachedStandbyDoesNotOverruleTheActiveOne) {
  scene().Create(8);
  const auto active = scene().Add(8, 11, kAddReattached | kAddActive);
  const auto standby = scene().Add(8, 12, kAddReattached);
  scene().Say(active, Type::kEscrow, 40, 1);
  const Handle held = scene().instance(8).slots[40];
  scene().Say(standby, Type::kEscrow, 40, 1);
  EXPECT_EQ(scene().instance(8).slots[40], held);
  EXPECT_THAT(scene().SentTypes(standby), ElementsAre(Type::kAck));
}

TEST_F(EscrowTest, ReattachedStandbyWhoseActiveOneDiedInheritsItsDeposits) {
  scene().Create(8);
  const auto standby = scene().Add(8, 12, kAddReattached, 5);
  scene().Say(standby, Type::kEscrow, 40, 1);
  scene().Say(standby, Type::kReady);
  EXPECT_THAT(scene().SentTypes(standby), ElementsAre(Type::kPromote));
  EXPECT_EQ(scene().sent()[0].message.arg0, 6u);
  EXPECT_NE(scene().instance(8).slots[40], kNoHandle);
}

TEST_F(EscrowTest, SecondActiveChildIsRefused) {
  EXPECT_EQ(scene().Add(kDisk, 3, kAddReattached | kAddActive).channel,
            kNoHandle);
}

// ---- the inventory ----

std::vector<Type> InventoryTypes(const Tables& tables) {
  std::vector<Type> types;
  Cursor cursor;
  Action action;
  while (NextInventory(tables, cursor, action)) {
    types.push_back(action.message.type);
  }
  return types;
}

TEST_F(EscrowTest, InventoryNamesInstanceChildrenAndSlots) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  scene().Request(Of(Type::kSetConnection), 1);
  scene().Say(active_, Type::kEscrow, 40, 1);  // Not the launcher's business.
  EXPECT_THAT(InventoryTypes(scene().escrow().tables()),
              ElementsAre(Type::kInstanceInfo, Type::kChildInfo,
                          Type::kChildInfo, Type::kSlotInfo, Type::kSlotInfo));
}

TEST_F(EscrowTest, InventoryTellsStatesEpochAndHold) {
  scene().Request(WithArg(Type::kHoldPromotion, 1));
  Cursor cursor;
  Action action;
  ASSERT_TRUE(NextInventory(scene().escrow().tables(), cursor, action));
  EXPECT_STREQ(action.message.name, "disk");
  EXPECT_EQ(action.message.arg0, 1u);
  EXPECT_EQ(action.message.arg1, 1u);
  EXPECT_EQ(action.message.arg2, 1u);
  EXPECT_EQ(action.fds[0], disk().segment);
  ASSERT_TRUE(NextInventory(scene().escrow().tables(), cursor, action));
  EXPECT_EQ(action.message.arg1, static_cast<uint64_t>(ChildState::kActive));
  ASSERT_TRUE(NextInventory(scene().escrow().tables(), cursor, action));
  EXPECT_EQ(action.message.arg1, static_cast<uint64_t>(ChildState::kStandby));
  EXPECT_EQ(action.fds[0], standby_.control);
  EXPECT_FALSE(NextInventory(scene().escrow().tables(), cursor, action));
}

TEST_F(EscrowTest, HelloStartsTheInventory) {
  scene().Request(WithArg(Type::kHello, 1234));
  EXPECT_EQ(scene().actions().begin()->kind, Action::Kind::kInventory);
  EXPECT_EQ(scene().actions().begin()->message.arg0, 1234u);
  EXPECT_THAT(scene().told(), IsEmpty());
}

}  // namespace
}  // namespace holdfast::store

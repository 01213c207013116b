// What slots hold, who may change them, who is told.

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/escrow_fixture.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::IsError;
using testing::kDisk;
using testing::Of;
using ::testing::Pair;
using testing::Scene;
using testing::WithArg;
using testing::WithChild;
using testing::WithSlot;

class EscrowSlot : public testing::EscrowTest {};

TEST_F(EscrowSlot, DepositIsForwardedBeforeItIsAcknowledged) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  ASSERT_EQ(scene().sent().size(), 2u);
  EXPECT_EQ(scene().sent()[0].channel, standby_.channel);
  EXPECT_EQ(scene().sent()[0].fd, HeldIn(40));
  EXPECT_EQ(scene().sent()[1].channel, active_.channel);
  EXPECT_EQ(scene().sent()[1].message.type, Type::kAck);
  EXPECT_EQ(scene().sent()[1].message.tag, 77u);
}

TEST_F(EscrowSlot, DepositReplacesAndAnEmptyOneClears) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle first = HeldIn(40);
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle second = HeldIn(40);
  EXPECT_FALSE(scene().IsOpen(first));
  scene().Say(active_, Type::kEscrow, 40, 0);
  EXPECT_FALSE(scene().IsOpen(second));
  EXPECT_EQ(HeldIn(40), kNoHandle);
}

TEST_F(EscrowSlot, StandbyMayNotDeposit) {
  scene().Say(standby_, Type::kEscrow, 40, 1);
  EXPECT_TRUE(scene().WasKilled(standby_.pidfd));
  ASSERT_THAT(scene().ToldTypes(), ElementsAre(Type::kChildMisbehaved));
  EXPECT_EQ(scene().told()[0].message.arg0,
            static_cast<uint64_t>(Error::kNotActive));
}

TEST_F(EscrowSlot, ActiveChildMayNotTouchResourcesOrTheConnection) {
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

TEST_F(EscrowSlot, StartingChildOfANewInstanceMayFillTheDeviceRange) {
  scene().Create(8);
  const auto child = scene().Add(8, 11);
  scene().Say(child, Type::kEscrow, kSlotFirstDevice, 1);
  EXPECT_THAT(scene().SentTypes(child), ElementsAre(Type::kAck));
  scene().Say(child, Type::kEscrow, kSlotFirstSession, 1);
  EXPECT_TRUE(scene().WasKilled(child.pidfd));
}

TEST_F(EscrowSlot, ResourceGoesToEveryChild) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  EXPECT_THAT(scene().SentTypes(active_), ElementsAre(Type::kForward));
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kForward));
  for (Slot slot : {Slot{0}, kSlotEndResource}) {
    EXPECT_TRUE(IsError(scene().Request(WithSlot(Type::kSetResource, slot), 1),
                        Error::kBadMessage));
  }
}

TEST_F(EscrowSlot, RetainClosesTheOthersHereAndInTheStandby) {
  for (Slot slot : {40, 100, 191}) {
    scene().Say(active_, Type::kEscrow, slot, 1);
  }
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  Message retain = Of(Type::kRetain);
  retain.bitmap[100 / 64] = uint64_t{1} << (100 % 64);
  scene().Say(active_, retain);
  EXPECT_EQ(HeldIn(40), kNoHandle);
  EXPECT_NE(HeldIn(100), kNoHandle);
  EXPECT_EQ(HeldIn(191), kNoHandle);
  EXPECT_NE(HeldIn(3), kNoHandle);
  EXPECT_THAT(scene().SentTypes(standby_),
              ElementsAre(Type::kForward, Type::kForward, Type::kSync));
  EXPECT_EQ(scene().sent().back().message.bitmap[1], retain.bitmap[1]);
  scene().Say(active_, retain);
  EXPECT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kSync));
}

TEST_F(EscrowSlot, WhatIsDroppedStaysOpenUntilEveryStandbyHasLetGoOfIt) {
  const auto third = scene().Add(kDisk, 30);
  scene().Say(third, Type::kReady);
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle memory = HeldIn(40);
  scene().Say(active_, Of(Type::kRetain));
  Message settled = Of(Type::kSettled);
  settled.arg0 = scene().sent().back().message.arg0;
  ASSERT_NE(settled.arg0, 0u);
  scene().Say(standby_, settled);
  EXPECT_TRUE(scene().IsOpen(memory));
  scene().Say(third, settled);
  EXPECT_FALSE(scene().IsOpen(memory));
}

TEST_F(EscrowSlot, AnAnswerToAnEarlierSyncIsNotEnough) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  scene().Say(active_, Type::kEscrow, 41, 1);
  const Handle first = HeldIn(40), second = HeldIn(41);
  Message retain = Of(Type::kRetain);
  retain.bitmap[0] = uint64_t{1} << 41;
  scene().Say(active_, retain);
  Message settled = Of(Type::kSettled);
  settled.arg0 = scene().sent().back().message.arg0;
  scene().Say(active_, Of(Type::kRetain));
  scene().Say(standby_, settled);
  EXPECT_TRUE(scene().IsOpen(second));
  settled.arg0 = scene().instance(kDisk).last_sync;
  scene().Say(standby_, settled);
  EXPECT_FALSE(scene().IsOpen(first));
  EXPECT_FALSE(scene().IsOpen(second));
}

TEST_F(EscrowSlot, ADeadStandbyIsNotWaitedFor) {
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle memory = HeldIn(40);
  scene().Say(active_, Of(Type::kRetain));
  EXPECT_TRUE(scene().IsOpen(memory));
  scene().Fence(standby_);
  EXPECT_FALSE(scene().IsOpen(memory));
}

// The thread that closes each handle, of the last step.
std::map<Handle, Closer> Closers(const Scene& scene) {
  std::map<Handle, Closer> closers;
  for (const Action& action : scene.actions()) {
    if (action.kind == Action::Kind::kClose) {
      closers[action.handle] = action.closer;
    }
  }
  return closers;
}

TEST_F(EscrowSlot, OnlyAConnectionIsClosedWithoutWaitingForMemory) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle vmm = scene().Connect(kDisk);
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  scene().Say(active_, Type::kEscrow, 40, 1);
  const Handle image = HeldIn(3), memory = HeldIn(40);
  scene().Say(active_, Type::kVmmClosed);
  EXPECT_THAT(Closers(scene()), ElementsAre(Pair(vmm, Closer::kPromptly)));
  Message settled = WithArg(Type::kSettled, disk().last_sync);
  scene().Say(standby_, settled);
  EXPECT_THAT(Closers(scene()), ElementsAre(Pair(memory, Closer::kApart)));
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  EXPECT_THAT(Closers(scene()), ElementsAre(Pair(image, Closer::kApart)));
  const Handle next = scene().Connect(kDisk);
  const Handle second =
      scene().AcceptUnasked(scene().escrow().tables().KeyOf(disk()));
  EXPECT_TRUE(scene().IsOpen(next));
  EXPECT_THAT(Closers(scene()), ElementsAre(Pair(second, Closer::kPromptly)));
}

TEST_F(EscrowSlot, ARemovedInstancesConnectionDoesNotWaitForItsMemory) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle vmm = scene().Connect(kDisk);
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  const Handle image = HeldIn(3);
  scene().Fence(active_);
  scene().Fence(standby_);
  scene().Request(Of(Type::kRemoveInstance));
  const std::map<Handle, Closer> closers = Closers(scene());
  EXPECT_THAT(closers, Contains(Pair(vmm, Closer::kPromptly)));
  EXPECT_THAT(closers, Contains(Pair(image, Closer::kApart)));
}

TEST_F(EscrowSlot, NobodyIsAskedWhenNothingWasDropped) {
  scene().Say(active_, Of(Type::kRetain));
  ASSERT_THAT(scene().SentTypes(standby_), ElementsAre(Type::kSync));
  EXPECT_EQ(scene().sent().back().message.arg0, 0u);
}

TEST_F(EscrowSlot, OnlyTheActiveChildMayRetainOrCloseTheVmm) {
  for (Type type : {Type::kRetain, Type::kVmmClosed}) {
    const auto third = scene().Add(kDisk, 30 + static_cast<int>(type) % 2);
    scene().Say(third, type);
    EXPECT_TRUE(scene().WasKilled(third.pidfd));
    scene().Fence(third);
  }
}

TEST_F(EscrowSlot, FullInstanceFitsTheActionList) {
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
  EXPECT_EQ(scene().sent().size(), 3 * 161u + 3 + 1) << "slots, kSync, kAck";
  EXPECT_FALSE(scene().actions().overflowed());
}

TEST_F(EscrowSlot, GetDescriptorLendsSlotControlPidfdAndListener) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  EXPECT_EQ(scene().Request(WithSlot(Type::kGetDescriptor, 3)).type,
            Type::kDescriptor);
  EXPECT_THAT(scene().told()[0].fds, ElementsAre(HeldIn(3)));
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

}  // namespace
}  // namespace holdfast::store

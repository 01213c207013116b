// The VMM's connection.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/protocol.h"
#include "statestore/store/testing/escrow_fixture.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kDisk;
using testing::Of;
using testing::WithArg;

class EscrowVmm : public testing::EscrowTest {};

TEST_F(EscrowVmm, ConnectionGoesToTheActiveChildFirst) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle vmm = scene().Connect(kDisk);
  EXPECT_EQ(HeldIn(kSlotConnection), vmm);
  ASSERT_EQ(scene().sent().size(), 2u);
  EXPECT_EQ(scene().sent()[0].channel, active_.channel);
  EXPECT_EQ(scene().sent()[0].message.arg0, disk().connection);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmConnected));
}

TEST_F(EscrowVmm, SecondVmmWaitsAndTheLauncherIsToldOnce) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle first = scene().Connect(kDisk);
  EXPECT_EQ(scene().Connect(kDisk), kNoHandle);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmWaiting));
  // Otherwise the waiting one would keep the store busy for ever.
  EXPECT_FALSE(scene().IsWatched(disk().listener));
  EXPECT_EQ(HeldIn(kSlotConnection), first);
}

TEST_F(EscrowVmm, ListenerRestsWhileNothingCanBeAccepted) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().FailAccept(kDisk, 24);
  EXPECT_FALSE(scene().IsWatched(disk().listener));
  ASSERT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmWaiting));
  EXPECT_EQ(scene().told()[0].message.arg0, 24u);
  EXPECT_TRUE(scene().escrow().paused());

  scene().Retry();
  EXPECT_TRUE(scene().IsWatched(disk().listener));
  EXPECT_FALSE(scene().escrow().paused());
  scene().FailAccept(kDisk, 24);
  EXPECT_THAT(scene().ToldTypes(), IsEmpty()) << "it was told";
  scene().Retry();
  scene().Connect(kDisk);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmConnected));
  // The next time is news again.
  scene().Say(active_, Type::kVmmClosed);
  scene().FailAccept(kDisk, 24);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmWaiting));
}

TEST_F(EscrowVmm, PauseEndsWithItsListenerAndItsInstance) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().FailAccept(kDisk, 24);
  scene().Request(Of(Type::kSetListener), 1);
  EXPECT_FALSE(scene().escrow().paused());
  EXPECT_TRUE(scene().IsWatched(disk().listener));
  scene().FailAccept(kDisk, 24);
  scene().Fence(active_);
  scene().Fence(standby_);
  scene().Request(Of(Type::kRemoveInstance));
  EXPECT_FALSE(scene().escrow().paused());
  // Of nobody; and of nothing that could be retried.
  scene().FailAccept(kDisk, 24);
  EXPECT_FALSE(scene().escrow().paused());
}

// Nor does anything else bring it back before its time.
TEST_F(EscrowVmm, OnlyTheRetryEndsAPause) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().FailAccept(kDisk, 24);
  scene().Request(WithArg(Type::kSetConnection, 0), 1);
  scene().Say(active_, Type::kVmmClosed);
  EXPECT_FALSE(scene().IsWatched(disk().listener));
  scene().Retry();
  EXPECT_TRUE(scene().IsWatched(disk().listener));
}

// A VMM that closes and comes back may be seen before the active child has
// seen the end of the old connection.
TEST_F(EscrowVmm, WaitingVmmIsServedWhenTheSessionHasEnded) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  scene().Connect(kDisk);
  scene().Say(active_, Type::kVmmClosed);
  EXPECT_TRUE(scene().IsWatched(disk().listener));
  const Handle second = scene().Connect(kDisk);
  EXPECT_EQ(HeldIn(kSlotConnection), second);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmConnected));
  scene().Connect(kDisk);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmWaiting));
}

TEST_F(EscrowVmm, WaitingVmmOutlivesTheActiveChildAndTheListener) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  scene().Connect(kDisk);
  scene().Fence(active_);
  EXPECT_FALSE(scene().IsWatched(disk().listener));
  scene().Request(Of(Type::kSetListener), 1);
  EXPECT_TRUE(scene().IsWatched(disk().listener));
}

// Another process may hold the listening socket, too: what it let through
// while a session lives is not let in here.
TEST_F(EscrowVmm, UnaskedConnectionIsClosed) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle first = scene().Connect(kDisk);
  const Handle second =
      scene().AcceptUnasked(scene().escrow().tables().KeyOf(disk()));
  EXPECT_FALSE(scene().IsOpen(second));
  EXPECT_EQ(HeldIn(kSlotConnection), first);
}

TEST_F(EscrowVmm, ClosedVmmTakesItsSessionWithItButNothingElse) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  scene().Say(active_, Type::kEscrow, kSlotFirstDevice, 1);
  scene().Say(active_, Type::kEscrow, 40, 1);
  scene().Say(active_, Type::kVmmClosed);
  EXPECT_EQ(HeldIn(kSlotConnection), kNoHandle);
  EXPECT_EQ(HeldIn(40), kNoHandle);
  EXPECT_NE(HeldIn(kSlotFirstDevice), kNoHandle);
  EXPECT_EQ(scene().sent().back().message.type, Type::kAck);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmGone));
  scene().Connect(kDisk);
  EXPECT_THAT(scene().ToldTypes(), ElementsAre(Type::kVmmConnected));
}

// The predecessor died between the store's work and its own knowledge of it.
TEST_F(EscrowVmm, RepeatedCloseOfAnOldConnectionSparesTheNewOne) {
  scene().Request(Of(Type::kSetListener), 1);
  scene().Connect(kDisk);
  const Message close = WithArg(Type::kVmmClosed, disk().connection);
  scene().Say(active_, close);
  const Handle next = scene().Connect(kDisk);
  scene().Say(active_, close);
  EXPECT_EQ(HeldIn(kSlotConnection), next);
  EXPECT_THAT(scene().SentTypes(active_), ElementsAre(Type::kAck));
  EXPECT_THAT(scene().ToldTypes(), IsEmpty());
}

TEST_F(EscrowVmm, GivenConnectionReplacesTheOldOne) {
  scene().Request(Of(Type::kSetConnection), 1);
  const Handle first = HeldIn(kSlotConnection);
  const uint64_t number = disk().connection;
  scene().Request(Of(Type::kSetConnection), 1);
  EXPECT_FALSE(scene().IsOpen(first));
  EXPECT_GT(disk().connection, number);
}

TEST_F(EscrowVmm, NewListenerReplacesTheWatchedOne) {
  scene().Request(Of(Type::kSetListener), 1);
  const Handle first = disk().listener;
  scene().Request(Of(Type::kSetListener), 1);
  EXPECT_FALSE(scene().IsOpen(first));
  EXPECT_TRUE(scene().IsWatched(disk().listener));
}

}  // namespace
}  // namespace holdfast::store

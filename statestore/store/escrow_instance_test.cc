// Instances, and what the launcher is told of them.

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/store/actions.h"
#include "statestore/store/escrow.h"
#include "statestore/store/protocol.h"
#include "statestore/store/tables.h"
#include "statestore/store/testing/escrow_fixture.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::IsError;
using testing::kDisk;
using ::testing::Not;
using testing::Of;
using testing::WithArg;
using testing::WithSlot;

class EscrowInstance : public testing::EscrowTest {};

TEST_F(EscrowInstance, SecondInstanceOfTheSameNumberIsRefused) {
  EXPECT_TRUE(IsError(scene().Create(kDisk), Error::kExists));
  EXPECT_TRUE(IsError(scene().Create(0), Error::kBadMessage));
}

TEST_F(EscrowInstance, InstancesBeyondTheTableAreRefused) {
  for (InstanceId id = 100; id < 100 + kMaxInstances - 1; ++id) {
    EXPECT_EQ(scene().Create(id).type, Type::kOk);
  }
  EXPECT_TRUE(IsError(scene().Create(99), Error::kLimit));
}

TEST_F(EscrowInstance, FewerInstancesWhereThereAreFewerDescriptors) {
  Escrow escrow;
  ActionList actions;
  escrow.LimitInstances(1);
  for (InstanceId id : {1, 2}) {
    Incoming create;
    create.size = sizeof(Message);
    create.message = Of(Type::kCreateInstance, id);
    create.fd_count = 1;
    create.fds[0] = static_cast<Handle>(id);
    escrow.OnLauncher(create, 1, actions);
  }
  std::vector<Message> answers;
  for (const Action& action : actions) {
    if (action.kind == Action::Kind::kTell) answers.push_back(action.message);
  }
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].type, Type::kOk);
  EXPECT_TRUE(IsError(answers[1], Error::kLimit));
}

TEST_F(EscrowInstance, RequestForAnUnknownInstanceIsRefusedAndItsFdsClosed) {
  Message message = Of(Type::kSetListener, 1234);
  EXPECT_TRUE(IsError(scene().Request(message, 1), Error::kUnknown));
}

TEST_F(EscrowInstance, InstanceWithChildrenIsNotRemoved) {
  EXPECT_TRUE(
      IsError(scene().Request(Of(Type::kRemoveInstance)), Error::kExists));
}

TEST_F(EscrowInstance, RemovalClosesEverythingOfTheInstance) {
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

TEST_F(EscrowInstance, BlobIsReplaced) {
  scene().Request(Of(Type::kPutBlob), 1);
  const Handle old = disk().blob;
  scene().Request(Of(Type::kPutBlob), 1);
  EXPECT_FALSE(scene().IsOpen(old));
  EXPECT_NE(disk().blob, old);
}

TEST_F(EscrowInstance, MessageOfAnotherDirectionIsRefused) {
  EXPECT_TRUE(IsError(scene().Request(Of(Type::kReady)), Error::kBadMessage));
  EXPECT_TRUE(IsError(scene().Request(Of(Type::kOk)), Error::kBadMessage));
}

TEST_F(EscrowInstance, WrongNumberOfDescriptorsIsRefused) {
  EXPECT_TRUE(
      IsError(scene().Request(Of(Type::kSetListener), 0), Error::kBadMessage));
  EXPECT_TRUE(
      IsError(scene().Request(Of(Type::kSetListener), 2), Error::kBadMessage));
}

std::vector<Type> InventoryTypes(const Tables& tables) {
  std::vector<Type> types;
  Cursor cursor;
  Action action;
  while (NextInventory(tables, cursor, action)) {
    types.push_back(action.message.type);
  }
  return types;
}

TEST_F(EscrowInstance, InventoryNamesInstanceChildrenAndSlots) {
  scene().Request(WithSlot(Type::kSetResource, 3), 1);
  scene().Request(Of(Type::kSetConnection), 1);
  scene().Say(active_, Type::kEscrow, 40, 1);  // Not the launcher's business.
  EXPECT_THAT(InventoryTypes(scene().escrow().tables()),
              ElementsAre(Type::kInstanceInfo, Type::kChildInfo,
                          Type::kChildInfo, Type::kSlotInfo, Type::kSlotInfo));
}

TEST_F(EscrowInstance, InventoryTellsStatesEpochAndHold) {
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

// Killed, and not seen dead: it is neither what it was nor starting.
TEST_F(EscrowInstance, InventoryTellsWhoIsDying) {
  std::map<ChildId, std::pair<uint64_t, uint64_t>> states;  // State, dying.
  const auto look = [&] {
    Cursor cursor;
    Action action;
    while (NextInventory(scene().escrow().tables(), cursor, action)) {
      if (action.message.type != Type::kChildInfo) continue;
      states[action.message.child] = {action.message.arg1, action.message.arg2};
    }
  };
  constexpr auto kActive = static_cast<uint64_t>(ChildState::kActive);
  look();
  EXPECT_EQ(states[1], std::make_pair(kActive, uint64_t{0}));
  EXPECT_EQ(states[2].second, 0u);
  scene().Hangup(active_);
  scene().Say(standby_, Type::kKillChild);  // Not for it to say.
  look();
  EXPECT_EQ(states[1], std::make_pair(kActive, uint64_t{1}));
  EXPECT_EQ(states[2].second, 1u);
}

TEST_F(EscrowInstance, HelloStartsTheInventory) {
  scene().Request(WithArg(Type::kHello, 1234));
  EXPECT_EQ(scene().actions().begin()->kind, Action::Kind::kInventory);
  EXPECT_EQ(scene().actions().begin()->message.arg0, 1234u);
  EXPECT_THAT(scene().told(), IsEmpty());
}

}  // namespace
}  // namespace holdfast::store

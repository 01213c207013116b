#include "statestore/store/child_channel.h"

#include <sys/socket.h>

#include <cstring>
#include <optional>
#include <utility>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "gtest/gtest.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::store {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;
using testing::MakeToken;
using testing::ReadToken;

// The test plays the store: what it sends before a request is made counts as
// having crossed it on the way.
class ChildChannelTest : public ::testing::Test {
 protected:
  ChildChannelTest() {
    auto pair = SeqpacketPair();
    store_ = std::move(pair->first);
    channel_.emplace(std::move(pair->second));
  }
  void Say(Message message, BorrowedFd fd = BorrowedFd(-1)) {
    ASSERT_EQ(Send(store_, message, {fd.get()}), IoResult::kDone);
  }
  void Say(Type type, uint64_t arg0 = 0) {
    Message message;
    message.type = type;
    message.arg0 = arg0;
    Say(message);
  }
  void Ack(uint64_t tag) {
    Message message;
    message.type = Type::kAck;
    message.tag = tag;
    Say(message);
  }
  Incoming Hear() {
    Incoming incoming;
    EXPECT_EQ(Receive(store_, incoming), IoResult::kDone);
    return incoming;
  }

  UniqueFd store_;
  std::optional<ChildChannel> channel_;
  ChildEvent event_;
};

TEST_F(ChildChannelTest, NothingIsThereAtFirst) {
  EXPECT_EQ(channel_->Receive(event_), ChildChannel::Received::kNothing);
  EXPECT_FALSE(channel_->gone());
}

TEST_F(ChildChannelTest, ForwardCarriesSlotDescriptorAndConnection) {
  Message forward;
  forward.type = Type::kForward;
  forward.slot = kSlotConnection;
  forward.arg0 = 4711;
  Say(forward, MakeToken(5));
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.kind, ChildEvent::Kind::kForward);
  EXPECT_EQ(event_.connection, 4711u);
  EXPECT_EQ(ReadToken(event_.fd), 5u);
  forward.slot = 40;
  Say(forward);
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.slot, 40);
  EXPECT_FALSE(event_.fd.valid());
}

TEST_F(ChildChannelTest, PromotionCarriesEpochAndDeath) {
  Message promote;
  promote.type = Type::kPromote;
  promote.arg0 = 3;
  promote.arg1 = 99;
  Say(promote);
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.epoch, 3u);
  EXPECT_EQ(event_.death_ns, 99u);
}

TEST_F(ChildChannelTest, SyncCarriesTheSet) {
  Message sync;
  sync.type = Type::kSync;
  sync.bitmap[2] = uint64_t{1} << 63;
  Say(sync);
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_TRUE(event_.slots.Contains(191));
  EXPECT_FALSE(event_.slots.Contains(190));
  EXPECT_FALSE(event_.slots.Contains(60000));
}

TEST_F(ChildChannelTest, EventsThatCrossADepositAreKeptInOrder) {
  Say(Type::kForwardDone);
  Say(Type::kPromote, 8);
  Ack(1);
  ASSERT_OK(channel_->Escrow(40, MakeToken(5)));
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.kind, ChildEvent::Kind::kForwardDone);
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.epoch, 8u);
  const Incoming deposit = Hear();
  EXPECT_EQ(deposit.message.type, Type::kEscrow);
  EXPECT_EQ(deposit.message.slot, 40);
  EXPECT_EQ(deposit.fd_count, 1u);
}

TEST_F(ChildChannelTest, LateAnswerToAnotherRequestIsNotOurs) {
  Ack(77);
  Ack(1);
  Ack(2);
  ASSERT_OK(channel_->Escrow(40, MakeToken(5)));
  ASSERT_OK(channel_->VmmClosed(4711));
  Hear();
  EXPECT_EQ(Hear().message.arg0, 4711u);
}

TEST_F(ChildChannelTest, TooManyUnreadEventsAreAnError) {
  // More than a socket holds, so they come along with several answers.
  constexpr size_t kRound = ChildChannel::kMaxQueued / 8;
  for (uint64_t tag = 1; tag <= 8; ++tag) {
    for (size_t i = 0; i < kRound; ++i) Say(Type::kForwardDone);
    Ack(tag);
    if (tag == 8) continue;
    ASSERT_OK(channel_->Escrow(40, MakeToken(5)));
  }
  Say(Type::kForwardDone);
  EXPECT_THAT(channel_->Escrow(40, MakeToken(5)),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  size_t received = 0;
  while (channel_->Receive(event_) == ChildChannel::Received::kEvent) {
    ++received;
  }
  EXPECT_EQ(received, ChildChannel::kMaxQueued + 1);
}

TEST_F(ChildChannelTest, WhatADeadStoreHadSentIsStillGivenOut) {
  Say(Type::kPromote, 8);
  store_.Reset();
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(channel_->Receive(event_), ChildChannel::Received::kGone);
  EXPECT_TRUE(channel_->gone());
  EXPECT_THAT(channel_->Escrow(40, MakeToken(5)),
              StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_THAT(channel_->Retain(SlotSet()),
              StatusIs(absl::StatusCode::kUnavailable, _));
}

// The kernel reports the reset connection before what is still to be read.
TEST_F(ChildChannelTest, UnreadWordsOfOursDoNotCostTheStoresLastOnes) {
  ASSERT_OK(channel_->Ready());
  Say(Type::kPromote, 8);
  store_.Reset();
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.epoch, 8u);
  EXPECT_EQ(channel_->Receive(event_), ChildChannel::Received::kGone);
}

TEST_F(ChildChannelTest, FailedSendDoesNotCostTheStoresLastWords) {
  Say(Type::kPromote, 8);
  store_.Reset();
  EXPECT_THAT(channel_->Ready(), StatusIs(absl::StatusCode::kUnavailable, _));
  ASSERT_EQ(channel_->Receive(event_), ChildChannel::Received::kEvent);
  EXPECT_EQ(event_.epoch, 8u);
}

TEST_F(ChildChannelTest, DeathOfTheStoreEndsTheWaitForItsAnswer) {
  // It has read the deposit, so the end comes as a plain end of stream.
  Say(Type::kForwardDone);
  shutdown(store_.get(), SHUT_WR);
  EXPECT_THAT(channel_->Escrow(40, MakeToken(5)),
              StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(ChildChannelTest, GarbageIsTheEndOfTheStore) {
  const uint8_t garbage[] = {1, 2, 3};
  ASSERT_OK(SendWithFds(store_, garbage, {}));
  EXPECT_EQ(channel_->Receive(event_), ChildChannel::Received::kGone);
}

TEST_F(ChildChannelTest, ReattachDepositsEverythingAndForgetsOldEvents) {
  Say(Type::kForwardDone);
  Ack(1);
  ASSERT_OK(channel_->Escrow(40, MakeToken(5)));
  auto pair = SeqpacketPair();
  store_ = std::move(pair->first);
  Ack(2);
  Ack(3);
  const UniqueFd a = MakeToken(6), b = MakeToken(7);
  const Deposit deposits[] = {{kSlotConnection, a, 4711}, {41, b, 0}};
  ASSERT_OK(channel_->Reattach(std::move(pair->second), deposits));
  EXPECT_EQ(Hear().message.arg0, 4711u);
  EXPECT_EQ(Hear().message.slot, 41);
  EXPECT_EQ(Hear().message.type, Type::kReady);
  EXPECT_EQ(channel_->Receive(event_), ChildChannel::Received::kNothing);
}

TEST(SlotSet, HoldsEverySlot) {
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    SlotSet set;
    set.Add(slot);
    for (Slot other = 0; other < kSlotCount; ++other) {
      EXPECT_EQ(set.Contains(other), other == slot);
    }
  }
}

}  // namespace
}  // namespace holdfast::store

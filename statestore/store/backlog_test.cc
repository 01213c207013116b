#include "statestore/store/backlog.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

Message Of(Type type, Slot slot = 0, uint64_t arg0 = 0) {
  Message message;
  message.type = type;
  message.slot = slot;
  message.arg0 = arg0;
  return message;
}

// Takes all that there is, in order.
std::vector<Message> Drain(Backlog& backlog) {
  std::vector<Message> messages;
  while (!backlog.empty()) {
    messages.push_back(backlog.Next());
    backlog.Taken(messages.back(), 0);
  }
  return messages;
}

TEST(Backlog, IsEmptyAtFirst) {
  EXPECT_TRUE(Backlog().empty());
  EXPECT_FALSE(Backlog().Expired(~uint64_t{0}));
}

TEST(Backlog, TellsAChangedSlotOnceHoweverOftenItChanged) {
  Backlog backlog;
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_TRUE(backlog.Add(Of(Type::kForward, 40), 1));
    ASSERT_TRUE(backlog.Add(Of(Type::kForward, 191), 1));
    ASSERT_TRUE(backlog.Add(Of(Type::kSync), 1));
  }
  const std::vector<Message> messages = Drain(backlog);
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0].slot, 40);
  EXPECT_EQ(messages[1].slot, 191);
  EXPECT_EQ(messages[2].type, Type::kSync);
}

TEST(Backlog, TellsOfAllSlots) {
  Backlog backlog;
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    ASSERT_TRUE(backlog.Add(Of(Type::kForward, slot), 1));
  }
  EXPECT_EQ(Drain(backlog).size(), kSlotCount);
}

// A child is promoted when it knows everything, and hears of the answer that it
// may be waiting for before anything else.
TEST(Backlog, OrderIsAnswerSlotsDoneSyncPromotion) {
  Backlog backlog;
  for (Type type : {Type::kPromote, Type::kSync, Type::kForwardDone,
                    Type::kForward, Type::kAck}) {
    ASSERT_TRUE(backlog.Add(Of(type), 1));
  }
  std::vector<Type> types;
  for (const Message& message : Drain(backlog)) types.push_back(message.type);
  EXPECT_EQ(types,
            (std::vector<Type>{Type::kAck, Type::kForward, Type::kForwardDone,
                               Type::kSync, Type::kPromote}));
}

TEST(Backlog, KeepsWhatAnswerAndPromotionSay) {
  Backlog backlog;
  Message answer = Of(Type::kAck);
  answer.tag = 77;
  ASSERT_TRUE(backlog.Add(Of(Type::kPromote, 0, 5), 1));
  ASSERT_TRUE(backlog.Add(answer, 1));
  EXPECT_TRUE(backlog.promotes());
  const std::vector<Message> messages = Drain(backlog);
  EXPECT_EQ(messages[0].tag, 77u);
  EXPECT_EQ(messages[1].arg0, 5u);
  EXPECT_FALSE(backlog.promotes());
}

TEST(Backlog, HasNoPlaceForASecondAnswer) {
  Backlog backlog;
  ASSERT_TRUE(backlog.Add(Of(Type::kAck), 1));
  EXPECT_FALSE(backlog.Add(Of(Type::kAck), 1));
  Drain(backlog);
  EXPECT_TRUE(backlog.Add(Of(Type::kAck), 1));
}

TEST(Backlog, TakesNothingThatNoChildIsTold) {
  Backlog backlog;
  EXPECT_FALSE(backlog.Add(Of(Type::kOk), 1));
  EXPECT_TRUE(backlog.empty());
}

TEST(Backlog, ExpiresWhenNothingAtAllIsTaken) {
  Backlog backlog;
  ASSERT_TRUE(backlog.Add(Of(Type::kForward, 40), 1000));
  ASSERT_TRUE(backlog.Add(Of(Type::kForward, 41), 2000));
  // What is added later makes nobody more patient.
  EXPECT_FALSE(backlog.Expired(1000 + kPatienceNs));
  EXPECT_TRUE(backlog.Expired(1001 + kPatienceNs));
  backlog.Taken(backlog.Next(), 5000);
  EXPECT_FALSE(backlog.Expired(5000 + kPatienceNs));
  EXPECT_TRUE(backlog.Expired(5001 + kPatienceNs));
  EXPECT_FALSE(backlog.Expired(4000)) << "looked at the clock before";
  backlog.Taken(backlog.Next(), 6000);
  EXPECT_FALSE(backlog.Expired(~uint64_t{0}));
}

TEST(Backlog, AnHeirExpiresSooner) {
  Backlog backlog;
  ASSERT_TRUE(backlog.Add(Of(Type::kForward, 40), 1000));
  EXPECT_FALSE(backlog.Expired(1001 + kHeirPatienceNs));
  ASSERT_TRUE(backlog.Add(Of(Type::kPromote), 2000));
  EXPECT_FALSE(backlog.Expired(2000 + kHeirPatienceNs));
  EXPECT_TRUE(backlog.Expired(2001 + kHeirPatienceNs));
}

}  // namespace
}  // namespace holdfast::store

#include "statestore/store/outbox.h"

#include <memory>

#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

Outbox::Entry Of(Type type, uint64_t arg0 = 0) {
  Outbox::Entry entry;
  entry.message.type = type;
  entry.message.arg0 = arg0;
  return entry;
}

class OutboxTest : public ::testing::Test {
 protected:
  size_t Fill(Type type, size_t count) {
    size_t pushed = 0;
    for (size_t i = 0; i < count; ++i) pushed += outbox_.Push(Of(type, i));
    return pushed;
  }
  Outbox outbox_;
};

TEST_F(OutboxTest, IsFirstInFirstOutOverTheSeam) {
  uint64_t in = 0, out = 0;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 400; ++i) {
      ASSERT_TRUE(outbox_.Push(Of(Type::kVmmConnected, in++)));
    }
    while (!outbox_.empty()) {
      ASSERT_EQ(outbox_.front().message.arg0, out++);
      outbox_.Pop();
    }
  }
  EXPECT_EQ(in, out);
}

TEST_F(OutboxTest, KeepsOnePlaceForAnAnswer) {
  EXPECT_EQ(Fill(Type::kChildLost, 2 * Outbox::kCapacity),
            Outbox::kCapacity - 1);
  EXPECT_TRUE(outbox_.Push(Of(Type::kOk)));
  EXPECT_FALSE(outbox_.Push(Of(Type::kOk)));
}

TEST_F(OutboxTest, StrangersFillOnlyHalf) {
  EXPECT_EQ(Fill(Type::kVmmWaiting, 2 * Outbox::kCapacity),
            Outbox::kCapacity / 2);
  EXPECT_TRUE(outbox_.Push(Of(Type::kChildLost)));
}

TEST_F(OutboxTest, TellsHowManyWereLostOnce) {
  const size_t kept = Fill(Type::kChildLost, Outbox::kCapacity + 9);
  for (size_t i = 0; i < kept; ++i) outbox_.Pop();
  ASSERT_EQ(outbox_.size(), 1u);
  EXPECT_EQ(outbox_.front().message.type, Type::kEventsLost);
  EXPECT_EQ(outbox_.front().message.arg0, 10u);
  outbox_.Pop();
  EXPECT_TRUE(outbox_.empty());
}

TEST_F(OutboxTest, ForgetsDescriptorsThatWerePopped) {
  Outbox::Entry entry = Of(Type::kDescriptor);
  entry.fds[0] = 5;
  outbox_.Push(entry);
  outbox_.Pop();
  Fill(Type::kOk, Outbox::kCapacity);
  for (size_t i = 0; i < Outbox::kCapacity; ++i, outbox_.Pop()) {
    EXPECT_EQ(outbox_.front().fds[0], kNoHandle);
  }
}

}  // namespace
}  // namespace holdfast::store

#include "devices/vfio_user/ask_journal.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/sending_io.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using Sent = AskJournal::Sent;

class AskJournalTest : public ::testing::Test {
 protected:
  static AskJournal::Ask Read(uint64_t address, uint32_t count) {
    return {Command::kDmaRead, address, count, {}};
  }
  static AskJournal::Ask Write(uint64_t address,
                               absl::Span<const uint8_t> data) {
    return {Command::kDmaWrite, address, 0, data};
  }
  absl::StatusOr<Sent> Send(const AskJournal::Ask& ask) {
    return journal_.Send(io_, ask, &slot_);
  }
  static Answer AnswerTo(uint16_t id, Command command,
                         absl::Span<const uint8_t> data = {},
                         uint32_t error = 0) {
    return {id, command, error, data};
  }
  MessageHeader HeaderAt(size_t at) const {
    MessageHeader header{};
    std::memcpy(&header, io_.stream.data() + at, sizeof(header));
    return header;
  }

  std::unique_ptr<AskMemory> memory_ = std::make_unique<AskMemory>();
  AskJournal journal_{*memory_};
  SendingIo io_;
  size_t slot_ = 99;
};

TEST_F(AskJournalTest, AReadIsAnsweredOnce) {
  EXPECT_THAT(Send(Read(0x1000, 4)), IsOkAndHolds(Sent::kWhole));
  EXPECT_EQ(slot_, 0u);
  EXPECT_EQ(journal_.waiting(), 1u);
  EXPECT_FALSE(journal_.unfinished());
  ASSERT_EQ(io_.stream.size(), 32u);
  EXPECT_EQ(HeaderAt(0).command, 11);
  EXPECT_EQ(HeaderAt(0).size, 32u);
  EXPECT_EQ(HeaderAt(0).flags, 0u);
  const uint8_t data[4] = {1, 2, 3, 4};
  const Answer answer = AnswerTo(HeaderAt(0).id, Command::kDmaRead, data);
  const auto taken = journal_.Take(answer);
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->error, 0u);
  EXPECT_EQ(taken->data.size(), 4u);
  EXPECT_FALSE(journal_.Take(answer).has_value());
  EXPECT_EQ(journal_.waiting(), 0u);
}

TEST_F(AskJournalTest, AWriteBringsItsData) {
  const std::vector<uint8_t> data(kMaxAskBytes, 7);
  EXPECT_THAT(Send(Write(0x1000, data)), IsOkAndHolds(Sent::kWhole));
  EXPECT_EQ(io_.stream.size(), 32 + data.size());
  EXPECT_EQ(HeaderAt(0).command, 12);
  EXPECT_EQ(io_.stream.back(), 7);
  EXPECT_TRUE(journal_.Take(AnswerTo(0, Command::kDmaWrite)).has_value());
}

TEST_F(AskJournalTest, AnswersMayComeInAnyOrder) {
  for (int i = 0; i < 3; ++i) ASSERT_OK(Send(Read(0x1000, 1)));
  const uint8_t byte = 0;
  for (const uint16_t id : {2, 0, 1}) {
    const auto taken =
        journal_.Take(AnswerTo(id, Command::kDmaRead, {&byte, 1}));
    ASSERT_TRUE(taken.has_value());
    EXPECT_EQ(taken->slot, id);
  }
}

TEST_F(AskJournalTest, WhatDoesNotFitTheRequestIsNoAnswer) {
  ASSERT_OK(Send(Read(0x1000, 4)));
  const uint8_t data[5] = {};
  for (const Answer& answer :
       {AnswerTo(1, Command::kDmaRead, {data, 4}),
        AnswerTo(0, Command::kDmaWrite), AnswerTo(0, Command::kVersion),
        AnswerTo(0, Command{0}), AnswerTo(0xffff, Command{0xffff})}) {
    EXPECT_FALSE(journal_.Take(answer).has_value());
  }
  EXPECT_EQ(journal_.waiting(), 1u);
}

TEST_F(AskJournalTest, AnAnswerOfAnotherSizeIsAnError) {
  const uint8_t data[5] = {};
  for (const size_t size : {0, 3, 5}) {
    ASSERT_OK(Send(Read(0x1000, 4)));
    const auto id = static_cast<uint16_t>(memory_->next_id - 1);
    const auto taken =
        journal_.Take(AnswerTo(id, Command::kDmaRead, {data, size}));
    ASSERT_TRUE(taken.has_value());
    EXPECT_EQ(taken->error, static_cast<uint32_t>(EIO));
    EXPECT_TRUE(taken->data.empty());
  }
  ASSERT_OK(Send(Read(0x1000, 4)));
  const auto refused =
      journal_.Take(AnswerTo(3, Command::kDmaRead, {data, 4}, EPERM));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->error, static_cast<uint32_t>(EPERM));
  EXPECT_TRUE(refused->data.empty());
}

TEST_F(AskJournalTest, FewWaitAtATimeAndNoneIsTooLarge) {
  EXPECT_THAT(Send(Read(0, 0)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Send(Read(0, kMaxAskBytes + 1)),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Send(Write(0, std::vector<uint8_t>(kMaxAskBytes + 1))),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  for (size_t i = 0; i < kMaxAsks; ++i) ASSERT_OK(Send(Read(0, 8)));
  EXPECT_THAT(Send(Read(0, 8)),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(journal_.waiting(), kMaxAsks);
  journal_.Clear();
  EXPECT_EQ(journal_.waiting(), 0u);
  EXPECT_OK(Send(Read(0, 8)));
}

// A client that keeps an answer back for long.
TEST_F(AskJournalTest, AnIdThatIsWaitedForIsNotUsedAgain) {
  ASSERT_OK(Send(Read(0, 1)));
  const uint8_t byte = 0;
  for (uint32_t i = 1; i < 0x20001; ++i) {
    io_.stream.clear();
    io_.room = 64;
    ASSERT_OK(Send(Read(0, 1)));
    ASSERT_NE(HeaderAt(0).id, 0);
    ASSERT_TRUE(
        journal_.Take(AnswerTo(HeaderAt(0).id, Command::kDmaRead, {&byte, 1}))
            .has_value());
  }
  EXPECT_EQ(journal_.Take(AnswerTo(0, Command::kDmaRead, {&byte, 1}))->slot,
            0u);
}

TEST_F(AskJournalTest, WithoutRoomNothingWasAsked) {
  io_.room = 0;
  EXPECT_THAT(Send(Read(0, 1)), IsOkAndHolds(Sent::kNothing));
  EXPECT_EQ(journal_.waiting(), 0u);
  EXPECT_FALSE(journal_.unfinished());
}

TEST_F(AskJournalTest, APartIsFinishedAlsoByASuccessor) {
  const std::vector<uint8_t> data(100, 5);
  std::vector<uint8_t> whole;
  // In more pieces than a set has entries.
  for (size_t piece = 1; piece < 40; ++piece) {
    io_.stream.clear();
    io_.room = piece;
    ASSERT_THAT(Send(Write(0x2000, data)), IsOkAndHolds(Sent::kPart));
    const uint64_t id = memory_->next_id - 1;
    // What is not there yet cannot have been answered.
    EXPECT_FALSE(
        journal_.Take(AnswerTo(static_cast<uint16_t>(id), Command::kDmaWrite))
            .has_value());
    for (;;) {
      AskJournal successor(*memory_);
      ASSERT_OK(successor.Resume());
      ASSERT_TRUE(successor.unfinished());
      io_.room = piece;
      const auto sent = successor.Finish(io_);
      ASSERT_OK(sent);
      if (*sent == Sent::kWhole) break;
      ASSERT_EQ(*sent, Sent::kPart);
    }
    ASSERT_EQ(io_.stream.size(), 132u);
    EXPECT_EQ(journal_.waiting(), 1u);
    EXPECT_TRUE(
        journal_.Take(AnswerTo(static_cast<uint16_t>(id), Command::kDmaWrite))
            .has_value());
  }
}

TEST_F(AskJournalTest, AClosedSocketIsReported) {
  io_.closed = true;
  EXPECT_THAT(Send(Read(0, 1)), IsOkAndHolds(Sent::kClosed));
  journal_.Clear();
  EXPECT_FALSE(journal_.unfinished());
}

TEST_F(AskJournalTest, ASuccessorKnowsWhatIsWaitedFor) {
  ASSERT_OK(Send(Read(0, 1)));
  AskJournal successor(*memory_);
  ASSERT_OK(successor.Resume());
  EXPECT_EQ(successor.waiting(), 1u);
}

TEST_F(AskJournalTest, DamageIsFound) {
  const auto damaged = [](void (*apply)(AskMemory&)) {
    auto memory = std::make_unique<AskMemory>();
    apply(*memory);
    return AskJournal(*memory).Resume();
  };
  EXPECT_OK(damaged([](AskMemory&) {}));
  EXPECT_THAT(damaged([](AskMemory& m) {
                m.asks[3] = {0, 1, 9 << 16};
              }),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(damaged([](AskMemory& m) {
                m.asks[3] = {0, 0, 11 << 16};
              }),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(damaged([](AskMemory& m) {
                m.asks[3] = {0, kMaxAskBytes + 1, 11 << 16};
              }),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(damaged([](AskMemory& m) { m.sending = 0xffffff; }),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(damaged([](AskMemory& m) { m.sending = 32 | uint64_t{9} << 48; }),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(damaged([](AskMemory& m) { m.sending = 32 | uint64_t{2} << 56; }),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(damaged([](AskMemory& m) {
                m.sending = 32;
                m.tx[0].entries[0].length = 33;
              }),
              StatusIs(absl::StatusCode::kDataLoss, _));
}

}  // namespace
}  // namespace holdfast::vfio_user

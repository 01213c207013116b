#include "statestore/lane_journal.h"

#include <cstring>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::_;

TEST(LaneWord, SurvivesPackingAndIsNeverZero) {
  EXPECT_NE(PackLaneWord(LaneWord{}), 0u);
  LaneWord word;
  word.replying = true;
  word.bank = 1;
  word.tx = 1;
  word.folded = kLaneMaxBytes;
  word.epoch = 0xfedcba98;
  const LaneWord same = UnpackLaneWord(PackLaneWord(word));
  EXPECT_TRUE(same.replying);
  EXPECT_EQ(same.bank, 1u);
  EXPECT_EQ(same.rx, 0u);
  EXPECT_EQ(same.tx, 1u);
  EXPECT_EQ(same.folded, kLaneMaxBytes);
  EXPECT_EQ(same.epoch, 0xfedcba98);
}

TEST(LaneLayout, PartsAreAlignedAndDoNotOverlap) {
  constexpr LaneLayout kAt = LayOutLane(100, 1000, 5000);
  static_assert(kAt.bank[0] == 1536 && kAt.bank[1] == 1664);
  static_assert(kAt.message == 1792 && kAt.reply == 2816);
  static_assert(kAt.total == 8192);
  EXPECT_EQ(LayOutLane(0, 1, 0).total, 4096u);
}

TEST(LaneTally, AddsWhatWasFoldedAndWhatTheKernelWrote) {
  LaneRxSet set{};
  ArmRx(set);
  auto tally = TallyEntries(set.entries, 10, 1000);
  ASSERT_OK(tally);
  EXPECT_EQ(tally->bytes, 10u);
  EXPECT_EQ(tally->next, 0u);
  set.entries[0].length = 5;
  set.entries[1].length = 7;
  tally = TallyEntries(set.entries, 10, 1000);
  ASSERT_OK(tally);
  EXPECT_EQ(tally->bytes, 22u);
  EXPECT_EQ(tally->next, 2u);
  EXPECT_FALSE(tally->ended);
  set.entries[2].length = 0;
  set.entries[3].length = 1;
  tally = TallyEntries(set.entries, 10, 1000);
  ASSERT_OK(tally);
  EXPECT_TRUE(tally->ended);
  EXPECT_EQ(tally->next, kLaneEntries);
}

TEST(LaneTally, RefusesWhatNoKernelWrote) {
  LaneRxSet set{};
  ArmRx(set);
  set.entries[1].length = 5;
  EXPECT_THAT(TallyEntries(set.entries, 0, 1000),
              StatusIs(absl::StatusCode::kDataLoss, _));
  set.entries[0].length = 0xfffffffe;
  set.entries[1].length = kLaneArmed;
  EXPECT_THAT(TallyEntries(set.entries, 0, 1000),
              StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST(LaneReception, CountsExecutedBytesFirst) {
  LaneRxSet set{};
  ArmRx(set);
  set.entries[0].length = 30;
  auto at = TallyReception(set, 0, /*unread=*/40, 1000);
  ASSERT_OK(at);
  EXPECT_EQ(at->unread, 10u);
  EXPECT_EQ(at->have, 0u);
  set.entries[1].length = 25;
  at = TallyReception(set, 5, /*unread=*/40, 1000);
  ASSERT_OK(at);
  EXPECT_EQ(at->consumed, 60u);
  EXPECT_EQ(at->unread, 0u);
  EXPECT_EQ(at->have, 20u);
  EXPECT_EQ(at->next, 2u);
  EXPECT_THAT(TallyReception(set, 5, /*unread=*/40, 19),
              StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST(LaneSum, DependsOnEveryByteInBothWaysAndCopies) {
  LaneRecord record{};
  record.sequence = 5;
  uint8_t bank[45];
  for (size_t i = 0; i < sizeof(bank); ++i) bank[i] = i * 11;
  uint32_t sums[2];
  for (const uint32_t flags : {0u, kLaneStriped}) {
    record.flags = flags;
    const uint32_t sum = LaneSum(record, bank);
    sums[flags != 0] = sum;
    uint8_t copy[sizeof(bank)] = {};
    EXPECT_EQ(LaneSumAndCopy(record, bank, copy), sum);
    EXPECT_EQ(std::memcmp(copy, bank, sizeof(bank)), 0);
    for (uint8_t& byte : bank) {
      byte ^= 1;
      EXPECT_NE(LaneSum(record, bank), sum);
      byte ^= 1;
    }
    record.flags |= PackUnread(24);
    EXPECT_EQ(UnreadOf(record), 24u);
    EXPECT_NE(LaneSum(record, bank), sum);
  }
  EXPECT_NE(sums[0], sums[1]);
}

TEST(LaneRx, FoldKeepsWhatIsKnownOfTheMessage) {
  LaneRxSet from{};
  ArmRx(from);
  from.entries[0].length = 3;
  from.attempts = 2;
  from.admitted = 40;
  from.fd_count = 1;
  StoreWitness(from, {40, 8});
  LaneRxSet to{};
  ArmRxToContinue(to, from);
  EXPECT_EQ(to.entries[0].length, kLaneArmed);
  EXPECT_EQ(to.attempts, 2u);
  EXPECT_EQ(to.admitted, 40u);
  EXPECT_EQ(to.fd_count, 1u);
  EXPECT_EQ(LoadWitness(to).before, 8u);
  ArmRx(to);
  EXPECT_EQ(to.attempts, 0u);
  EXPECT_EQ(to.admitted, 0u);
  EXPECT_EQ(LoadWitness(to).peeked, 0u);
}

TEST(LaneWitness, TellsWhatWasConsumedFromThePeekOffset) {
  EXPECT_THAT(ConsumedByWitness({24, 0}, 24), IsOkAndHolds(0u));
  EXPECT_THAT(ConsumedByWitness({24, 0}, 0), IsOkAndHolds(24u));
  EXPECT_THAT(ConsumedByWitness({24, 100}, 20), IsOkAndHolds(104u));
}

TEST(LaneWitness, RefusesAForeignSocket) {
  EXPECT_THAT(ConsumedByWitness({24, 0}, -1),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(ConsumedByWitness({24, 0}, 25),
              StatusIs(absl::StatusCode::kDataLoss, _));
}

}  // namespace
}  // namespace holdfast

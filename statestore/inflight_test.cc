#include "statestore/inflight.h"

#include <array>
#include <cstring>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint16_t kNum = 8;

struct Region {
  alignas(64) std::array<uint8_t, InflightRegionSize(kNum)> bytes = {};

  absl::Span<uint8_t> span() { return absl::MakeSpan(bytes); }
  InflightTable Table() { return *InflightTable::Attach(span(), kNum); }
  InflightHeader& header() {
    return *reinterpret_cast<InflightHeader*>(bytes.data());
  }
  InflightEntry& entry(int i) {
    return reinterpret_cast<InflightEntry*>(bytes.data() + 16)[i];
  }
};

std::vector<uint16_t> RecoverHeads(Region& region, uint16_t used_idx) {
  std::array<InflightRequest, kNum> out;
  InflightTable table = region.Table();
  const absl::StatusOr<size_t> count =
      table.Recover(used_idx, absl::MakeSpan(out));
  std::vector<uint16_t> heads;
  for (size_t i = 0; count.ok() && i < *count; ++i)
    heads.push_back(out[i].head);
  return heads;
}

absl::Status RecoverStatus(Region& region, uint16_t used_idx) {
  std::array<InflightRequest, kNum> out;
  InflightTable table = region.Table();
  return table.Recover(used_idx, absl::MakeSpan(out)).status();
}

TEST(InflightRegion, SizesAreThoseOfOtherBackEnds) {
  EXPECT_EQ(InflightRegionSize(128), 2112u);
  EXPECT_EQ(InflightRegionSize(256), 4160u);
  EXPECT_EQ(InflightRegionSize(1024), 16448u);
}

TEST(InflightRegion, BytesLieWhereVhostUserPutsThem) {
  Region region;
  InflightTable table = region.Table();
  table.Reset(/*used_idx=*/0x1234, /*avail_offset=*/0);
  table.Fetch(2);
  table.RecordBatchEntry(2);
  const uint8_t* b = region.bytes.data();
  EXPECT_EQ(b[8], 1);      // version
  EXPECT_EQ(b[10], 8);     // desc_num
  EXPECT_EQ(b[12], 2);     // last_batch_head
  EXPECT_EQ(b[14], 0x34);  // used_idx
  EXPECT_EQ(b[15], 0x12);
  EXPECT_EQ(b[16 + 2 * 16], 1);      // inflight
  EXPECT_EQ(b[16 + 2 * 16 + 8], 1);  // counter
}

TEST(InflightAttach, RefusesWhatCannotHoldTheTable) {
  Region region;
  EXPECT_FALSE(InflightTable::Attach(region.span(), 0).ok());
  EXPECT_FALSE(InflightTable::Attach(region.span(), 6).ok());
  EXPECT_FALSE(InflightTable::Attach(region.span(), 16).ok());
  EXPECT_FALSE(InflightTable::Attach(region.span(), 0x8001).ok());
  EXPECT_FALSE(InflightTable::Attach(region.span().subspan(1), 4).ok());
  EXPECT_TRUE(InflightTable::Attach(region.span(), kNum).ok());
}

TEST(InflightAttach, LeavesRoomForTheTailWithEveryRingSize) {
  for (uint32_t num = 1; num <= kMaxInflightEntries; num *= 2) {
    EXPECT_GE(InflightRegionSize(num), 16 + 16 * num + 2) << num;
  }
}

TEST(InflightReset, KeepsIndexAndOffsetAndForgetsRequests) {
  Region region;
  InflightTable table = region.Table();
  EXPECT_FALSE(table.InUse());
  table.Reset(0, 0);
  table.Fetch(3);
  table.Reset(/*used_idx=*/77, /*avail_offset=*/5);
  EXPECT_TRUE(table.InUse());
  EXPECT_EQ(region.Table().avail_offset(), 5);
  EXPECT_THAT(RecoverHeads(region, 77), IsEmpty());
}

TEST(InflightForget, MakesTheNextStartAFreshOne) {
  Region region;
  InflightTable table = region.Table();
  table.Reset(0, 0);
  table.Fetch(3);
  table.Forget();
  EXPECT_FALSE(region.Table().InUse());
  table.Reset(0, 0);
  EXPECT_THAT(RecoverHeads(region, 0), IsEmpty());
}

TEST(InflightRecover, ResubmitsInFetchOrder) {
  Region region;
  InflightTable table = region.Table();
  table.Reset(0, 0);
  for (uint16_t head : {5, 0, 7, 2}) table.Fetch(head);
  table.RecordBatchEntry(7);
  table.Clear(7);
  table.FinishBatch(1);
  EXPECT_THAT(RecoverHeads(region, 1), ElementsAre(5, 0, 2));
}

TEST(InflightRecover, CountsOnWhereTheDeadProcessStopped) {
  Region region;
  InflightTable first = region.Table();
  first.Reset(0, 0);
  first.Fetch(5);
  first.Fetch(4);
  InflightTable second = region.Table();
  std::array<InflightRequest, kNum> out;
  ASSERT_THAT(second.Recover(0, absl::MakeSpan(out)), IsOkAndHolds(2));
  second.Fetch(0);
  EXPECT_THAT(RecoverHeads(region, 0), ElementsAre(5, 4, 0));
}

TEST(InflightRecover, GivesNoNumberTwiceEvenIfAllIsAnswered) {
  Region region;
  InflightTable first = region.Table();
  first.Reset(0, 0);
  first.Fetch(5);
  first.Fetch(6);
  const uint64_t last = first.counter(6);
  first.RecordBatchEntry(5);
  first.RecordBatchEntry(6);
  first.Clear(5);
  first.Clear(6);
  first.FinishBatch(2);
  InflightTable second = region.Table();
  std::array<InflightRequest, kNum> out;
  ASSERT_THAT(second.Recover(2, absl::MakeSpan(out)), IsOkAndHolds(0));
  second.Fetch(1);
  EXPECT_GT(second.counter(1), last);
}

TEST(InflightRecover, ResolvesAPublishedBatchByItsLength) {
  Region region;
  InflightTable table = region.Table();
  table.Reset(/*used_idx=*/65535, 0);
  for (uint16_t head : {1, 2, 3}) table.Fetch(head);
  table.RecordBatchEntry(2);
  table.RecordBatchEntry(1);
  // Nothing published: all three again.
  EXPECT_THAT(RecoverHeads(region, 65535), ElementsAre(1, 2, 3));
  // Published by a store of used->idx (it wraps), not cleared: one is left.
  EXPECT_THAT(RecoverHeads(region, 1), ElementsAre(3));
  EXPECT_THAT(RecoverHeads(region, 1), ElementsAre(3));
  EXPECT_EQ(region.header().used_idx, 1);
}

// A back-end that starts a fresh region at 0 although the ring has a history
// loses the request of entry 0 at the first restart.
TEST(InflightRecover, RegionStartedWithTheRingsIndexLosesNothing) {
  Region good;
  InflightTable table = good.Table();
  table.Reset(/*used_idx=*/3, 0);
  table.Fetch(0);
  EXPECT_THAT(RecoverHeads(good, 3), ElementsAre(0));

  Region bad;
  table = bad.Table();
  table.Reset(/*used_idx=*/0, 0);
  table.Fetch(0);
  EXPECT_THAT(RecoverHeads(bad, 3), IsEmpty());
}

TEST(InflightRecover, RefusesARegionOfAnotherQueue) {
  Region region;
  EXPECT_THAT(
      RecoverStatus(region, 0),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not in use")));
  region.Table().Reset(0, 0);
  region.header().desc_num = 4;
  EXPECT_THAT(
      RecoverStatus(region, 0),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("this size")));
}

TEST(InflightRecover, RefusesAnIndexFurtherThanTheRing) {
  Region region;
  region.Table().Reset(0, 0);
  EXPECT_OK(RecoverStatus(region, 0));
  EXPECT_THAT(RecoverStatus(region, kNum + 1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("astray")));
}

TEST(InflightRecover, RefusesABatchThatLeavesTheTable) {
  Region region;
  region.Table().Reset(0, 0);
  region.header().last_batch_head = kNum;
  EXPECT_THAT(RecoverStatus(region, 1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("leaves")));
  region.header().last_batch_head = 0;
  region.entry(0).next = 0xffff;
  EXPECT_THAT(RecoverStatus(region, 2),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("leaves")));
}

TEST(InflightRecover, SurvivesABatchThatLoops) {
  Region region;
  region.Table().Reset(0, 0);
  region.header().last_batch_head = 1;
  region.entry(1).next = 1;
  EXPECT_OK(RecoverStatus(region, kNum));
}

TEST(InflightBlame, CountsDeathsOfStartedRequestsOnce) {
  Region region;
  InflightTable table = region.Table();
  table.Reset(0, 0);
  table.Fetch(1);
  table.Fetch(2);
  table.MarkStarted(2);
  std::array<InflightRequest, kNum> out;
  for (int restart = 0; restart < 2; ++restart) {
    ASSERT_THAT(region.Table().Recover(0, absl::MakeSpan(out)),
                IsOkAndHolds(2));
    EXPECT_EQ(out[0].deaths, 0);
    EXPECT_EQ(out[1].deaths, 1);
  }
  region.Table().MarkStarted(2);
  ASSERT_THAT(region.Table().Recover(0, absl::MakeSpan(out)), IsOkAndHolds(2));
  EXPECT_EQ(out[1].deaths, 2);
}

TEST(InflightBlame, ANewRequestOfTheSameHeadIsInnocent) {
  Region region;
  InflightTable table = region.Table();
  table.Reset(0, 0);
  table.Fetch(2);
  table.MarkStarted(2);
  std::array<InflightRequest, kNum> out;
  ASSERT_THAT(table.Recover(0, absl::MakeSpan(out)), IsOkAndHolds(1));
  table.RecordBatchEntry(2);
  table.Clear(2);
  table.FinishBatch(1);
  table.Fetch(2);
  ASSERT_THAT(table.Recover(1, absl::MakeSpan(out)), IsOkAndHolds(1));
  EXPECT_EQ(out[0].deaths, 0);
}

}  // namespace
}  // namespace holdfast

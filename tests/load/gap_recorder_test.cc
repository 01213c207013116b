#include "tests/load/gap_recorder.h"

#include "gtest/gtest.h"

namespace holdfast::load {
namespace {

TEST(GapRecorder, ListsOnlyGapsOfTheThresholdOrMore) {
  GapRecorder recorder(/*threshold=*/0.5, /*now=*/10);
  recorder.Completed(10, 10.25);
  recorder.Completed(10, 10.75);
  recorder.Completed(10, 11);
  recorder.Completed(10, 13);
  ASSERT_EQ(recorder.gaps().size(), 2u);
  EXPECT_EQ(recorder.gaps()[0].start, 10.25);
  EXPECT_EQ(recorder.gaps()[0].length, 0.5);
  EXPECT_EQ(recorder.gaps()[1].start, 11);
  EXPECT_EQ(recorder.gaps()[1].length, 2);
  EXPECT_EQ(recorder.longest_gap(), 2);
  EXPECT_EQ(recorder.last(), 13);
}

TEST(GapRecorder, TheLongestGapIsKnownBelowTheThresholdToo) {
  GapRecorder recorder(1, 0);
  recorder.Completed(0, 0.25);
  recorder.Completed(0.25, 0.375);
  EXPECT_EQ(recorder.longest_gap(), 0.25);
  EXPECT_TRUE(recorder.gaps().empty());
}

TEST(GapRecorder, ARequestMayTakeLongerThanAnyGap) {
  GapRecorder recorder(1, 0);
  recorder.Completed(0, 0.5);
  recorder.Completed(0.5, 1);
  recorder.Completed(0, 1.25);
  EXPECT_EQ(recorder.longest_gap(), 0.5);
  EXPECT_EQ(recorder.longest_request(), 1.25);
}

TEST(GapRecorder, TheShorterHalfIsForgottenWhenThereAreTooMany) {
  GapRecorder recorder(0.5, 0);
  double now = 0;
  for (size_t i = 0; i < GapRecorder::kMaxGaps; ++i) {
    now += i % 4 == 0 ? 2 : 1;
    recorder.Completed(now, now);
  }
  EXPECT_EQ(recorder.threshold(), 1);
  ASSERT_EQ(recorder.gaps().size(), GapRecorder::kMaxGaps / 4);
  EXPECT_EQ(recorder.gaps().front().start, 0);
  EXPECT_EQ(recorder.gaps().front().length, 2);
  recorder.Completed(now, now + 0.75);  // Listed before, too short by now.
  EXPECT_EQ(recorder.gaps().size(), GapRecorder::kMaxGaps / 4);
}

// Equal lengths leave no longer half: all go, and the memory stays bounded.
TEST(GapRecorder, EqualGapsAreForgottenTogether) {
  GapRecorder recorder(0.5, 0);
  for (size_t i = 1; i <= 2 * GapRecorder::kMaxGaps; ++i) {
    recorder.Completed(0, i);
    ASSERT_LT(recorder.gaps().size(), GapRecorder::kMaxGaps);
  }
}

}  // namespace
}  // namespace holdfast::load

#include "bench/gaps.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::bench {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A trip a second; the fourth takes five.
const std::vector<Trip> kTrips = {{0, 1}, {1, 2},  {2, 3},  {3, 8},
                                  {8, 9}, {9, 10}, {10, 11}};

TEST(Hits, TheTripThatIsUnderWay) {
  const std::vector<Hit> hits = Hits(kTrips, {4.5}, 0.25);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_DOUBLE_EQ(hits[0].gap, 3.5);
  EXPECT_DOUBLE_EQ(hits[0].took, 5);
}

TEST(Hits, TheLongestThatBeginsSoonAfter) {
  // What was under way ended well; the next one did not.
  const std::vector<Hit> hits = Hits(kTrips, {2.9}, 0.25);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_DOUBLE_EQ(hits[0].gap, 5.1);
  EXPECT_DOUBLE_EQ(hits[0].took, 5);
}

TEST(Hits, NoneThatBeginsLater) {
  const std::vector<Hit> hits = Hits(kTrips, {2.5}, 0.25);
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_DOUBLE_EQ(hits[0].gap, 0.5);
  EXPECT_DOUBLE_EQ(hits[0].took, 1);
}

TEST(Hits, NothingAfterTheLastTrip) {
  EXPECT_THAT(Hits(kTrips, {11, 12}, 1), IsEmpty());
  EXPECT_THAT(Hits({}, {1}, 1), IsEmpty());
}

TEST(Takeovers, TheFirstAnswerOfEachSuccessor) {
  const std::vector<Trip> firsts = {{1, 2}, {3, 8}, {10, 11}};
  const std::vector<Hit> hits = Takeovers(firsts, {2.5, 9.5});
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_DOUBLE_EQ(hits[0].gap, 5.5);
  EXPECT_DOUBLE_EQ(hits[0].took, 5);
  EXPECT_DOUBLE_EQ(hits[1].gap, 1.5);
}

TEST(Takeovers, AnInstantWithoutASuccessorIsLeftOut) {
  const std::vector<Trip> firsts = {{3, 8}};
  const std::vector<Hit> hits = Takeovers(firsts, {1, 2.5, 9});
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_DOUBLE_EQ(hits[0].gap, 5.5);
  EXPECT_THAT(Takeovers({}, {1}), IsEmpty());
}

TEST(Untouched, LeavesOutWhatAnInstantTouches) {
  EXPECT_THAT(Untouched(kTrips, {}, 1),
              ElementsAre(1, 1, 1, 1, 1, 1, DoubleEq(5)));
  // The fourth is hit, the fifth and the sixth begin too soon after it.
  EXPECT_THAT(Untouched(kTrips, {7.5}, 2), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(Untouched(kTrips, {0.5, 7.5}, 1.25), ElementsAre(1, 1, 1));
}

TEST(Json, OfHitsAndOfTimes) {
  EXPECT_EQ(ToJson({{0.5, 0.75}, {1, 2}}), "[[0.5,0.75],[1,2]]");
  EXPECT_EQ(ToJson({}), "[]");
  EXPECT_EQ(MedianAndLongest({1, 2, 4}), "[2,4]");
  EXPECT_EQ(MedianAndLongest({}), "[0,0]");
}

}  // namespace
}  // namespace holdfast::bench

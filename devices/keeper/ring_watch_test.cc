#include "devices/keeper/ring_watch.h"

#include <chrono>
#include <cstdint>

#include "devices/vhost_user/session_state.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using std::chrono::milliseconds;

class RingWatchTest : public ::testing::Test {
 protected:
  bool Stuck(int at_ms, uint16_t available, uint16_t used, uint16_t queue = 0) {
    return watch_.IsStuck(queue, available, used,
                          RingWatch::Time(milliseconds(at_ms)));
  }
  RingWatch watch_{milliseconds(1000)};
};

TEST_F(RingWatchTest, RequestsWithoutProgressForTheLimit) {
  EXPECT_FALSE(Stuck(0, 7, 5));
  EXPECT_FALSE(Stuck(999, 9, 5)) << "more of them do not make it young";
  EXPECT_TRUE(Stuck(1000, 9, 5));
  EXPECT_TRUE(Stuck(1250, 9, 5));
  EXPECT_EQ(watch_.period(), milliseconds(250));
}

TEST_F(RingWatchTest, EachAnswerBeginsTheTimeAnew) {
  EXPECT_FALSE(Stuck(0, 7, 5));
  EXPECT_FALSE(Stuck(900, 7, 6));
  EXPECT_FALSE(Stuck(1899, 7, 6));
  EXPECT_TRUE(Stuck(1900, 7, 6));
}

TEST_F(RingWatchTest, NothingToDoIsNoHang) {
  EXPECT_FALSE(Stuck(0, 5, 5));
  EXPECT_FALSE(Stuck(5000, 5, 5));
  EXPECT_FALSE(Stuck(9000, 6, 5)) << "from the first look on, not before";
  EXPECT_FALSE(Stuck(9999, 6, 5));
  EXPECT_TRUE(Stuck(10000, 6, 5));
  EXPECT_FALSE(Stuck(10001, 6, 6));
}

TEST_F(RingWatchTest, AWrapIsProgress) {
  EXPECT_FALSE(Stuck(0, 2, 65535));
  EXPECT_FALSE(Stuck(1000, 2, 0));
  EXPECT_TRUE(Stuck(2000, 2, 0));
}

TEST_F(RingWatchTest, EachRingIsForItself) {
  EXPECT_FALSE(Stuck(0, 1, 0, 0));
  EXPECT_FALSE(Stuck(500, 1, 0, 1));
  EXPECT_TRUE(Stuck(1000, 1, 0, 0));
  EXPECT_FALSE(Stuck(1000, 1, 0, 1));
  EXPECT_FALSE(Stuck(1000, 1, 0, vhost_user::kMaxQueues - 1));
}

TEST_F(RingWatchTest, AnotherProcessHasTheWholeTime) {
  EXPECT_FALSE(Stuck(0, 1, 0));
  watch_.Forget();
  EXPECT_FALSE(Stuck(1000, 1, 0));
  EXPECT_TRUE(Stuck(2000, 1, 0));
}

TEST(RingWatch, WithoutALimitNothingIsStuck) {
  RingWatch watch(milliseconds(0));
  EXPECT_FALSE(watch.watches());
  EXPECT_FALSE(watch.IsStuck(0, 1, 0, RingWatch::Time()));
  EXPECT_FALSE(
      watch.IsStuck(0, 1, 0, RingWatch::Time(std::chrono::hours(1000))));
}

}  // namespace
}  // namespace holdfast::keeper

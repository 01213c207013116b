#include "base/log_limiter.h"

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

using Time = LogLimiter::Clock::time_point;

const Time kStart = Time() + hours(100);

// How many of `tries` lines at `now` are admitted.
int Admitted(LogLimiter& limiter, int tries, Time now) {
  int admitted = 0;
  for (int i = 0; i < tries; ++i) admitted += limiter.Admit(now).has_value();
  return admitted;
}

TEST(LogLimiter, LetsABurstThroughAndThenNothing) {
  LogLimiter limiter;
  EXPECT_EQ(Admitted(limiter, 10'000, kStart), LogLimiter::kBurst);
}

TEST(LogLimiter, LetsOneThroughInEachIntervalAndSaysHowManyWereLeftOut) {
  LogLimiter limiter;
  Admitted(limiter, LogLimiter::kBurst, kStart);
  for (int i = 1; i <= 5; ++i) {
    const Time now = kStart + i * LogLimiter::kInterval;
    EXPECT_EQ(Admitted(limiter, 7, now - seconds(1)), 0);
    EXPECT_THAT(limiter.Admit(now), Optional(7u));
  }
}

TEST(LogLimiter, WhatWasToldIsNotToldAgain) {
  LogLimiter limiter;
  Admitted(limiter, LogLimiter::kBurst + 3, kStart);
  const Time later = kStart + 2 * LogLimiter::kInterval;
  EXPECT_THAT(limiter.Admit(later), Optional(3u));
  EXPECT_THAT(limiter.Admit(later), Optional(0u));
}

// A day of flooding.
TEST(LogLimiter, BoundsADay) {
  LogLimiter limiter;
  int admitted = 0;
  for (seconds t(0); t < hours(24); t += seconds(1)) {
    admitted += Admitted(limiter, 100, kStart + t);
  }
  EXPECT_LE(admitted, 9'000);
  EXPECT_GT(admitted, 8'000);
}

// What happens now and then is told each time, for ever.
TEST(LogLimiter, LeavesNothingOutOfWhatIsRare) {
  LogLimiter limiter;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_THAT(limiter.Admit(kStart + i * LogLimiter::kInterval),
                Optional(0u));
  }
}

TEST(LogLimiter, EarnsABurstAgainAndNoMore) {
  LogLimiter limiter;
  Admitted(limiter, 1000, kStart);
  EXPECT_EQ(Admitted(limiter, 1000, kStart + hours(48)), LogLimiter::kBurst);
}

TEST(LogLimiter, WritesLinesOfTheLog) {
  LogLimiter limiter;
  ::testing::internal::CaptureStderr();
  limiter.Warning("peer ", 1);
  limiter.Error("peer ", 2);
  for (int i = 0; i < 1000; ++i) limiter.Warning("flood");
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("W holdfast: peer 1\nE holdfast: peer 2\n"));
  // Two were the others.
  EXPECT_LT(text.size(), 2'000u);
  EXPECT_THAT(text, EndsWith("flood\n"));
  EXPECT_THAT(text, Not(HasSubstr("left out")));
  EXPECT_EQ(LogLimiter::LeftOutText(0), "");
  EXPECT_EQ(LogLimiter::LeftOutText(7),
            " (lines like this one left out before it: 7)");
}

TEST(LogLimiter, CountsOverThreads) {
  LogLimiter limiter;
  std::vector<int> admitted(4);
  std::vector<std::thread> threads;
  for (int& count : admitted) {
    threads.emplace_back([&] { count = Admitted(limiter, 1000, kStart); });
  }
  for (std::thread& thread : threads) thread.join();
  int sum = 0;
  for (int count : admitted) sum += count;
  EXPECT_EQ(sum, LogLimiter::kBurst);
  EXPECT_THAT(limiter.Admit(kStart + LogLimiter::kInterval),
              Optional(4000 - LogLimiter::kBurst));
}

}  // namespace
}  // namespace holdfast

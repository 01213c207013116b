#include "launcher/restart_policy.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::Each;
using ::testing::Ge;
using ::testing::Le;

RestartLimits Limits(uint32_t budget) {
  RestartLimits limits;
  limits.budget = budget;
  return limits;
}

// The delays of `count` losses one millisecond apart.
std::vector<absl::Duration> DelaysOfBurst(RestartPolicy policy, int count) {
  std::vector<absl::Duration> delays;
  for (int i = 0; i < count; ++i) {
    delays.push_back(policy.OnLoss(absl::Milliseconds(i)).delay);
  }
  return delays;
}

TEST(RestartPolicy, FirstRestartIsNeverDelayed) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    RestartPolicy policy(Limits(10), seed);
    const RestartPolicy::Decision first = policy.OnLoss(absl::Seconds(1));
    EXPECT_TRUE(first.allowed);
    EXPECT_EQ(first.delay, absl::ZeroDuration());
  }
}

TEST(RestartPolicy, DelayStaysBelowABoundThatDoublesUpToTheMaximum) {
  RestartLimits limits = Limits(0);
  limits.backoff_base = absl::Milliseconds(10);
  limits.backoff_max = absl::Milliseconds(100);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::vector<absl::Duration> delays =
        DelaysOfBurst(RestartPolicy(limits, seed), 50);
    EXPECT_LE(delays[1], absl::Milliseconds(10));
    EXPECT_LE(delays[2], absl::Milliseconds(20));
    EXPECT_LE(delays[3], absl::Milliseconds(40));
    EXPECT_THAT(delays, Each(Le(absl::Milliseconds(100))));
    EXPECT_THAT(delays, Each(Ge(absl::ZeroDuration())));
  }
}

TEST(RestartPolicy, JitterSpreadsOverTheWholeInterval) {
  RestartLimits limits = Limits(0);
  limits.backoff_base = absl::Milliseconds(100);
  int low = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    if (DelaysOfBurst(RestartPolicy(limits, seed), 2)[1] <
        absl::Milliseconds(50)) {
      ++low;
    }
  }
  EXPECT_GT(low, 400);
  EXPECT_LT(low, 600);
}

TEST(RestartPolicy, SameSeedGivesTheSameDelays) {
  EXPECT_EQ(DelaysOfBurst(RestartPolicy(Limits(0), 7), 20),
            DelaysOfBurst(RestartPolicy(Limits(0), 7), 20));
  EXPECT_NE(DelaysOfBurst(RestartPolicy(Limits(0), 7), 20),
            DelaysOfBurst(RestartPolicy(Limits(0), 8), 20));
}

TEST(RestartPolicy, LossAfterHealthyTimeIsAFirstOneAgain) {
  RestartPolicy policy(Limits(0), 1);
  for (int i = 0; i < 5; ++i) policy.OnLoss(absl::Milliseconds(i));
  EXPECT_EQ(policy.OnLoss(absl::Seconds(20)).delay, absl::ZeroDuration());
}

TEST(RestartPolicy, EmptyBudgetDenies) {
  RestartPolicy policy(Limits(3), 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(policy.OnLoss(absl::Seconds(i)).allowed);
  }
  EXPECT_FALSE(policy.OnLoss(absl::Seconds(3)).allowed);
}

TEST(RestartPolicy, NoBudgetAllowsForEver) {
  RestartPolicy policy(Limits(0), 1);
  for (int i = 0; i < 10000; ++i) {
    ASSERT_TRUE(policy.OnLoss(absl::Milliseconds(i)).allowed);
  }
}

TEST(RestartPolicy, OnlyHealthyTimeRefillsTheBudget) {
  RestartPolicy policy(Limits(1), 1);
  EXPECT_TRUE(policy.OnLoss(absl::Seconds(0)).allowed);
  // An hour passes while nobody serves.
  EXPECT_FALSE(policy.OnLoss(absl::Seconds(3600)).allowed);
  policy.OnServing(absl::Seconds(3600));
  policy.OnNotServing(absl::Seconds(3631));
  EXPECT_TRUE(policy.OnLoss(absl::Seconds(3631)).allowed);
}

TEST(RestartPolicy, HealthyTimeAddsUpOverSeveralChildren) {
  RestartPolicy policy(Limits(1), 1);
  EXPECT_TRUE(policy.OnLoss(absl::ZeroDuration()).allowed);
  for (int i = 0; i < 4; ++i) {
    policy.OnServing(absl::Seconds(10 * i));
    policy.OnNotServing(absl::Seconds(10 * i + 8));
  }
  EXPECT_TRUE(policy.OnLoss(absl::Seconds(40)).allowed);
}

TEST(RestartPolicy, BudgetNeverGrowsBeyondItsSize) {
  RestartPolicy policy(Limits(2), 1);
  policy.OnServing(absl::ZeroDuration());
  policy.OnNotServing(absl::Hours(1000));
  EXPECT_EQ(policy.tokens(), 2u);
}

TEST(RestartPolicy, TakesATokenAsSoonAsOneIsEarned) {
  RestartPolicy policy(Limits(1), 1);
  policy.OnLoss(absl::ZeroDuration());
  policy.OnServing(absl::ZeroDuration());
  EXPECT_FALSE(policy.TryTakeToken(absl::Seconds(29)));
  EXPECT_TRUE(policy.TryTakeToken(absl::Seconds(30)));
  EXPECT_FALSE(policy.TryTakeToken(absl::Seconds(31)));
}

TEST(RestartPolicy, ClockThatStandsStillOrGoesBackEarnsNothing) {
  RestartPolicy policy(Limits(1), 1);
  policy.OnLoss(absl::Seconds(100));
  policy.OnServing(absl::Seconds(100));
  EXPECT_FALSE(policy.TryTakeToken(absl::Seconds(100)));
  EXPECT_FALSE(policy.TryTakeToken(absl::Seconds(10)));
}

TEST(RestartPolicy, ZeroRefillTimeMeansFullAtOnce) {
  RestartLimits limits = Limits(2);
  limits.refill_every = absl::ZeroDuration();
  RestartPolicy policy(limits, 1);
  policy.OnLoss(absl::ZeroDuration());
  policy.OnServing(absl::ZeroDuration());
  policy.OnNotServing(absl::Nanoseconds(1));
  EXPECT_EQ(policy.tokens(), 2u);
}

TEST(RestartPolicy, ResetForgetsAllLosses) {
  RestartPolicy policy(Limits(2), 1);
  for (int i = 0; i < 3; ++i) policy.OnLoss(absl::Milliseconds(i));
  policy.Reset();
  const RestartPolicy::Decision next = policy.OnLoss(absl::Milliseconds(4));
  EXPECT_TRUE(next.allowed);
  EXPECT_EQ(next.delay, absl::ZeroDuration());
}

TEST(RestartPolicy, RestoredPolicyGoesOnWhereTheSavedOneWas) {
  RestartLimits limits;
  limits.budget = 3;
  limits.refill_every = absl::Seconds(10);
  RestartPolicy first(limits, 1);
  first.OnServing(absl::Seconds(100));
  first.OnLoss(absl::Seconds(100));
  first.OnLoss(absl::Seconds(101));
  RestartPolicy second(limits, 2);
  second.Restore(first.Save());
  EXPECT_EQ(second.tokens(), first.tokens());
  // Both know of two losses in a row, and of the healthy time since.
  EXPECT_TRUE(second.OnLoss(absl::Seconds(102)).allowed);
  EXPECT_FALSE(second.OnLoss(absl::Seconds(102)).allowed);
  EXPECT_TRUE(second.TryTakeToken(absl::Seconds(120)));
  // The control: a fresh one would have a whole budget.
  EXPECT_EQ(RestartPolicy(limits, 2).tokens(), 3u);
}

TEST(RestartPolicy, NonsenseIsBroughtIntoRange) {
  RestartLimits limits;
  limits.budget = 3;
  for (const double tokens : {-1.0, 1e300, std::nan(""), HUGE_VAL}) {
    RestartPolicy policy(limits, 1);
    RestartPolicy::Saved saved;
    saved.tokens = tokens;
    saved.in_a_row = UINT32_MAX;
    saved.last_loss = absl::InfiniteDuration();
    policy.Restore(saved);
    EXPECT_LE(policy.tokens(), 3u) << tokens;
    policy.OnLoss(absl::Seconds(1));
    EXPECT_LE(policy.tokens(), 3u) << tokens;
  }
}

}  // namespace
}  // namespace holdfast::launcher

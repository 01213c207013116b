#include "base/testing/poll.h"

#include <memory>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(PollUntil, ReturnsWhatItWaitedFor) {
  int calls = 0;
  const auto value =
      PollUntil([&calls] { return std::make_unique<int>(++calls); });
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(*value, 1);
}

TEST(PollUntil, AsksAgainUntilItIsTrue) {
  int calls = 0;
  EXPECT_TRUE(PollUntil([&calls] { return ++calls == 3; }));
  EXPECT_EQ(calls, 3);
}

TEST(PollUntil, GivesUpAndAsksAtLeastOnce) {
  int calls = 0;
  EXPECT_FALSE(PollUntil([&calls] { return ++calls < 0; },
                         std::chrono::milliseconds(0)));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace holdfast

#include "devices/bus/options.h"

#include <map>
#include <string>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

DeviceOptions With(const std::string& value) {
  return DeviceOptions({{"option", value}});
}

TEST(DeviceOptions, WhatWasNotGivenHasItsFallback) {
  const DeviceOptions none;
  EXPECT_THAT(none.Number("option", 7, 1, 9), IsOkAndHolds(7u));
  EXPECT_THAT(none.Switch("option", true), IsOkAndHolds(true));
  EXPECT_THAT(none.Switch("option", false), IsOkAndHolds(false));
  EXPECT_EQ(none.Text("option", "text"), "text");
  // Not even when it lies outside of what may be given.
  EXPECT_THAT(none.Number("option", 0, 1, 9), IsOkAndHolds(0u));
}

TEST(DeviceOptions, NumbersLieInTheirRange) {
  EXPECT_THAT(With("1").Number("option", 7, 1, 9), IsOkAndHolds(1u));
  EXPECT_THAT(With("9").Number("option", 7, 1, 9), IsOkAndHolds(9u));
  EXPECT_THAT(With("18446744073709551615").Number("option", 0, 0, ~0ull),
              IsOkAndHolds(~0ull));
  for (const char* wrong : {"0", "10", "-1", "", " ", "x", "7x", "0x7", "7.0",
                            "18446744073709551616"}) {
    EXPECT_THAT(With(wrong).Number("option", 7, 1, 9),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("give a number from 1 to 9")))
        << wrong;
  }
}

TEST(DeviceOptions, ErrorsNameOptionAndValue) {
  EXPECT_THAT(With("many").Number("option", 7, 1, 9),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--option=many: ")));
  EXPECT_THAT(With("many").Switch("option", true),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--option=many: give 'on' or 'off'")));
}

TEST(DeviceOptions, ASwitchIsOnWhenItIsThere) {
  EXPECT_THAT(With("").Switch("option", false), IsOkAndHolds(true));
  EXPECT_THAT(With("on").Switch("option", false), IsOkAndHolds(true));
  EXPECT_THAT(With("off").Switch("option", true), IsOkAndHolds(false));
  for (const char* wrong : {"On", "1", "yes", "off "}) {
    EXPECT_FALSE(With(wrong).Switch("option", true).ok()) << wrong;
  }
}

TEST(DeviceOptions, TextIsTakenAsItIs) {
  EXPECT_EQ(With("").Text("option", "text"), "");
  EXPECT_EQ(With(" a=b ").Text("option", "text"), " a=b ");
  EXPECT_EQ(With("a").Text("other", "text"), "text");
}

}  // namespace
}  // namespace holdfast

#include "launcher/pending_specs.h"

#include <string>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

TEST(PendingSpecs, AreTakenInOrder) {
  PendingSpecs pending;
  EXPECT_TRUE(pending.empty());
  ASSERT_OK(pending.Add({"a", "1"}));
  ASSERT_OK(pending.Add({"b", "2"}));
  EXPECT_EQ(pending.HandOut().text, "1");
  EXPECT_TRUE(pending.Take("a"));
  EXPECT_EQ(pending.HandOut().name, "b");
  EXPECT_TRUE(pending.Take("b"));
  EXPECT_TRUE(pending.empty());
}

TEST(PendingSpecs, OnlyTheFirstOneIsTakenAndOnlyOnce) {
  PendingSpecs pending;
  EXPECT_FALSE(pending.Take("a"));
  ASSERT_OK(pending.Add({"a", ""}));
  ASSERT_OK(pending.Add({"b", ""}));
  EXPECT_FALSE(pending.Take("b"));
  EXPECT_TRUE(pending.Take("a"));
  EXPECT_FALSE(pending.Take("a"));
}

TEST(PendingSpecs, StayWhenAnApiDiesOverThem) {
  PendingSpecs pending;
  ASSERT_OK(pending.Add({"a", ""}));
  pending.HandOut();
  EXPECT_EQ(pending.HandOut().name, "a");
  EXPECT_FALSE(pending.IsHopeless());
  EXPECT_TRUE(pending.Take("a"));
}

TEST(PendingSpecs, AreHopelessInTheEndEachForItself) {
  PendingSpecs pending;
  EXPECT_FALSE(pending.IsHopeless());
  ASSERT_OK(pending.Add({"a", ""}));
  ASSERT_OK(pending.Add({"b", ""}));
  for (int i = 0; i < PendingSpecs::kMaxHandOuts; ++i) {
    EXPECT_FALSE(pending.IsHopeless());
    pending.HandOut();
  }
  EXPECT_TRUE(pending.IsHopeless());
  EXPECT_TRUE(pending.Take("a"));
  EXPECT_FALSE(pending.IsHopeless());
}

TEST(PendingSpecs, AreBounded) {
  PendingSpecs pending;
  EXPECT_THAT(
      pending.Add({"a", std::string(kMaxSpecText + 1, 'x')}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65535 bytes")));
  EXPECT_TRUE(pending.empty());
  for (size_t i = 0; i < PendingSpecs::kMaxFiles; ++i) {
    ASSERT_OK(pending.Add({"a", std::string(i == 0 ? kMaxSpecText : 0, 'x')}));
  }
  EXPECT_THAT(
      pending.Add({"a", ""}),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("128 files")));
}

TEST(RefusalText, NamesTheFileOnce) {
  EXPECT_EQ(RefusalText("a.textproto", "instance 'a' exists"),
            "a.textproto: instance 'a' exists");
  EXPECT_EQ(RefusalText("a.textproto", "a.textproto:2: binary: is missing"),
            "a.textproto:2: binary: is missing");
}

TEST(RefusalText, IsOneLineOfPlainCharacters) {
  EXPECT_EQ(RefusalText("a\x1b[2J", "x\ny\x7f\xff\t"), "a?[2J: x; y???");
}

}  // namespace
}  // namespace holdfast::launcher

#include "statestore/store/testing/fingerprint_set.h"

#include <string>

#include "gtest/gtest.h"

namespace holdfast::store::testing {
namespace {

TEST(FingerprintSet, KnowsWhatItWasGiven) {
  FingerprintSet set;
  EXPECT_TRUE(set.Insert(""));
  EXPECT_TRUE(set.Insert("a"));
  EXPECT_FALSE(set.Insert(""));
  EXPECT_FALSE(set.Insert("a"));
  EXPECT_EQ(set.size(), 2u);
}

TEST(FingerprintSet, TellsManyThatHardlyDifferApart) {
  FingerprintSet set;
  for (int i = 0; i < 1 << 16; ++i) {
    // Differing in two bytes in the middle, as states do.
    std::string text(100, '\0');
    text[40] = static_cast<char>(i);
    text[60] = static_cast<char>(i >> 8);
    ASSERT_TRUE(set.Insert(text)) << i;
    ASSERT_FALSE(set.Insert(text)) << i;
  }
  EXPECT_EQ(set.size(), size_t{1} << 16);
}

TEST(FingerprintSet, LengthCounts) {
  FingerprintSet set;
  for (size_t n = 0; n < 1000; ++n) {
    EXPECT_TRUE(set.Insert(std::string(n, '\0')));
  }
}

}  // namespace
}  // namespace holdfast::store::testing

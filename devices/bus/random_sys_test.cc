#include "devices/bus/random_sys.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(FillRandom, FillsAllAndNothingElse) {
  // More than one getrandom gives without a break.
  std::vector<uint8_t> bytes(1 << 20, 0);
  FillRandom(absl::MakeSpan(bytes).subspan(1, bytes.size() - 2));
  EXPECT_EQ(bytes.front(), 0);
  EXPECT_EQ(bytes.back(), 0);
  // A part that was left out would be 64 zeroes in a row.
  const auto hole = std::search_n(bytes.begin(), bytes.end(), 64, uint8_t{0});
  EXPECT_EQ(hole, bytes.end());
}

TEST(FillRandom, GivesOtherBytesEachTime) {
  std::vector<uint8_t> one(32), other(32);
  FillRandom(absl::MakeSpan(one));
  FillRandom(absl::MakeSpan(other));
  EXPECT_NE(one, other);
}

TEST(FillRandom, OfNothingReturns) { FillRandom({}); }

}  // namespace
}  // namespace holdfast

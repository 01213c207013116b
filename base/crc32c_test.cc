#include "base/crc32c.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

absl::Span<const uint8_t> Bytes(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

// One bit at a time, straight from the definition.
uint32_t Reference(const std::vector<uint8_t>& bytes) {
  uint32_t crc = ~0u;
  for (uint8_t b : bytes) {
    crc ^= b;
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) * 0x82f63b78u);
  }
  return ~crc;
}

// Vectors of RFC 3720, appendix B.4.
TEST(Crc32c, MatchesTheStandardsVectors) {
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::vector<uint8_t>(32, 0)), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::vector<uint8_t>(32, 0xff)), 0x62a8ab43u);
}

TEST(Crc32c, EqualsTheDefinitionAtEveryLengthAndAlignment) {
  std::vector<uint8_t> bytes(300);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = i * 167 + 13;
  for (size_t from = 0; from < 9; ++from) {
    for (size_t n = 0; from + n <= bytes.size(); n += 7) {
      const std::vector<uint8_t> part(bytes.begin() + from,
                                      bytes.begin() + from + n);
      ASSERT_EQ(Crc32c({bytes.data() + from, n}), Reference(part));
    }
  }
}

TEST(Crc32c, ExtendEqualsOneRun) {
  EXPECT_EQ(Crc32cExtend(Crc32c(Bytes("1234")), Bytes("56789")), 0xe3069283u);
}

TEST(Crc32cStriped, IsTheCrcOfEachLaneAndCopiesWhatItSummed) {
  constexpr int kLanes = 4;
  std::vector<uint8_t> bytes(8 * 41 + 3);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = i * 91 + 7;
  const uint8_t* from = bytes.data() + 3;  // Unaligned on purpose.
  for (size_t words = 0; words <= 41; ++words) {
    std::vector<uint8_t> lanes[kLanes];
    for (size_t i = 0; i < words; ++i) {
      std::vector<uint8_t>& lane = lanes[i % kLanes];
      lane.insert(lane.end(), from + 8 * i, from + 8 * (i + 1));
    }
    std::vector<uint8_t> copy(8 * 41, 0xee);
    const Crc32cStripes sums = Crc32cStriped(from, words);
    ASSERT_EQ(Crc32cStripedCopy(copy.data(), from, words), sums);
    ASSERT_EQ(internal::StripedPortable<false>(nullptr, from, words), sums);
    for (int i = 0; i < kLanes; ++i) {
      ASSERT_EQ(sums.lane(i), Reference(lanes[i])) << words << " words";
    }
    ASSERT_TRUE(std::equal(from, from + 8 * words, copy.begin()));
    ASSERT_EQ(std::count(copy.begin() + 8 * words, copy.end(), 0xee),
              8 * (41 - words));
  }
}

}  // namespace
}  // namespace holdfast

// Images of released formats. When a test here fails, the bytes of a segment
// have moved: raise kFormatVersion, keep reading the old version, and add an
// image with HOLDFAST_WRITE_GOLDEN=<path> in the environment of this test.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"
#include "statestore/dump.h"
#include "statestore/recover.h"
#include "statestore/testing/sample_segment.h"

namespace holdfast {
namespace {

using ::holdfast::testing::AlignedMemory;
using ::holdfast::testing::MakeSampleSegment;

std::vector<uint8_t> ReadImage(const std::string& name) {
  std::ifstream file("statestore/golden/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file),
          std::istreambuf_iterator<char>()};
}

TEST(GoldenV1, IsWrittenByteForByteByTheSameCalls) {
  AlignedMemory memory = MakeSampleSegment();
  if (const char* path = std::getenv("HOLDFAST_WRITE_GOLDEN")) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(memory.span().data()),
               static_cast<std::streamsize>(memory.span().size()));
  }
  const std::vector<uint8_t> golden = ReadImage("v1.bin");
  ASSERT_EQ(golden.size(), memory.span().size());
  for (size_t i = 0; i < golden.size(); ++i) {
    ASSERT_EQ(golden[i], memory.span()[i]) << "at byte " << i;
  }
}

TEST(GoldenV1, IsStillReadable) {
  const RecoveryReport golden = Recover(ReadImage("v1.bin"));
  EXPECT_EQ(golden.verdict, RecoveryReport::Verdict::kWhole)
      << golden.ToString();
  EXPECT_EQ(Diff(golden, Recover(MakeSampleSegment().span())), "");
}

// The control: a byte that moves is seen.
TEST(GoldenV1, DiffersFromAnImageWithOneOtherByte) {
  const std::vector<uint8_t> golden = ReadImage("v1.bin");
  AlignedMemory memory = MakeSampleSegment();
  memory.span()[golden.size() - 1] ^= 1;
  EXPECT_FALSE(std::equal(golden.begin(), golden.end(), memory.span().begin()));
}

}  // namespace
}  // namespace holdfast

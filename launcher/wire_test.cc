#include "launcher/wire.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::ElementsAre;

TEST(Wire, IntegersAreLittleEndian) {
  WireWriter writer;
  writer.U8(0x01);
  writer.U16(0x0203);
  writer.U32(0x04050607);
  EXPECT_THAT(writer.bytes(), ElementsAre(1, 3, 2, 7, 6, 5, 4));
}

TEST(Wire, ReadsBackWhatWasWritten) {
  WireWriter writer;
  writer.U64(0x0102030405060708);
  writer.Bool(true);
  writer.String("holdfast");
  writer.Bytes({9, 8});
  WireReader reader(writer.bytes());
  EXPECT_EQ(reader.U64(), 0x0102030405060708u);
  EXPECT_TRUE(reader.Bool());
  EXPECT_EQ(reader.String(), "holdfast");
  EXPECT_THAT(reader.Bytes(2), ElementsAre(9, 8));
  EXPECT_TRUE(reader.Finished());
}

TEST(Wire, EveryTruncationIsNoticed) {
  WireWriter writer;
  writer.U32(7);
  writer.String("abc");
  for (size_t size = 0; size < writer.bytes().size(); ++size) {
    WireReader reader(absl::MakeConstSpan(writer.bytes().data(), size));
    reader.U32();
    EXPECT_EQ(reader.String(), "");
    EXPECT_FALSE(reader.ok()) << size;
  }
}

TEST(Wire, NothingIsReadAfterAnError) {
  const std::vector<uint8_t> bytes = {2, 1, 1, 1, 1};
  WireReader reader(bytes);
  EXPECT_TRUE(!reader.Bool() && !reader.ok());
  EXPECT_EQ(reader.U32(), 0u);
}

TEST(Wire, StringLongerThanAllowedIsAnError) {
  WireWriter writer;
  writer.String("four");
  WireReader reader(writer.bytes());
  EXPECT_EQ(reader.String(3), "");
  EXPECT_FALSE(reader.ok());
}

TEST(Wire, BytesLeftOverAreNotFinished) {
  const std::vector<uint8_t> bytes = {1, 2};
  WireReader reader(bytes);
  reader.U8();
  EXPECT_TRUE(reader.ok());
  EXPECT_FALSE(reader.Finished());
  EXPECT_EQ(reader.left(), 1u);
}

TEST(Wire, OverlongStringIsCutWhenWritten) {
  WireWriter writer;
  writer.String(std::string(70000, 'x'));
  WireReader reader(writer.bytes());
  EXPECT_EQ(reader.String().size(), WireWriter::kMaxString);
  EXPECT_TRUE(reader.Finished());
}

}  // namespace
}  // namespace holdfast::launcher

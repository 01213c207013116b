#include "statestore/schema.h"

#include <array>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/cell.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

enum class Mode : uint16_t { kIdle, kBusy };

struct Mac {
  uint8_t bytes[6];
};

struct NetState {
  static constexpr SchemaId kSchema{"net", 2};
  Cell<bool> up{"up"};
  Cell<uint64_t> packets{"rx.packets"};
  Cell<Mode> mode{"mode"};
  Cell<std::array<uint32_t, 5>> filter{"filter"};
  Cell<Mac> mac{"mac"};
  Cell<int16_t> gain{"gain"};
  Cell<double> rate{"rate"};
};

TEST(DescribeState, CollectsNamesTypesAndAlignedOffsets) {
  const absl::StatusOr<Schema> schema = DescribeState<NetState>();
  ASSERT_OK(schema);
  std::string text;
  for (const Field& f : schema->fields) {
    text +=
        f.name + ":" + f.type.ToString() + "@" + std::to_string(f.offset) + " ";
  }
  EXPECT_EQ(text,
            "up:bool@0 rx.packets:u64@8 mode:u16@16 filter:u32[5]@20 "
            "mac:bytes[6]@40 gain:i16@46 rate:f64@48 ");
  EXPECT_EQ(schema->size, 56u);
  EXPECT_EQ(schema->name, "net");
  EXPECT_EQ(schema->version, 2u);
}

TEST(DescribeState, NestsAndLeavesNoBuilderBehind) {
  SchemaBuilder outer({"outer", 1});
  Cell<uint32_t> first("first");
  ASSERT_OK(DescribeState<NetState>());
  Cell<uint32_t> second("second");
  EXPECT_EQ(second.offset(), 4u);
  EXPECT_EQ(outer.Finish()->fields.size(), 2u);
}

TEST(SchemaBuilder, SeesOnlyCellsOfItsOwnThread) {
  SchemaBuilder builder({"mine", 1});
  std::thread([] {
    Cell<uint32_t> cell("other");
    EXPECT_FALSE(cell.bound());
  }).join();
  EXPECT_TRUE(builder.Finish()->fields.empty());
}

TEST(Cell, IsUnboundWithoutABuilder) {
  const Cell<uint32_t> cell("lonely");
  EXPECT_FALSE(cell.bound());
  EXPECT_EQ(cell.name(), "lonely");
}

struct Twice {
  static constexpr SchemaId kSchema{"twice", 1};
  Cell<uint32_t> a{"a"};
  Cell<uint32_t> b{"a"};
};
struct BadName {
  static constexpr SchemaId kSchema{"bad", 1};
  Cell<uint32_t> a{"No spaces"};
};

TEST(DescribeState, NamesTheFieldThatBreaksARule) {
  EXPECT_THAT(DescribeState<Twice>(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field a: declared twice")));
  EXPECT_THAT(DescribeState<BadName>(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field No spaces: name")));
}

// The same struct three versions later: reordered, one field gone, none new.
struct NewerNetState {
  static constexpr SchemaId kSchema{"net", 3};
  Cell<double> rate{"rate"};
  Cell<uint64_t> packets{"rx.packets"};
};

TEST(BindState, FindsFieldsByNameInAnOlderLayout) {
  const Schema stored = *DescribeState<NetState>();
  const absl::StatusOr<NewerNetState> state = BindState<NewerNetState>(stored);
  ASSERT_OK(state);
  EXPECT_EQ(state->rate.offset(), stored.Find("rate")->offset);
  EXPECT_EQ(state->packets.offset(), stored.Find("rx.packets")->offset);
}

struct ChangedNetState {
  static constexpr SchemaId kSchema{"net", 2};
  Cell<uint32_t> packets{"rx.packets"};
  Cell<uint8_t> added{"added"};
};

TEST(BindState, SaysPreciselyWhatDoesNotFit) {
  const Schema stored = *DescribeState<NetState>();
  EXPECT_THAT(
      BindState<ChangedNetState>(stored),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("field rx.packets: type u64 in segment, u32 in "
                               "binary"),
                     HasSubstr("field added: not in segment, u8 in binary"))));
}

struct Old {
  static constexpr SchemaId kSchema{"net", 2};
  Cell<double> rate{"rate"};
};
struct Other {
  static constexpr SchemaId kSchema{"disk", 9};
  Cell<double> rate{"rate"};
};

TEST(BindState, RefusesANewerVersionAndAnotherName) {
  const Schema newer = *DescribeState<NewerNetState>();
  EXPECT_THAT(BindState<Old>(newer),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("version 3 in segment, at most 2")));
  EXPECT_THAT(BindState<Other>(newer),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("schema net in segment, disk in binary")));
}

TEST(SchemaCodec, RoundTrips) {
  const Schema schema = *DescribeState<NetState>();
  std::vector<uint8_t> bytes = EncodeSchema(schema);
  bytes.resize(bytes.size() + 100);  // A section is larger than its content.
  const absl::StatusOr<Schema> back = DecodeSchema(bytes);
  ASSERT_OK(back);
  EXPECT_EQ(EncodeSchema(*back), EncodeSchema(schema));
  EXPECT_EQ(back->fields.size(), 7u);
  EXPECT_EQ(back->Find("mac")->type.ToString(), "bytes[6]");
}

TEST(SchemaCodec, RefusesEveryTruncationAndEveryFlippedBit) {
  const std::vector<uint8_t> good = EncodeSchema(*DescribeState<NetState>());
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_THAT(DecodeSchema(absl::MakeSpan(good).first(n)),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("schema")));
  }
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::vector<uint8_t> bad = good;
    bad[bit / 8] ^= 1 << (bit % 8);
    EXPECT_FALSE(DecodeSchema(bad).ok()) << bit;
  }
}

TEST(ValidateSchema, RefusesOverlapAndFieldsOutside) {
  Schema schema = *DescribeState<NetState>();
  schema.fields[3].offset = 17;
  EXPECT_THAT(ValidateSchema(schema),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field filter: overlaps")));
  schema = *DescribeState<NetState>();
  schema.fields.back().offset = 0xfffffff8;
  EXPECT_THAT(ValidateSchema(schema),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("field rate: lies outside")));
}

}  // namespace
}  // namespace holdfast

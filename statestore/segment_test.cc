#include "statestore/segment.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/cell.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

struct DiskState {
  static constexpr SchemaId kSchema{"disk", 1};
  Cell<uint64_t> sectors{"sectors"};
  Cell<uint32_t> flags{"flags"};
};

SegmentSpec DiskSpec() {
  SegmentSpec spec;
  spec.device = "disk0";
  spec.compat_version = 3;
  spec.state = *DescribeState<DiskState>();
  spec.queue_count = 2;
  spec.max_queue_size = 256;
  spec.inflight_size = 4112;
  spec.lane_count = 2;
  spec.lane_size = 8192;
  spec.session_size = 512;
  return spec;
}

std::vector<uint8_t> Formatted(const SegmentSpec& spec) {
  std::vector<uint8_t> memory(*SegmentSize(spec));
  EXPECT_OK(FormatSegment(absl::MakeSpan(memory), spec));
  return memory;
}

TEST(FormatSegment, MakesEverySectionOfTheSpec) {
  std::vector<uint8_t> memory = Formatted(DiskSpec());
  const absl::StatusOr<Segment> segment =
      Segment::Attach(absl::MakeSpan(memory));
  ASSERT_OK(segment);
  EXPECT_EQ(segment->device(), "disk0");
  EXPECT_EQ(segment->compat_version(), 3u);
  EXPECT_EQ(segment->queue_count(), 2);
  EXPECT_EQ(segment->max_queue_size(), 256);
  EXPECT_EQ(segment->epoch(), 0u);
  EXPECT_EQ(segment->schema().name, "disk");
  EXPECT_EQ(segment->section(SectionType::kLane, 1).size(), 8192u);
  EXPECT_EQ(segment->section(SectionType::kInflight, 1).size(), 4112u);
  EXPECT_EQ(segment->section(SectionType::kStamps).size(), 2 * kStampSize);
  EXPECT_EQ(segment->section(SectionType::kStats).size(), kStatsSize);
  EXPECT_EQ(segment->section(SectionType::kSession).size(), 512u);
  EXPECT_TRUE(segment->section(SectionType::kLane, 2).empty());
  EXPECT_TRUE(segment->section(SectionType::kBulk).empty());
  EXPECT_OK(BindState<DiskState>(segment->schema()));
}

TEST(FormatSegment, PutsLanesOnPagesAndTheRestOnCacheLines) {
  const std::vector<uint8_t> memory = Formatted(DiskSpec());
  const absl::StatusOr<SegmentLayout> layout = ReadLayout(memory);
  ASSERT_OK(layout);
  for (const SectionEntry& s : layout->sections) {
    const bool lane = s.type == static_cast<uint16_t>(SectionType::kLane);
    EXPECT_EQ(s.offset % (lane ? kPageSize : kSectionAlignment), 0u);
  }
  EXPECT_EQ(memory.size() % kPageSize, 0u);
}

TEST(FormatSegment, GivesADeviceAreasOfItsOwn) {
  SegmentSpec spec = DiskSpec();
  spec.areas_size = 5000;
  std::vector<uint8_t> memory = Formatted(spec);
  const absl::StatusOr<Segment> segment =
      Segment::Attach(absl::MakeSpan(memory));
  ASSERT_OK(segment);
  const absl::Span<uint8_t> areas = segment->section(SectionType::kAreas);
  EXPECT_EQ(areas.size(), 5000u);
  EXPECT_EQ((areas.data() - memory.data()) % kPageSize, 0);
  EXPECT_EQ(std::count(areas.begin(), areas.end(), 0), 5000);
}

TEST(FormatSegment, RunsAgainUntilTheMagicIsThereAndThenNeverMore) {
  const SegmentSpec spec = DiskSpec();
  std::vector<uint8_t> memory(*SegmentSize(spec), 0xa5);
  std::memset(memory.data(), 0, sizeof(kSegmentMagic));  // Died half-way.
  EXPECT_TRUE(Segment::IsEmpty(memory));
  ASSERT_OK(FormatSegment(absl::MakeSpan(memory), spec));
  EXPECT_EQ(memory, Formatted(spec));
  EXPECT_FALSE(Segment::IsEmpty(memory));
  EXPECT_THAT(FormatSegment(absl::MakeSpan(memory), spec),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("formatted already")));
}

TEST(SegmentSize, NamesTheFieldThatBreaksALimit) {
  const auto error_of = [](auto change) {
    SegmentSpec spec = DiskSpec();
    change(spec);
    return std::string(SegmentSize(spec).status().message());
  };
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.device = ""; }),
              HasSubstr("device name"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.device = std::string(40, 'x'); }),
              HasSubstr("device name"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.queue_count = 65; }),
              HasSubstr("queue_count 65 exceeds 64"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.max_queue_size = 32769; }),
              HasSubstr("max_queue_size"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.lane_count = 65; }),
              HasSubstr("lane_count"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.lane_size = 100; }),
              HasSubstr("lane_size 100 is not whole pages"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.bulk_size = 100; }),
              HasSubstr("undo_size"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.inflight_size = 1u << 30; }),
              HasSubstr("limit is"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.state.size = 32768; }),
              HasSubstr("state has 32768 bytes"));
  EXPECT_THAT(error_of([](SegmentSpec& s) { s.state.name = ""; }),
              HasSubstr("schema name"));
}

TEST(SegmentAttach, RefusesAnEmptySegmentAndAnotherVersion) {
  std::vector<uint8_t> memory(*SegmentSize(DiskSpec()));
  EXPECT_THAT(ReadLayout(memory),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not formatted")));
  memory = Formatted(DiskSpec());
  memory[offsetof(SegmentHeader, format_version)] = 2;
  EXPECT_THAT(ReadLayout(memory), StatusIs(absl::StatusCode::kUnimplemented,
                                           HasSubstr("format version 2")));
}

TEST(SegmentAttach, RefusesEveryFlippedBitOfHeaderTableAndSchema) {
  std::vector<uint8_t> memory = Formatted(DiskSpec());
  const SegmentLayout layout = *ReadLayout(memory);
  const SectionEntry schema = *layout.Find(SectionType::kSchema);
  for (size_t byte = 0; byte < schema.offset + schema.size; ++byte) {
    const bool epoch = byte >= offsetof(SegmentHeader, epoch) &&
                       byte < offsetof(SegmentHeader, epoch) + 8;
    if (epoch) continue;  // Changes in operation.
    for (int bit = 0; bit < 8; ++bit) {
      memory[byte] ^= 1 << bit;
      ASSERT_FALSE(ReadLayout(memory).ok()) << byte << "." << bit;
      memory[byte] ^= 1 << bit;
    }
  }
  EXPECT_OK(ReadLayout(memory));
}

TEST(SegmentAttach, AcceptsMoreMemoryButNotLess) {
  std::vector<uint8_t> memory = Formatted(DiskSpec());
  const size_t size = memory.size();
  memory.resize(size + kPageSize);
  EXPECT_OK(ReadLayout(memory));
  memory.resize(size - kPageSize);
  EXPECT_THAT(ReadLayout(memory),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("made for")));
  memory.resize(kPageSize);
  EXPECT_FALSE(ReadLayout(memory).ok());
  EXPECT_FALSE(ReadLayout({}).ok());
  EXPECT_FALSE(Segment::IsEmpty({}));
}

TEST(SegmentEpoch, OnlyRises) {
  std::vector<uint8_t> memory = Formatted(DiskSpec());
  const Segment segment = *Segment::Attach(absl::MakeSpan(memory));
  EXPECT_TRUE(segment.ClaimEpoch(1));
  EXPECT_FALSE(segment.ClaimEpoch(1));
  EXPECT_TRUE(segment.ClaimEpoch(7));
  EXPECT_FALSE(segment.ClaimEpoch(6));
  EXPECT_EQ(segment.epoch(), 7u);
  EXPECT_EQ(Segment::Attach(absl::MakeSpan(memory))->epoch(), 7u);
}

}  // namespace
}  // namespace holdfast

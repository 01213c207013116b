#include "statestore/figures.h"

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/format.h"
#include "statestore/segment.h"
#include "statestore/testing/sample_segment.h"

namespace holdfast {
namespace {

using ::holdfast::testing::AlignedMemory;
using ::holdfast::testing::MakeSampleSegment;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

constexpr uint64_t kNow = 5'000'000'000;

// A segment with two queues of 8, and what its device would write.
class FiguresTest : public ::testing::Test {
 protected:
  template <typename Entry>
  Entry* EntryOf(SectionType type, size_t queue) {
    const Segment segment = *Segment::Attach(memory_.span());
    return reinterpret_cast<Entry*>(segment.section(type).data()) + queue;
  }
  QueueStats& Stats(size_t queue) {
    return *EntryOf<QueueStats>(SectionType::kStats, queue);
  }
  QueueStamp& Stamp(size_t queue) {
    return *EntryOf<QueueStamp>(SectionType::kStamps, queue);
  }
  absl::StatusOr<SegmentFigures> Read() { return ReadFigures(memory_.span()); }

  AlignedMemory memory_ = MakeSampleSegment();
};

TEST_F(FiguresTest, OfADeviceThatHasDoneNothingAreZero) {
  const auto figures = Read();
  ASSERT_OK(figures);
  EXPECT_EQ(figures->device, "sample0");
  EXPECT_EQ(figures->epoch, 3u);
  EXPECT_EQ(figures->commits, 2u);
  ASSERT_EQ(figures->queues.size(), 2u);
  for (const QueueFigures& queue : figures->queues) {
    EXPECT_EQ(queue.problem, "");
    EXPECT_EQ(queue.stats.requests, 0u);
    EXPECT_EQ(queue.stamp.progress_ns, 0u);
  }
}

TEST_F(FiguresTest, AreThoseOfTheirQueue) {
  Count(Stats(1).requests, 70);
  Count(Stats(1).resubmitted, 3);
  Stamp(1).in_flight = 8;
  Stamp(1).progress_ns = kNow;
  StampPoisoned(Stamp(0), /*head=*/5, /*deaths=*/2, kNow - 1);
  const auto figures = Read();
  ASSERT_OK(figures);
  EXPECT_EQ(figures->queues[0].stats.requests, 0u);
  EXPECT_EQ(figures->queues[1].stats.requests, 70u);
  EXPECT_EQ(figures->queues[1].stats.resubmitted, 3u);
  EXPECT_EQ(figures->queues[1].stamp.in_flight, 8u);
  EXPECT_EQ(figures->queues[1].problem, "");
  EXPECT_EQ(figures->queues[0].stamp.poisoned_head, 5u);
  EXPECT_EQ(figures->queues[0].stamp.poisoned_deaths, 2u);
  EXPECT_EQ(figures->queues[0].stamp.poisoned_ns, kNow - 1);
  EXPECT_EQ(figures->queues[0].problem, "");
}

TEST_F(FiguresTest, ThatCannotBeAreNamedAndTheOtherQueueIsNotHidden) {
  Count(Stats(0).requests, 70);
  Stamp(1).in_flight = 9;
  EXPECT_EQ(Read()->queues[1].problem, "9 requests in flight, of 8 at most");
  Stamp(1) = {};
  StampPoisoned(Stamp(1), kMaxQueueSize, 2, kNow);
  EXPECT_THAT(Read()->queues[1].problem, HasSubstr("is in no queue"));
  EXPECT_EQ(Read()->queues[0].problem, "");
  EXPECT_EQ(Read()->queues[0].stats.requests, 70u);
}

TEST_F(FiguresTest, CommitsAreTheWholeNumberNotTheLowBits) {
  const Segment segment = *Segment::Attach(memory_.span());
  uint8_t* const state = segment.section(SectionType::kState).data();
  uint64_t word;
  std::memcpy(&word, state, sizeof(word));
  const CommitWord commit = CommitWord::Unpack(word);
  StateHeader header;
  std::memcpy(&header, state, sizeof(header));
  uint8_t* const sequence =
      state + sizeof(header) +
      commit.bank * BankStride(header.fields_size, header.queue_count) +
      offsetof(BankHeader, sequence);
  const uint64_t large = uint64_t{7} << 31 | commit.sequence;
  std::memcpy(sequence, &large, sizeof(large));
  EXPECT_EQ(Read()->commits, large);
  const uint64_t other = large + 1;
  std::memcpy(sequence, &other, sizeof(other));
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss,
                               HasSubstr("another sequence")));
}

TEST(Figures, OfNoSegmentAreAnError) {
  AlignedMemory memory(2 * kPageSize);
  EXPECT_THAT(ReadFigures(memory.span()),
              StatusIs(absl::StatusCode::kFailedPrecondition, _));
  std::memset(memory.span().data(), 0xa5, memory.span().size());
  EXPECT_THAT(ReadFigures(memory.span()),
              StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_FALSE(ReadFigures({}).ok());
}

// Under ASan a wild read would be seen; see also figures_fuzz.
TEST_F(FiguresTest, OfGarbageAnywhereNeverLeaveTheMemory) {
  std::mt19937_64 random(1);
  const absl::Span<uint8_t> memory = memory_.span();
  const std::vector<uint8_t> whole(memory.begin(), memory.end());
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    const size_t at = random() % memory.size();
    const size_t size = std::min<size_t>(1 + random() % 64, memory.size() - at);
    for (size_t j = 0; j < size; ++j) memory[at + j] = random();
    const auto figures = Read();
    refused += !figures.ok();
    if (figures.ok()) {
      EXPECT_EQ(figures->queues.size(), 2u);
    }
    std::memcpy(memory.data() + at, whole.data() + at, size);
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace holdfast

#include "launcher/api/figures.h"

#include <sys/mman.h>

#include <cstring>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/cell.h"
#include "statestore/queue_stats.h"
#include "statestore/segment.h"
#include "statestore/segment_sys.h"

namespace holdfast::launcher {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kNow = 10'000'000'000;

SegmentFigures TwoQueues() {
  SegmentFigures figures;
  figures.device = "disk";
  figures.epoch = 4;
  figures.commits = 12;
  figures.queues.resize(2);
  QueueFigures& busy = figures.queues[1];
  busy.stats = {100, 1, 2, 3, 4, 5, 6, 0};
  busy.stamp.in_flight = 7;
  busy.stamp.progress_ns = kNow - 2'000'000;
  busy.stamp.poisoned_ns = kNow - 3'000'000;
  busy.stamp.poisoned_head = 17;
  busy.stamp.poisoned_deaths = 2;
  return figures;
}

TEST(Figures, ArriveEachInItsField) {
  const v1::SegmentFigures proto = ToProto(TwoQueues(), kNow);
  EXPECT_EQ(proto.error(), "");
  EXPECT_EQ(proto.device(), "disk");
  EXPECT_EQ(proto.epoch(), 4u);
  EXPECT_EQ(proto.commits(), 12u);
  ASSERT_EQ(proto.queues_size(), 2);
  const v1::QueueFigures& busy = proto.queues(1);
  EXPECT_EQ(busy.queue(), 1u);
  EXPECT_EQ(busy.requests(), 100u);
  EXPECT_EQ(busy.errors(), 1u);
  EXPECT_EQ(busy.interrupts(), 2u);
  EXPECT_EQ(busy.kicks(), 3u);
  EXPECT_EQ(busy.resubmitted(), 4u);
  EXPECT_EQ(busy.poisoned(), 5u);
  EXPECT_EQ(busy.rings_broken(), 6u);
  EXPECT_EQ(busy.in_flight(), 7u);
  EXPECT_EQ(busy.last_answer_ago_us(), 2000u);
  EXPECT_EQ(busy.last_poisoned().head(), 17u);
  EXPECT_EQ(busy.last_poisoned().deaths(), 2u);
  EXPECT_EQ(busy.last_poisoned().ago_us(), 3000u);
}

TEST(Figures, WhatNeverHappenedIsAbsent) {
  const v1::SegmentFigures proto = ToProto(TwoQueues(), kNow);
  EXPECT_FALSE(proto.queues(0).has_last_answer_ago_us());
  EXPECT_FALSE(proto.queues(0).has_last_poisoned());
}

TEST(Figures, NonsenseOfOneQueueIsAnErrorInItsField) {
  SegmentFigures figures = TwoQueues();
  figures.queues[0].problem = "9 requests in flight, of 8 at most";
  EXPECT_THAT(ToProto(figures, kNow).queues(0).error(),
              HasSubstr("9 requests"));
  EXPECT_EQ(ToProto(figures, kNow).queues(1).requests(), 100u);
  for (uint64_t QueueStamp::*time :
       {&QueueStamp::progress_ns, &QueueStamp::poisoned_ns}) {
    figures = TwoQueues();
    figures.queues[1].stamp.*time = kNow + 1;
    const v1::QueueFigures queue = ToProto(figures, kNow).queues(1);
    EXPECT_THAT(queue.error(), HasSubstr("time that is to come"));
    EXPECT_EQ(queue.requests(), 0u);
  }
}

TEST(Figures, ErrorsOfTheCoreAreSaid) {
  EXPECT_EQ(FiguresOf(absl::NotFoundError("no instance 'd'")).error(),
            "no instance 'd'");
}

struct State {
  static constexpr SchemaId kSchema{"state", 1};
  Cell<uint64_t> number{"number"};
};

SegmentSpec OneQueue() {
  SegmentSpec spec;
  spec.device = "disk";
  spec.state = *DescribeState<State>();
  spec.queue_count = 1;
  spec.max_queue_size = 8;
  return spec;
}

TEST(Figures, AreReadFromASegmentThatIsInUse) {
  absl::StatusOr<UniqueFd> fd = CreateSegment(OneQueue());
  ASSERT_OK(fd);
  const auto owned = OpenSegment(*fd, OneQueue());
  ASSERT_OK(owned);
  Count(reinterpret_cast<QueueStats*>(
            owned->segment.section(SectionType::kStats).data())
            ->requests,
        3);
  const v1::SegmentFigures proto = FiguresOf(std::move(fd));
  EXPECT_EQ(proto.error(), "");
  ASSERT_EQ(proto.queues_size(), 1);
  EXPECT_EQ(proto.queues(0).requests(), 3u);
}

// What could shrink under the reader is not read at all.
TEST(Figures, OfADescriptorThatIsNoSegmentAreAnError) {
  absl::StatusOr<UniqueFd> open = UniqueFd(memfd_create("open", MFD_CLOEXEC));
  EXPECT_THAT(FiguresOf(std::move(open)).error(), HasSubstr("sealed"));
  EXPECT_NE(FiguresOf(UniqueFd()).error(), "");
  EXPECT_NE(FiguresOf(CreateSealedMemfd("empty", kPageSize)).error(), "");
}

TEST(Figures, OfGarbageAreAnErrorOrNumbersAndNoCrash) {
  std::mt19937_64 random(1);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    absl::StatusOr<UniqueFd> fd = CreateSegment(OneQueue());
    ASSERT_OK(fd);
    const auto size = FileSize(*fd);
    ASSERT_OK(size);
    const auto mapping = MapShared(*fd, 0, *size, MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    for (int j = 0; j < 64; ++j) {
      mapping->data()[random() % *size] = static_cast<uint8_t>(random());
    }
    const v1::SegmentFigures proto = FiguresOf(std::move(fd));
    refused += !proto.error().empty();
    EXPECT_LE(proto.queues_size(), 1);
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace holdfast::launcher

#include "devices/keeper/inflight_region.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using vhost_user::SessionState;

class InflightRegionTest : public ::testing::Test {
 protected:
  void Resize(uint16_t queue_size) { region_.Use(region_.Resized(queue_size)); }
  // The heads in flight of ring `queue`, as a back-end finds them.
  std::vector<uint16_t> InFlight(uint16_t queue, uint16_t num) {
    auto table = region_.Table(queue, num);
    if (!table.ok() || !table->InUse()) return {};
    std::vector<InflightRequest> found(num);
    const auto count = table->Recover(7, absl::MakeSpan(found));
    std::vector<uint16_t> heads;
    for (size_t i = 0; count.ok() && i < *count; ++i) {
      heads.push_back(found[i].head);
    }
    return heads;
  }
  void Take(uint16_t queue, uint16_t num, std::vector<uint16_t> heads) {
    auto table = region_.Table(queue, num);
    ASSERT_OK(table);
    table->Reset(7, 0);
    for (const uint16_t head : heads) table->Fetch(head);
  }

  alignas(8) std::array<uint8_t, InflightRegion::kBytes> memory_ = {};
  InflightRegion region_{memory_.data(), {}};
};

TEST_F(InflightRegionTest, ItHasNoTableBeforeItHasASize) {
  EXPECT_THAT(region_.Table(0, 1), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("no place")));
  region_.Forget(0);
  EXPECT_EQ(NeededQueueSize(SessionState{}, Agreement{}),
            InflightRegion::kMaxQueueSize);
}

TEST_F(InflightRegionTest, ALargerRingHasNoTable) {
  Resize(128);
  EXPECT_OK(region_.Table(0, 128));
  EXPECT_OK(region_.Table(15, 64));
  EXPECT_THAT(
      region_.Table(0, 256),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no place")));
  EXPECT_THAT(
      region_.Table(16, 128),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no place")));
}

TEST_F(InflightRegionTest, WhatIsInFlightIsSoInTheNextLayout) {
  Resize(128);
  Take(0, 128, {5, 127});
  Take(15, 64, {63, 2});
  for (const uint16_t size : {256, 1024, 128}) {
    Resize(size);
    EXPECT_EQ(InFlight(0, 128), std::vector<uint16_t>({5, 127})) << size;
    EXPECT_EQ(InFlight(15, 64), std::vector<uint16_t>({63, 2})) << size;
  }
}

// What a keeper that dies leaves behind when the layout is not committed.
TEST_F(InflightRegionTest, ALayoutThatDoesNotCountYetChangesNothing) {
  Resize(128);
  Take(0, 128, {5});
  const RegionLayout next = region_.Resized(256);
  EXPECT_NE(next.part, region_.layout().part);
  EXPECT_EQ(InFlight(0, 128), std::vector<uint16_t>({5}));
  const InflightRegion successor(memory_.data(), region_.layout());
  EXPECT_EQ(successor.layout().queue_size, 128);
  EXPECT_EQ(successor.offset(), region_.offset());
}

TEST_F(InflightRegionTest, AForgottenRingStaysForgotten) {
  Resize(128);
  Take(1, 128, {5});
  Take(2, 128, {6});
  region_.Forget(1);
  Resize(64);
  EXPECT_EQ(InFlight(1, 64), std::vector<uint16_t>());
  Resize(128);
  EXPECT_EQ(InFlight(1, 128), std::vector<uint16_t>());
}

TEST_F(InflightRegionTest, ThePartOfTheVmmIsLeftAlone) {
  std::fill_n(memory_.begin(), InflightRegion::kPartBytes, uint8_t{0xaa});
  for (const uint16_t size : {1024, 512, 1024}) {
    Resize(size);
    Take(15, size, {0});
    EXPECT_GE(region_.offset(), InflightRegion::kPartBytes);
    EXPECT_EQ(region_.offset() % 4096, 0u);
  }
  EXPECT_EQ(std::count(memory_.begin(), memory_.end(), uint8_t{0xaa}),
            static_cast<ptrdiff_t>(InflightRegion::kPartBytes));
}

TEST_F(InflightRegionTest, AnyLayoutStaysInside) {
  InflightRegion region(memory_.data(), {0xffff, 0xffff});
  EXPECT_EQ(region.layout().queue_size, InflightRegion::kMaxQueueSize);
  auto table = region.Table(15, InflightRegion::kMaxQueueSize);
  ASSERT_OK(table);
  table->Reset(0, 0);
  EXPECT_LE(region.offset() + InflightRegion::kPartBytes, memory_.size());
}

// Whatever a back-end has written there: it is copied and not followed.
TEST_F(InflightRegionTest, ScribbledTablesAreNoDanger) {
  std::fill(memory_.begin(), memory_.end(), uint8_t{0xff});
  region_.Use({128, 0});
  Resize(1024);
  Resize(16);
  region_.Forget(3);
  EXPECT_EQ(InFlight(3, 16), std::vector<uint16_t>());
}

SessionState Session() {
  SessionState session = {};
  session.regions[0] = {0, 1 << 20, 1 << 20, 0, 40, {}};
  return session;
}

void AddRing(SessionState& session, int queue, uint32_t num) {
  vhost_user::QueueState& ring = session.queues[queue];
  const uint64_t begin = (1 << 20) + queue * 0x10000;
  ring.descriptor = begin;
  ring.available = begin + 0x8000;
  ring.used = begin + 0xc000;
  ring.num = num;
  ring.has_address = 1;
  ring.started = 1;
}

TEST(NeededQueueSize, IsThatOfTheLargestRingThatRuns) {
  Agreement agreement;
  agreement.inflight_queues = 2;
  SessionState session = Session();
  EXPECT_EQ(NeededQueueSize(session, agreement), 0);
  AddRing(session, 0, 64);
  EXPECT_EQ(NeededQueueSize(session, agreement), 64);
  AddRing(session, 1, 256);
  EXPECT_EQ(NeededQueueSize(session, agreement), 256);
  // What a driver before has left.
  session.queues[1].started = 0;
  EXPECT_EQ(NeededQueueSize(session, agreement), 64);
}

// No back-end looks at it: nothing is to be stopped for a larger one.
TEST(NeededQueueSize, IsTheLargestWhereTheRegionIsTheKeepersAlone) {
  Agreement agreement;
  SessionState session = Session();
  AddRing(session, 0, 64);
  EXPECT_EQ(NeededQueueSize(session, agreement), InflightRegion::kMaxQueueSize);
  agreement.inflight_queues = 1;
  session.inflight.slot = 50;
  EXPECT_EQ(NeededQueueSize(session, agreement), InflightRegion::kMaxQueueSize);
}

TEST(PlaceInflight, SaysWhereItIs) {
  std::vector<uint64_t> memory(InflightRegion::kBytes / 8);
  const InflightRegion region(reinterpret_cast<uint8_t*>(memory.data()),
                              {256, 1});
  Agreement agreement;
  PlaceInflight(region, agreement);
  EXPECT_EQ(agreement.inflight_size, 0u);
  agreement.inflight_queues = 3;
  PlaceInflight(region, agreement);
  EXPECT_EQ(agreement.inflight_queue_size, 256);
  EXPECT_EQ(agreement.inflight_size, vhost_user::InflightSize(3, 256));
  EXPECT_EQ(agreement.inflight_offset, region.offset());
}

}  // namespace
}  // namespace holdfast::keeper

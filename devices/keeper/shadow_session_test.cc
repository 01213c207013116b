#include "devices/keeper/shadow_session.h"

#include "base/testing/matchers.h"
#include "devices/keeper/backend_plan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using vhost_user::kMaxRegions;
using vhost_user::RegionCount;
using vhost_user::RegionState;
using vhost_user::SessionState;

constexpr store::Slot kMemory = 17;
constexpr uint64_t kUser = 0x7f0000000000;

RegionState Region(uint64_t guest, uint64_t user, uint64_t size,
                   store::Slot slot) {
  RegionState region = {};
  region.guest_address = guest;
  region.user_address = user;
  region.size = size;
  region.slot = slot;
  return region;
}

// Ring 1 of two runs.
SessionState Running() {
  SessionState session = {};
  session.features_acked = 1;
  session.regions[0] = Region(0, kUser, 1 << 20, 40);
  for (uint16_t i = 0; i < 2; ++i) {
    auto& queue = session.queues[i];
    queue.num = 128;
    queue.descriptor = kUser + i * 0x10000;
    queue.available = queue.descriptor + 0x1000;
    queue.used = queue.descriptor + 0x2000;
    queue.base = 77;
    queue.has_address = 1;
    queue.enabled = 1;
    queue.kick = static_cast<store::Slot>(50 + i);
    queue.call = static_cast<store::Slot>(60 + i);
  }
  session.queues[1].started = 1;
  session.queues[1].address_flags = vhost_user::kVringFlagLog;
  session.queues[1].log_address = 0x2000;
  return session;
}

TEST(ShadowSession, HasOneMoreRegionAndTheKeepersRings) {
  const SessionState session = Running();
  const auto shadow = ShadowSession(session, kMemory);
  ASSERT_OK(shadow);
  ASSERT_EQ(RegionCount(*shadow), 2u);
  const RegionState& own = shadow->regions[1];
  EXPECT_EQ(own.slot, kMemory);
  EXPECT_EQ(own.size, kShadowBytes);
  EXPECT_FALSE(RingStarts(*shadow, 0));
  ASSERT_TRUE(RingStarts(*shadow, 1)) << "as told it lies in the memory";
  const auto& queue = shadow->queues[1];
  EXPECT_EQ(queue.descriptor, session.queues[1].descriptor);
  EXPECT_EQ(queue.available, own.user_address + ShadowAvailableAt(1));
  EXPECT_EQ(queue.used, own.user_address + ShadowUsedAt(1));
  EXPECT_EQ(queue.kick, ShadowKickSlot(1));
  EXPECT_EQ(queue.call, ShadowCallSlot(1));
  EXPECT_EQ(queue.enabled, 1);
  // The log is of the guest's ring.
  EXPECT_EQ(queue.address_flags, 0u);
  EXPECT_EQ(queue.log_address, 0u);
}

TEST(ShadowSession, RingsDoNotOverlapAndFit) {
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    EXPECT_GE(ShadowUsedAt(i),
              ShadowAvailableAt(i) +
                  vring::AvailableBytes(InflightRegion::kMaxQueueSize, true));
    EXPECT_GE(ShadowAvailableAt(i + 1),
              ShadowUsedAt(i) +
                  vring::UsedBytes(InflightRegion::kMaxQueueSize, true));
    EXPECT_GE(ShadowKickSlot(i), store::kSlotCount);
  }
  EXPECT_EQ(ShadowAvailableAt(vhost_user::kMaxQueues), kShadowBytes);
}

// A call that the VMM replaces is not the back-end's affair, nor is memory that
// it adds any reason to move the rings.
TEST(ShadowSession, StaysWhereItIs) {
  SessionState session = Running();
  const SessionState before = *ShadowSession(session, kMemory);
  session.queues[1].call = 70;
  session.regions[1] = Region(1 << 30, kUser + (1 << 30), 1 << 20, 41);
  const auto shadow = ShadowSession(session, kMemory);
  ASSERT_OK(shadow);
  EXPECT_EQ(shadow->queues[1].call, before.queues[1].call);
  EXPECT_EQ(shadow->queues[1].available, before.queues[1].available);
  EXPECT_EQ(shadow->regions[2].guest_address, before.regions[1].guest_address);
}

TEST(ShadowSession, ARingOutsideTheGuestsMemoryDoesNotStart) {
  SessionState session = Running();
  session.queues[1].available = kUser + (2 << 20);
  const auto shadow = ShadowSession(session, kMemory);
  ASSERT_OK(shadow);
  EXPECT_FALSE(RingStarts(*shadow, 1));
}

TEST(ShadowSession, WithoutMemoryThereIsNone) {
  const auto shadow = ShadowSession(SessionState{}, kMemory);
  ASSERT_OK(shadow);
  EXPECT_EQ(RegionCount(*shadow), 0u);
}

TEST(ShadowSession, GivesWayToMemoryThatIsThere) {
  SessionState session = Running();
  const SessionState before = *ShadowSession(session, kMemory);
  session.regions[1] =
      Region(before.regions[1].guest_address, kUser + (1 << 30), 1 << 20, 41);
  session.regions[2] = Region(
      1 << 30, before.regions[1].user_address + (uint64_t{1} << 40), 4096, 42);
  const auto shadow = ShadowSession(session, kMemory);
  ASSERT_OK(shadow);
  const RegionState& own = shadow->regions[3];
  EXPECT_GE(own.guest_address, session.regions[1].guest_address + (1 << 20));
  EXPECT_GE(own.user_address, session.regions[2].user_address + 4096);
  EXPECT_TRUE(RingStarts(*shadow, 1));
}

TEST(ShadowSession, NoRoomIsAnError) {
  SessionState session = Running();
  session.regions[1] =
      Region(uint64_t{1} << 50, kUser + (1 << 30), uint64_t{1} << 63, 41);
  EXPECT_THAT(ShadowSession(session, kMemory),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no ")));
  session = Running();
  for (size_t i = 1; i < kMaxRegions; ++i) {
    session.regions[i] = Region(i << 30, kUser + (i << 30), 4096,
                                static_cast<store::Slot>(40 + i));
  }
  EXPECT_THAT(ShadowSession(session, kMemory),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no ")));
}

}  // namespace
}  // namespace holdfast::keeper

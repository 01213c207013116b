// The in-flight region that back-ends are given follows the size of the rings.

#include <algorithm>
#include <string>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "devices/keeper/inflight_region.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/inflight.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using testing::FakeBackend;
using testing::FrontEnd;
using testing::KeeperTest;
using ::testing::Not;
using vhost_user::BytesOf;
using vhost_user::RequestType;
using vhost_user::VringAddress;
using vhost_user::VringState;

class KeeperInflightTest : public KeeperTest {
 protected:
  // A VMM that asks for no region: two queues, of which ring 0 runs.
  void StartOne(uint16_t size) {
    ASSERT_OK(rig_.Run());
    Connect(size);
  }
  void Connect(uint16_t size) {
    FrontEnd::Options options;
    options.queues = 2;
    options.queue_size = size;
    options.inflight = false;
    vmm_ = rig_.Connect(options);
    ASSERT_OK(vmm_->Negotiate());
    ASSERT_OK(vmm_->ShareInflight());
    ASSERT_OK(vmm_->ShareMemory());
    ASSERT_OK(vmm_->StartQueue(0));
  }
  // Ring 1, of another size than the driver's, which this only looks at.
  absl::Status SizeOther(uint32_t num) {
    return vmm_->Command(RequestType::kSetVringNum,
                         BytesOf(VringState{1, num}));
  }
  absl::Status StartOther(uint32_t num) {
    if (const absl::Status sized = SizeOther(num); !sized.ok()) return sized;
    const uint64_t begin = FrontEnd::kUserAddress + (1 << 20);
    VringAddress address = {};
    address.index = 1;
    address.descriptor = begin;
    address.available = begin + 0x8000;
    address.used = begin + 0xc000;
    if (const absl::Status status =
            vmm_->Command(RequestType::kSetVringAddr, BytesOf(address));
        !status.ok()) {
      return status;
    }
    const int kick = vmm_->memory_fd().get();  // Any descriptor will do.
    return vmm_->Command(RequestType::kSetVringKick, BytesOf(uint64_t{1}),
                         {&kick, 1});
  }
  static std::vector<uint16_t> Sizes(FakeBackend& life) {
    std::vector<uint16_t> sizes;
    for (const auto& region : life.regions()) {
      sizes.push_back(region.queue_size);
    }
    return sizes;
  }
};

using Sizes16 = std::vector<uint16_t>;

TEST_F(KeeperInflightTest, IsAsLargeAsTheRings) {
  FakeBackend& life = NewLife();
  StartOne(128);
  ASSERT_TRUE(Whole(life));
  ASSERT_EQ(Sizes(life), Sizes16({128}));
  const auto region = life.regions().front();
  EXPECT_EQ(region.queue_count, 2);
  EXPECT_EQ(region.mmap_size, vhost_user::InflightSize(2, 128));
  // The next life is given the same one.
  life.End();
  FakeBackend& second = NewLife();
  ASSERT_TRUE(Whole(second));
  ASSERT_EQ(Sizes(second), Sizes16({128}));
  EXPECT_EQ(second.regions().front().mmap_offset, region.mmap_offset);
}

TEST_F(KeeperInflightTest, FollowsADriverThatChoosesAnotherSize) {
  FakeBackend& life = NewLife();
  StartOne(64);
  ASSERT_TRUE(Whole(life));
  ASSERT_OK(vmm_->StopQueue(0));
  ASSERT_OK(
      vmm_->Command(RequestType::kSetVringNum, BytesOf(VringState{0, 16})));
  const int kick = vmm_->memory_fd().get();
  ASSERT_OK(vmm_->Command(RequestType::kSetVringKick, BytesOf(uint64_t{0}),
                          {&kick, 1}));
  ASSERT_EQ(Sizes(life), Sizes16({64, 16}));
  EXPECT_NE(life.regions()[0].mmap_offset, life.regions()[1].mmap_offset);
}

TEST_F(KeeperInflightTest, ASmallerRingFindsRoomInIt) {
  FakeBackend& life = NewLife();
  StartOne(128);
  ASSERT_TRUE(Whole(life));
  ASSERT_OK(StartOther(32));
  EXPECT_TRUE(life.WaitFor("SET_VRING_KICK 1 +1"));
  EXPECT_EQ(Sizes(life), Sizes16({128}));
}

// Another table cannot be given to a ring that runs, nor to one that a back-end
// has stopped: it may have requests in hand.
TEST_F(KeeperInflightTest, ALargerRingNeedsAnotherLife) {
  FakeBackend& life = NewLife();
  StartOne(128);
  ASSERT_TRUE(Whole(life));
  ASSERT_OK(StartOther(512));
  AwaitGivenUp();
  EXPECT_EQ(Sizes(life), Sizes16({128}));
  EXPECT_THAT(life.told(), Not(Contains("GET_VRING_BASE 0")));
  FakeBackend& second = NewLife();
  ASSERT_TRUE(second.WaitFor("SET_VRING_KICK 1 +1"));
  EXPECT_TRUE(Whole(second));
  EXPECT_EQ(Sizes(second), Sizes16({512}));
}

// What ring 0 has in flight then is there for the next one.
TEST_F(KeeperInflightTest, WhatIsInFlightIsInTheLargerTable) {
  FakeBackend& first = NewLife();
  StartOne(128);
  ASSERT_TRUE(Whole(first));
  const auto given = first.regions().front();
  auto memory = MapShared(BorrowedFd(first.fd_of(RequestType::kSetInflightFd)),
                          0, InflightRegion::kBytes, MapAccess::kReadWrite);
  ASSERT_OK(memory);
  const auto table_in = [&](const vhost_user::InflightDescription& region) {
    return InflightTable::Attach(
               memory->span().subspan(region.mmap_offset,
                                      InflightRegionSize(region.queue_size)),
               128)
        .value();
  };
  table_in(given).Fetch(77);
  ASSERT_OK(StartOther(1024));
  AwaitGivenUp();
  FakeBackend& second = NewLife();
  ASSERT_TRUE(second.WaitFor("SET_VRING_KICK 1 +1"));
  ASSERT_EQ(Sizes(second), Sizes16({1024}));
  InflightTable table = table_in(second.regions().front());
  EXPECT_TRUE(table.InUse());
  std::vector<InflightRequest> found(128);
  EXPECT_THAT(table.Recover(0, absl::MakeSpan(found)),
              holdfast::testing::IsOkAndHolds(1u));
  EXPECT_EQ(found[0].head, 77);
  // Ring 1 has no call: nobody else was written to instead.
  EXPECT_OK(vmm_->AskNumber(RequestType::kGetFeatures));
}

TEST_F(KeeperInflightTest, ANewKeeperKnowsWhereItIs) {
  FakeBackend& life = NewLife();
  StartOne(128);
  ASSERT_TRUE(Whole(life));
  rig_.Die();
  ASSERT_OK(rig_.Run());
  ASSERT_OK(vmm_->ReplaceCall(0));
  life.End();
  FakeBackend& second = NewLife();
  ASSERT_TRUE(Whole(second));
  ASSERT_EQ(Sizes(second), Sizes16({128}));
  EXPECT_EQ(second.regions()[0].mmap_offset, life.regions()[0].mmap_offset);
}

// A ring that no region has room for never comes to the back-end.
TEST_F(KeeperInflightTest, ARingThatIsTooLargeIsRefused) {
  FakeBackend& life = NewLife();
  StartOne(128);
  ASSERT_TRUE(Whole(life));
  EXPECT_FALSE(SizeOther(2048).ok());
}

}  // namespace
}  // namespace holdfast::keeper

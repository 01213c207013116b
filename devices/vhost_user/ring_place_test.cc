#include "devices/vhost_user/ring_place.h"

#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/virtio_ids.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::StatusIs;

constexpr uint64_t kUser = 0x700000;
constexpr size_t kBytes = 4096;

class RingPlaceTest : public ::testing::Test {
 protected:
  RingPlaceTest() {
    session_.features = virtio::kFeatureRingEventIdx;
    QueueState& queue = session_.queues[1];
    queue.num = 8;
    queue.descriptor = kUser;
    queue.available = kUser + 512;
    queue.used = kUser + 1024;
  }
  absl::StatusOr<SplitRingConfig> Place() {
    return PlaceOf(session_, 1,
                   *GuestMemory::Create({{GuestAddress{0x1000}, kBytes,
                                          UserAddress{kUser}, begin()}}));
  }
  uint8_t* begin() { return reinterpret_cast<uint8_t*>(memory_.data()); }

  std::vector<uint64_t> memory_ = std::vector<uint64_t>(kBytes / 8);
  SessionState session_ = {};
};

TEST_F(RingPlaceTest, IsInTheMemoryWithWhatWasNegotiated) {
  const auto place = Place();
  ASSERT_OK(place);
  EXPECT_EQ(place->size, 8);
  EXPECT_EQ(place->descriptors, begin());
  EXPECT_EQ(place->available, begin() + 512);
  EXPECT_EQ(place->used, begin() + 1024);
  EXPECT_TRUE(place->event_idx);
  EXPECT_FALSE(place->indirect);
}

TEST_F(RingPlaceTest, EveryPartMustBeInsideAsAWhole) {
  for (uint64_t QueueState::*part :
       {&QueueState::descriptor, &QueueState::available, &QueueState::used}) {
    const uint64_t good = session_.queues[1].*part;
    session_.queues[1].*part = kUser + kBytes - 8;
    EXPECT_THAT(Place(), StatusIs(absl::StatusCode::kInvalidArgument,
                                  ::testing::HasSubstr("ring 1 lies")));
    session_.queues[1].*part = good;
  }
  EXPECT_OK(Place());
}

// The last two bytes exist only with the event index.
TEST_F(RingPlaceTest, AsLargeAsWasNegotiated) {
  session_.queues[1].available = kUser + kBytes - 4 - 2 * 8;
  EXPECT_FALSE(Place().ok());
  session_.features = 0;
  EXPECT_OK(Place());
}

}  // namespace
}  // namespace holdfast::vhost_user

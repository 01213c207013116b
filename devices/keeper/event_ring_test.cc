#include "devices/keeper/event_ring.h"

#include <array>
#include <cstring>
#include <functional>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/virtqueue/vring_layout.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kGuest = 0x10000;
constexpr uint64_t kUser = 0x7f0000;
constexpr uint8_t kEvent[] = {1, 2, 3, 4};

class EventRingTest : public ::testing::Test {
 protected:
  static constexpr uint16_t kNum = 8;
  // A ring that has come around, with two buffers in it.
  EventRingTest() {
    ring_.num = kNum;
    ring_.descriptor = kUser;
    ring_.available = kUser + 0x200;
    ring_.used = kUser + 0x400;
    available().idx = 1;  // After 0xffff and 0.
    used().idx = 0xffff;
    heads()[7] = 3;
    heads()[0] = 5;
    descriptors()[3] = {kGuest + 0x800, 4, vring::kWrite, 0};
    descriptors()[5] = {kGuest + 0x900, 8, vring::kWrite, 0};
  }
  vring::Descriptor* descriptors() {
    return reinterpret_cast<vring::Descriptor*>(bytes_.data());
  }
  vring::Available& available() {
    return *reinterpret_cast<vring::Available*>(bytes_.data() + 0x200);
  }
  uint16_t* heads() { return reinterpret_cast<uint16_t*>(&available() + 1); }
  vring::Used& used() {
    return *reinterpret_cast<vring::Used*>(bytes_.data() + 0x400);
  }
  vring::UsedElement* answers() {
    return reinterpret_cast<vring::UsedElement*>(&used() + 1);
  }
  absl::StatusOr<bool> Put() {
    const auto memory =
        GuestMemory::Create({{GuestAddress{kGuest}, bytes_.size(),
                              UserAddress{kUser}, bytes_.data()}});
    return PutEvent(*memory, ring_, kEvent);
  }
  void ExpectRefused(const char* why) {
    const auto before = bytes_;
    EXPECT_THAT(Put(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
    EXPECT_EQ(bytes_, before);
  }

  alignas(16) std::array<uint8_t, 0x1000> bytes_ = {};
  vhost_user::QueueState ring_ = {};
};

TEST_F(EventRingTest, TheOldestBufferIsAnswered) {
  EXPECT_THAT(Put(), IsOkAndHolds(true));
  EXPECT_EQ(used().idx, 0);
  EXPECT_EQ(answers()[7].id, 3u);
  EXPECT_EQ(answers()[7].size, 4u);
  EXPECT_EQ(std::memcmp(bytes_.data() + 0x800, kEvent, 4), 0);
  EXPECT_THAT(Put(), IsOkAndHolds(true));
  EXPECT_EQ(used().idx, 1);
  EXPECT_EQ(answers()[0].id, 5u);
  EXPECT_EQ(std::memcmp(bytes_.data() + 0x900, kEvent, 4), 0);
}

TEST_F(EventRingTest, WithoutABufferNothingIsWritten) {
  available().idx = 0xffff;
  const auto before = bytes_;
  EXPECT_THAT(Put(), IsOkAndHolds(false));
  EXPECT_EQ(bytes_, before);
}

TEST_F(EventRingTest, MoreRequestsThanDescriptorsAreRefused) {
  available().idx = 8;
  ExpectRefused("has 9 requests");
}

TEST_F(EventRingTest, ADescriptorThatIsNoneIsRefused) {
  heads()[7] = 8;
  ExpectRefused("names descriptor 8");
}

TEST_F(EventRingTest, ABufferThatIsNotForEventsIsRefused) {
  const vring::Descriptor good = descriptors()[3];
  for (const vring::Descriptor& bad :
       {vring::Descriptor{good.address, 4, 0, 0},
        vring::Descriptor{good.address, 4, vring::kWrite | vring::kIndirect, 0},
        vring::Descriptor{good.address, 3, vring::kWrite, 0},
        vring::Descriptor{kGuest + 0xffd, 4, vring::kWrite, 0},
        vring::Descriptor{kGuest - 1, 4, vring::kWrite, 0},
        vring::Descriptor{~uint64_t{0}, 4, vring::kWrite, 0}}) {
    descriptors()[3] = bad;
    ExpectRefused("not for events");
  }
}

TEST_F(EventRingTest, ARingElsewhereIsRefused) {
  const vhost_user::QueueState good = ring_;
  for (const auto& move : std::vector<std::function<void()>>{
           [&] { ring_.descriptor = kUser + 0xff0; },
           [&] { ring_.available = kUser - 2; },
           [&] { ring_.used = kUser + 0x1000; },
           [&] { ring_.used = kUser + 0x401; }, [&] { ring_.num = 0x8000; }}) {
    ring_ = good;
    move();
    ExpectRefused("outside the guest's memory");
  }
  ring_.num = 0;
  ExpectRefused("no size");
}

}  // namespace
}  // namespace holdfast::keeper

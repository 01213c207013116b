// A guest whose VMM passes virtio-vsock's event queue on is told that its
// connections ended with a life.

#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/keeper/testing/keeper_fixture.h"
#include "devices/virtqueue/vring_layout.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::keeper {
namespace {

using ::testing::Contains;
using testing::FakeBackend;
using testing::FrontEnd;
using testing::KeeperTest;

constexpr uint16_t kEventQueue = 2;

BackendTraits Vsock(uint16_t reset_queue) {
  BackendTraits traits;
  traits.tracking = Tracking::kInOrder;
  traits.reset_queue = reset_queue;
  return traits;
}

class KeeperResetTest : public KeeperTest {
 protected:
  explicit KeeperResetTest(uint16_t reset_queue = kEventQueue)
      : KeeperTest(Vsock(reset_queue)) {}

  FakeBackend& NextLife() {
    FakeBackend::Options options;
    options.queues = 3;
    return NewLife(options);
  }
  // The driver has put `buffers` of 8 bytes into its event queue.
  FakeBackend& StartWith(int buffers) {
    FakeBackend& life = NextLife();
    FrontEnd::Options options;
    options.queues = 3;
    EXPECT_OK(rig_.Run());
    vmm_ = rig_.Connect(options);
    EXPECT_OK(vmm_->Start());
    for (int i = 0; i < buffers; ++i) {
      EXPECT_TRUE(vmm_->driver(kEventQueue)
                      .Post({FrontEnd::Buffer::Writable(8)})
                      .has_value());
    }
    EXPECT_TRUE(life.WaitFor("SET_VRING_ENABLE 2 1"));
    return life;
  }
  std::vector<FrontEnd::Answer> Events() {
    return vmm_->driver(kEventQueue).Collect();
  }
};

TEST_F(KeeperResetTest, TheNextLifeBeginsWithAnEvent) {
  FakeBackend& first = StartWith(2);
  EXPECT_TRUE(Events().empty());
  first.End();
  FakeBackend& second = NextLife();
  ASSERT_TRUE(second.WaitFor("SET_VRING_ENABLE 2 1"));
  EXPECT_OK(vmm_->WaitForCall(kEventQueue));
  const auto events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].written, 4u);
  EXPECT_EQ(events[0].data, std::vector<uint8_t>(8, 0));
  // The next process does not answer it again.
  EXPECT_THAT(second.told(), Contains("SET_VRING_BASE 2 1"));
  second.End();
  FakeBackend& third = NextLife();
  ASSERT_TRUE(third.WaitFor("SET_VRING_ENABLE 2 1"));
  EXPECT_EQ(Events().size(), 1u);
  EXPECT_THAT(third.told(), Contains("SET_VRING_BASE 2 2"));
}

TEST_F(KeeperResetTest, AGuestWithoutABufferIsNotTold) {
  FakeBackend& first = StartWith(0);
  first.End();
  FakeBackend& second = NextLife();
  ASSERT_TRUE(second.WaitFor("SET_VRING_ENABLE 2 1"));
  EXPECT_TRUE(Events().empty());
  EXPECT_THAT(second.told(), Contains("SET_VRING_BASE 2 0"));
}

// A guest that breaks its own ring has its device all the same.
TEST_F(KeeperResetTest, ABrokenEventRingIsPassedOn) {
  FakeBackend& first = StartWith(1);
  // Every descriptor of the queue's part of memory, whatever else is there.
  const auto part = vmm_->memory().subspan(size_t{kEventQueue} << 20, 1 << 20);
  for (size_t i = 0; i < 128 * sizeof(vring::Descriptor); ++i) part[i] = 0xff;
  first.End();
  FakeBackend& second = NextLife();
  ASSERT_TRUE(second.WaitFor("SET_VRING_ENABLE 2 1"));
}

class NoResetTest : public KeeperResetTest {
 protected:
  NoResetTest() : KeeperResetTest(0) {}
};

TEST_F(NoResetTest, WithoutTheOptionTheQueueIsLeftAlone) {
  FakeBackend& first = StartWith(2);
  first.End();
  FakeBackend& second = NextLife();
  ASSERT_TRUE(second.WaitFor("SET_VRING_ENABLE 2 1"));
  EXPECT_TRUE(Events().empty());
  EXPECT_THAT(second.told(), Contains("SET_VRING_BASE 2 0"));
}

}  // namespace
}  // namespace holdfast::keeper

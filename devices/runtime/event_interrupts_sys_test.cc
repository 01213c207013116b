#include "devices/runtime/event_interrupts_sys.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

// One level and two messages, of which the second kind has the slots below.
constexpr store::Slot kLevel = store::kSlotFirstSession;
constexpr store::Slot kUnmask = kLevel + 1;
constexpr store::Slot kMessage = kLevel + 2;

class EventInterruptsTest : public ::testing::Test {
 protected:
  EventInterruptsTest() {
    interrupts_.Describe({{1, true}, {}, {2, false}});
    for (store::Slot slot : {kLevel, kUnmask, kMessage}) {
      slots_.Set(slot, UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
    }
    state_.vectors[0].trigger = kLevel;
    state_.vectors[2].trigger = kMessage;
    Apply();
    open_.clear();
  }

  void Apply() {
    interrupts_.Apply(state_, slots_, [this](uint32_t irq, uint32_t vector) {
      open_.emplace_back(irq, vector);
    });
  }
  // Signals since the last call.
  uint64_t Taken(store::Slot slot) {
    uint64_t count = 0;
    return read(slots_.Get(slot).get(), &count, sizeof(count)) < 0 ? 0 : count;
  }

  DescriptorSlots slots_;
  vfio_user::SessionState state_{};
  std::vector<std::pair<uint32_t, uint32_t>> open_;
  EventInterrupts interrupts_;
};

TEST_F(EventInterruptsTest, MessagesGoEachTime) {
  interrupts_.Signal(2, 1);
  interrupts_.Signal(2, 1);
  EXPECT_EQ(Taken(kMessage), 2u);
  EXPECT_EQ(Taken(kLevel), 0u);
}

TEST_F(EventInterruptsTest, WhatNobodyListensToOrDoesNotExistIsNothing) {
  interrupts_.Signal(2, 0);
  interrupts_.Signal(2, 2);
  interrupts_.Signal(1, 0);
  interrupts_.Signal(9, 0);
  EXPECT_FALSE(interrupts_.LetThrough(9, 0));
  EventInterrupts undescribed;
  undescribed.Signal(0, 0);
  EXPECT_EQ(Taken(kMessage) + Taken(kLevel), 0u);
}

TEST_F(EventInterruptsTest, ALevelGoesOnceUntilItIsLetThrough) {
  interrupts_.Signal(0, 0);
  interrupts_.Signal(0, 0);
  EXPECT_EQ(Taken(kLevel), 1u);
  EXPECT_TRUE(interrupts_.LetThrough(0, 0));
  interrupts_.Signal(0, 0);
  EXPECT_EQ(Taken(kLevel), 1u);
}

TEST_F(EventInterruptsTest, ALevelThatTheVmmMasksWaits) {
  state_.vectors[0].masked = 1;
  Apply();
  interrupts_.Signal(0, 0);
  EXPECT_FALSE(interrupts_.LetThrough(0, 0));
  EXPECT_EQ(Taken(kLevel), 0u);
  EXPECT_TRUE(open_.empty());
  // Unmasked, the device is asked whether it is still asserted.
  state_.vectors[0].masked = 0;
  Apply();
  ASSERT_EQ(open_.size(), 1u);
  EXPECT_EQ(open_[0], std::make_pair(0u, 0u));
  interrupts_.Signal(0, 0);
  EXPECT_EQ(Taken(kLevel), 1u);
}

TEST_F(EventInterruptsTest, ALevelThatGetsAListenerIsAskedFor) {
  state_.vectors[0].trigger = 0;
  Apply();
  EXPECT_TRUE(open_.empty());
  interrupts_.Signal(0, 0);
  state_.vectors[0].trigger = kLevel;
  Apply();
  EXPECT_EQ(open_.size(), 1u);
}

// As KVM's irqfd with resampling does.
TEST_F(EventInterruptsTest, ALevelIsLetThroughByDescriptor) {
  EXPECT_FALSE(interrupts_.unmask_event().valid());
  state_.vectors[0].unmask = kUnmask;
  Apply();
  ASSERT_EQ(interrupts_.unmask_event().get(), slots_.Get(kUnmask).get());
  interrupts_.Signal(0, 0);
  int asked = 0;
  const auto ask = [&](uint32_t, uint32_t) { ++asked; };
  interrupts_.TakeUnmask(ask);
  EXPECT_EQ(asked, 0);
  eventfd_write(slots_.Get(kUnmask).get(), 1);
  interrupts_.TakeUnmask(ask);
  EXPECT_EQ(asked, 1);
  interrupts_.Signal(0, 0);
  EXPECT_EQ(Taken(kLevel), 2u);
}

// Nobody can stop the device with a descriptor that takes nothing.
TEST_F(EventInterruptsTest, AFullDescriptorIsNotWaitedFor) {
  slots_.Set(kMessage, UniqueFd(eventfd(0, EFD_CLOEXEC)));
  Apply();
  eventfd_write(slots_.Get(kMessage).get(), UINT64_MAX - 1);
  interrupts_.Signal(2, 1);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  fcntl(ends[1], F_SETPIPE_SZ, 4096);
  const std::string page(4096, '.');
  ASSERT_EQ(write(ends[1], page.data(), page.size()), 4096);
  slots_.Set(kMessage, UniqueFd(ends[1]));
  Apply();
  interrupts_.Signal(2, 1);
}

}  // namespace
}  // namespace holdfast

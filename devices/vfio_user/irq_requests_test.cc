// Interrupts: every combination of data, action, count and descriptors.

#include <cerrno>

#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

constexpr uint32_t kNone = kIrqDataNone;
constexpr uint32_t kBool = kIrqDataBool;
constexpr uint32_t kFd = kIrqDataEventFd;
constexpr uint32_t kMask = kIrqActionMask;
constexpr uint32_t kUnmask = kIrqActionUnmask;
constexpr uint32_t kTrigger = kIrqActionTrigger;
constexpr store::Slot kFirst = store::kSlotFirstSession;

// INTx is vector 0, MSI has none, MSI-X are 1 to 4, the error is 5.
class IrqRequests : public ::testing::Test {
 protected:
  void SetUp() override {
    session_.serving.max_transfer = 4096;  // Less to copy.
    ASSERT_OK(session_.Negotiate());
  }

  static Bytes Payload(uint32_t flags, uint32_t index, uint32_t start,
                       uint32_t count, const Bytes& booleans = {}) {
    return Join(Join(IrqSet{static_cast<uint32_t>(20 + booleans.size()), flags,
                            index, start, count}),
                booleans);
  }
  uint32_t Set(uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
               size_t fds = 0, const Bytes& booleans = {}) {
    return session_.ErrorOf(Command::kDeviceSetIrqs,
                            Payload(flags, index, start, count, booleans), fds);
  }
  Afterwards After(uint32_t flags, uint32_t index, uint32_t start,
                   uint32_t count) {
    return session_
        .Send(Command::kDeviceSetIrqs, Payload(flags, index, start, count))
        ->decision.afterwards;
  }
  const VectorState& vector(size_t i) const {
    return session_.state.vectors[i];
  }

  TestSession session_;
};

TEST_F(IrqRequests, InfoOfEveryKind) {
  const auto info = [&](uint32_t index) {
    return session_.Send(Command::kDeviceGetIrqInfo,
                         Join(IrqInfo{16, 0, index, 0}));
  };
  EXPECT_EQ(
      info(0)->payload(),
      Join(IrqInfo{16, kIrqEventFd | kIrqMaskable | kIrqAutomasked, 0, 1}));
  EXPECT_EQ(info(1)->payload(), Join(IrqInfo{16, kIrqEventFd, 1, 0}));
  EXPECT_EQ(info(2)->payload(), Join(IrqInfo{16, kIrqEventFd, 2, 4}));
  EXPECT_EQ(info(5)->error(), EINVAL);
  EXPECT_EQ(info(0xffffffff)->error(), EINVAL);
}

TEST_F(IrqRequests, DescriptorsAreSetForARange) {
  EXPECT_EQ(Set(kFd | kTrigger, 2, 1, 2, 2), 0u);
  EXPECT_EQ(vector(1).trigger, 0);
  EXPECT_EQ(vector(2).trigger, kFirst);
  EXPECT_EQ(vector(3).trigger, kFirst + 1);
  EXPECT_EQ(vector(4).trigger, 0);
}

TEST_F(IrqRequests, NewDescriptorsReplaceOldOnes) {
  ASSERT_EQ(Set(kFd | kTrigger, 2, 0, 2, 2), 0u);
  ASSERT_EQ(Set(kFd | kTrigger, 2, 0, 2, 2), 0u);
  EXPECT_EQ(vector(1).trigger, kFirst + 2);
  EXPECT_EQ(vector(2).trigger, kFirst + 3);
  ASSERT_EQ(Set(kFd | kTrigger, 2, 0, 2, 2), 0u);
  EXPECT_EQ(vector(1).trigger, kFirst);
}

// So does QEMU when a driver enables MSI-X.
TEST_F(IrqRequests, WithoutDescriptorsARangeIsTakenAway) {
  ASSERT_EQ(Set(kFd | kTrigger, 2, 0, 4, 4), 0u);
  EXPECT_EQ(Set(kFd | kTrigger, 2, 2, 2, 0), 0u);
  EXPECT_NE(vector(1).trigger, 0);
  EXPECT_NE(vector(2).trigger, 0);
  EXPECT_EQ(vector(3).trigger, 0);
  EXPECT_EQ(vector(4).trigger, 0);
}

TEST_F(IrqRequests, ACountOfZeroTakesAllOfAKindAway) {
  ASSERT_EQ(Set(kFd | kTrigger, 0, 0, 1, 1), 0u);
  ASSERT_EQ(Set(kFd | kUnmask, 0, 0, 1, 1), 0u);
  ASSERT_EQ(Set(kFd | kTrigger, 2, 0, 4, 4), 0u);
  EXPECT_EQ(Set(kNone | kTrigger, 2, 0, 0), 0u);
  for (size_t i = 1; i <= 4; ++i) EXPECT_EQ(vector(i).trigger, 0);
  EXPECT_NE(vector(0).trigger, 0);
  EXPECT_EQ(Set(kNone | kTrigger, 0, 0, 0), 0u);
  EXPECT_EQ(vector(0).trigger, 0);
  EXPECT_EQ(vector(0).unmask, 0);
}

TEST_F(IrqRequests, ALevelHasDescriptorsForMaskAndUnmask) {
  ASSERT_EQ(Set(kFd | kTrigger, 0, 0, 1, 1), 0u);
  EXPECT_EQ(Set(kFd | kMask, 0, 0, 1, 1), 0u);
  EXPECT_EQ(Set(kFd | kUnmask, 0, 0, 1, 1), 0u);
  EXPECT_EQ(vector(0).trigger, kFirst);
  EXPECT_EQ(vector(0).mask, kFirst + 1);
  EXPECT_EQ(vector(0).unmask, kFirst + 2);
  EXPECT_EQ(Set(kFd | kUnmask, 0, 0, 1, 0), 0u);
  EXPECT_EQ(vector(0).unmask, 0);
  EXPECT_EQ(vector(0).trigger, kFirst);
}

TEST_F(IrqRequests, ALevelIsMaskedAndLetThrough) {
  EXPECT_EQ(Set(kNone | kMask, 0, 0, 1), 0u);
  EXPECT_EQ(vector(0).masked, 1);
  const Afterwards after = After(kNone | kUnmask, 0, 0, 1);
  EXPECT_EQ(vector(0).masked, 0);
  EXPECT_EQ(after.kind, Afterwards::Kind::kUnmask);
  EXPECT_EQ(after.irq, 0u);
  EXPECT_EQ(after.count, 1u);
  EXPECT_EQ(Set(kBool | kMask, 0, 0, 1, 0, {1}), 0u);
  EXPECT_EQ(vector(0).masked, 1);
  EXPECT_EQ(Set(kBool | kUnmask, 0, 0, 1, 0, {0}), 0u);
  EXPECT_EQ(vector(0).masked, 1);
}

TEST_F(IrqRequests, TheClientCanSignal) {
  const Afterwards after = After(kNone | kTrigger, 2, 1, 3);
  EXPECT_EQ(after.kind, Afterwards::Kind::kSignal);
  EXPECT_EQ(after.irq, 2u);
  EXPECT_EQ(after.start, 1u);
  EXPECT_EQ(after.count, 3u);
  EXPECT_TRUE(after.which.empty());
}

// For a successor, until the next message.
TEST_F(IrqRequests, WhatIsToBeDoneAfterwardsIsPartOfTheState) {
  (void)After(kNone | kTrigger, 2, 1, 3);
  const Afterwards after = AfterwardsOf(session_.state);
  EXPECT_EQ(after.kind, Afterwards::Kind::kSignal);
  EXPECT_EQ(after.irq, 2u);
  EXPECT_EQ(after.start, 1u);
  EXPECT_EQ(after.count, 3u);
  (void)session_.Send(Command::kDeviceGetInfo, Join(DeviceInfo{16, 0, 0, 0}));
  EXPECT_EQ(AfterwardsOf(session_.state).kind, Afterwards::Kind::kNothing);
}

TEST_F(IrqRequests, TheClientCanSignalSome) {
  const Bytes message = CommandMessage(
      Command::kDeviceSetIrqs, Payload(kBool | kTrigger, 2, 0, 3, {1, 0, 1}));
  const auto outcome = session_.Deliver(message);
  EXPECT_EQ(outcome->decision.afterwards.kind, Afterwards::Kind::kSignal);
  EXPECT_THAT(outcome->decision.afterwards.which,
              ::testing::ElementsAre(1, 0, 1));
}

// The table of all flags, with no descriptor, one, and another number, for a
// level and for messages. A count of 1, then of 0.
TEST_F(IrqRequests, OfAllCombinationsOnlyTheListedOnesAreTaken) {
  for (uint32_t flags = 0; flags < 128; ++flags) {
    const bool one_data = __builtin_popcount(flags & kIrqDataMask) == 1;
    const bool one_action = __builtin_popcount(flags & kIrqActionsMask) == 1;
    const bool known = one_data && one_action && flags < 64;
    const bool trigger = (flags & kIrqActionsMask) == kTrigger;
    const Bytes booleans = (flags & kIrqDataMask) == kBool ? Bytes{1} : Bytes{};
    for (const uint32_t index : {0u, 2u}) {
      for (const size_t fds : {0u, 1u, 2u}) {
        const bool fits =
            known && (trigger || index == 0) &&
            (fds == 0 || ((flags & kIrqDataMask) == kFd && fds == 1));
        EXPECT_EQ(Set(flags, index, 0, 1, fds, booleans), fits ? 0 : EINVAL)
            << flags << " index " << index << " fds " << fds;
        const bool disables = flags == (kNone | kTrigger) && fds == 0;
        EXPECT_EQ(Set(flags, index, 0, 0, fds), disables ? 0 : EINVAL)
            << flags << " index " << index << " fds " << fds;
      }
    }
  }
}

TEST_F(IrqRequests, RangesOutsideAreRefused) {
  EXPECT_EQ(Set(kNone | kTrigger, 2, 4, 1), EINVAL);
  EXPECT_EQ(Set(kNone | kTrigger, 2, 0, 5), EINVAL);
  EXPECT_EQ(Set(kNone | kTrigger, 2, 3, 2), EINVAL);
  EXPECT_EQ(Set(kNone | kTrigger, 2, 0xffffffff, 1), EINVAL);
  EXPECT_EQ(Set(kNone | kTrigger, 2, 1, 0xffffffff), EINVAL);
  EXPECT_EQ(Set(kNone | kTrigger, 2, 1, 0), EINVAL);  // All begins at 0.
  EXPECT_EQ(Set(kNone | kTrigger, 1, 0, 0), EINVAL);  // There are no MSIs.
  EXPECT_EQ(Set(kNone | kTrigger, 5, 0, 1), EINVAL);
  EXPECT_EQ(Set(kNone | kTrigger, 0xffffffff, 0, 0), EINVAL);
}

TEST_F(IrqRequests, OtherKindsAreNotTouched) {
  EXPECT_EQ(Set(kFd | kTrigger, 3, 0, 1, 1), 0u);
  EXPECT_EQ(vector(5).trigger, kFirst);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(vector(i).trigger, 0);
  EXPECT_EQ(Set(kFd | kTrigger, 3, 0, 2, 2), EINVAL);
}

TEST_F(IrqRequests, WithoutFreeSlotsDescriptorsAreRefused) {
  for (uint64_t i = 0; i < store::kSlotEndSession - kFirst - 1; ++i) {
    ASSERT_EQ(session_.ErrorOf(Command::kDmaMap,
                               Join(DmaMap{32, 3, 0, i * 0x1000, 0x1000}), 1),
              0u);
  }
  EXPECT_EQ(Set(kFd | kTrigger, 2, 0, 2, 2), ENOSPC);
  EXPECT_EQ(Set(kFd | kTrigger, 2, 0, 1, 1), 0u);
}

}  // namespace
}  // namespace holdfast::vfio_user

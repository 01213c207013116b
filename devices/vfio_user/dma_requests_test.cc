// Windows come and go; what becomes of bad ones.

#include <cerrno>
#include <limits>

#include "base/testing/matchers.h"
#include "devices/vfio_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kTop = std::numeric_limits<uint64_t>::max();

class DmaRequests : public ::testing::Test {
 protected:
  void SetUp() override {
    session_.serving.max_transfer = 4096;  // Less to copy.
    ASSERT_OK(session_.Negotiate());
  }

  uint32_t Map(uint64_t address, uint64_t size, size_t fds = 0,
               uint64_t offset = 0, uint32_t flags = 3) {
    return session_.ErrorOf(
        Command::kDmaMap, Join(DmaMap{32, flags, offset, address, size}), fds);
  }
  uint32_t Unmap(uint64_t address, uint64_t size, uint32_t flags = 0) {
    return session_.ErrorOf(Command::kDmaUnmap,
                            Join(DmaUnmap{24, flags, address, size}));
  }
  size_t Count() const { return WindowCount(session_.state); }
  // How many session slots are in use.
  int Slots() const {
    int count = 0;
    for (const uint64_t word :
         ReferencedSlots(session_.state, session_.table)) {
      count += __builtin_popcountll(word);
    }
    return count;
  }

  TestSession session_;
};

TEST_F(DmaRequests, AWindowWithADescriptorIsKept) {
  EXPECT_EQ(Map(0x1000, 0x2000, 1, 0x5000, kDmaReadable), 0u);
  ASSERT_EQ(Count(), 1u);
  const WindowState& window = session_.table[0];
  EXPECT_EQ(window.address, 0x1000u);
  EXPECT_EQ(window.size, 0x2000u);
  EXPECT_EQ(window.offset, 0x5000u);
  EXPECT_EQ(window.access, kDmaReadable);
  EXPECT_EQ(window.slot, store::kSlotFirstSession);
}

// The firmware of a guest is mapped in this way.
TEST_F(DmaRequests, AWindowWithoutADescriptorIsReachedByMessage) {
  EXPECT_EQ(Map(0xfffc0000, 0x40000, 0, 0, kDmaReadable), 0u);
  EXPECT_EQ(session_.table[0].slot, 0);
  EXPECT_EQ(session_.table[0].offset, 0u);
}

TEST_F(DmaRequests, TheReplyToMapIsAHeader) {
  const auto outcome =
      session_.Send(Command::kDmaMap, Join(DmaMap{32, 3, 0, 0, 4096}), 1);
  EXPECT_EQ(outcome->reply.size(), sizeof(MessageHeader));
}

TEST_F(DmaRequests, AWindowMayEndAtTheTop) {
  EXPECT_EQ(Map(kTop - 0xfff, 0x1000), 0u);
  EXPECT_EQ(Map(0, kTop - 0x1fff + 0x1000), 0u);
  EXPECT_EQ(Count(), 2u);
}

TEST_F(DmaRequests, EmptyWrappingAndCrookedWindowsAreRefused) {
  EXPECT_EQ(Map(0x1000, 0), EINVAL);
  EXPECT_EQ(Map(kTop - 0xfff, 0x2000), EINVAL);
  EXPECT_EQ(Map(0x2000, kTop - 0xfff), EINVAL);
  EXPECT_EQ(Map(0x1001, 0x1000), EINVAL);
  EXPECT_EQ(Map(0x1000, 0x1001), EINVAL);
  EXPECT_EQ(Map(0x1000, 0x800), EINVAL);
  EXPECT_EQ(Map(0x1000, 0x1000, 1, kTop - 0xffe), EINVAL);
  EXPECT_EQ(Map(0x1000, 0x1000, 1, kTop), EINVAL);
  EXPECT_EQ(Count(), 0u);
}

TEST_F(DmaRequests, FlagsThatNobodyKnowsAreRefused) {
  for (uint32_t bit = 2; bit < 32; ++bit) {
    EXPECT_EQ(Map(0x1000, 0x1000, 0, 0, 3 | 1u << bit), EINVAL) << bit;
  }
  EXPECT_EQ(Map(0x1000, 0x1000, 0, 0, 0), 0u);  // Granted for nothing.
}

TEST_F(DmaRequests, OverlappingWindowsAreRefused) {
  ASSERT_EQ(Map(0x10000, 0x4000), 0u);
  for (const auto& [address, size] :
       {std::pair<uint64_t, uint64_t>{0x10000, 0x4000},
        {0x10000, 0x1000},
        {0x13000, 0x1000},
        {0xf000, 0x2000},
        {0x13000, 0x9000},
        {0x0, 0x100000},
        {0x11000, 0x1000}}) {
    EXPECT_EQ(Map(address, size), EEXIST) << address;
  }
  EXPECT_EQ(Map(0xf000, 0x1000), 0u);
  EXPECT_EQ(Map(0x14000, 0x1000), 0u);
}

TEST_F(DmaRequests, ManyWindowsOfOneFileKeepOneDescriptor) {
  session_.environment.inode = 42;
  for (uint64_t i = 0; i < 300; ++i) {
    ASSERT_EQ(Map(i * 0x1000, 0x1000, 1, i * 0x1000), 0u) << i;
  }
  EXPECT_EQ(Slots(), 1);
  // The descriptor outlives the window that brought it.
  EXPECT_EQ(Unmap(0, 0x1000), 0u);
  EXPECT_EQ(Slots(), 1);
  EXPECT_EQ(session_.table[1].slot, store::kSlotFirstSession);
}

TEST_F(DmaRequests, FilesBeyondTheSlotsAreRefused) {
  constexpr uint64_t kSlots = store::kSlotEndSession - store::kSlotFirstSession;
  for (uint64_t i = 0; i < kSlots; ++i) {
    ASSERT_EQ(Map(i * 0x1000, 0x1000, 1), 0u) << i;
  }
  EXPECT_EQ(Map(kSlots * 0x1000, 0x1000, 1), ENOSPC);
  EXPECT_EQ(Map(kSlots * 0x1000, 0x1000, 0), 0u);
  EXPECT_EQ(Unmap(0, 0x1000), 0u);
  EXPECT_EQ(Map(0, 0x1000, 1), 0u);
}

TEST_F(DmaRequests, WindowsBeyondTheTableAreRefused) {
  for (uint64_t i = 0; i < kMaxWindows; ++i) {
    ASSERT_EQ(Map(i * 0x1000, 0x1000), 0u) << i;
  }
  EXPECT_EQ(Map(kMaxWindows * 0x1000, 0x1000), ENOSPC);
  EXPECT_EQ(Unmap(5 * 0x1000, 0x1000), 0u);
  EXPECT_EQ(Map(kMaxWindows * 0x1000, 0x1000), 0u);
}

TEST_F(DmaRequests, AFileThatCannotBeMappedIsRefused) {
  session_.environment.file_status = absl::InvalidArgumentError("too short");
  EXPECT_EQ(Map(0x1000, 0x1000, 1), EINVAL);
  session_.environment.file_status = absl::PermissionDeniedError("read only");
  EXPECT_EQ(Map(0x1000, 0x1000, 1), EACCES);
  EXPECT_EQ(Count(), 0u);
}

TEST_F(DmaRequests, TwoDescriptorsAreRefused) {
  EXPECT_EQ(Map(0x1000, 0x1000, 2), EINVAL);
}

TEST_F(DmaRequests, UnmapReleasesTheWindowFirst) {
  ASSERT_EQ(Map(0x1000, 0x1000), 0u);
  const auto outcome =
      session_.Send(Command::kDmaUnmap, Join(DmaUnmap{24, 0, 0x1000, 0x1000}));
  EXPECT_EQ(outcome->payload(), Join(DmaUnmap{24, 0, 0x1000, 0x1000}));
  EXPECT_THAT(session_.TakeEffects(), ElementsAre("release 4096"));
  EXPECT_EQ(Count(), 0u);
}

TEST_F(DmaRequests, UnmapNamesExactlyOneWindow) {
  ASSERT_EQ(Map(0x10000, 0x4000), 0u);
  for (const auto& [address, size] :
       {std::pair<uint64_t, uint64_t>{0x10000, 0x1000},
        {0x11000, 0x3000},
        {0x10000, 0x8000},
        {0x0, 0x4000},
        {0x0, 0x0}}) {
    EXPECT_EQ(Unmap(address, size), ENOENT) << address;
  }
  EXPECT_EQ(Unmap(0x10000, 0x4000), 0u);
  EXPECT_EQ(Unmap(0x10000, 0x4000), ENOENT);
}

TEST_F(DmaRequests, UnmapOfAllTakesAllAway) {
  for (const uint32_t flag : {2u, 4u}) {
    ASSERT_EQ(Map(0x1000, 0x1000, 1), 0u);
    ASSERT_EQ(Map(0x2000, 0x1000), 0u);
    EXPECT_EQ(Unmap(0, 0, flag), 0u);
    EXPECT_EQ(Count(), 0u);
    EXPECT_EQ(Slots(), 0);
    EXPECT_EQ(Unmap(0, 0, flag), 0u);
  }
}

TEST_F(DmaRequests, UnmapWithOtherFlagsIsRefused) {
  ASSERT_EQ(Map(0x1000, 0x1000), 0u);
  for (const uint32_t flags : {1u, 2u, 3u, 4u, 6u, 8u, 0x80000000u}) {
    EXPECT_EQ(Unmap(0x1000, 0x1000, flags), EINVAL) << flags;
  }
  EXPECT_EQ(Unmap(0, 0, 6), EINVAL);
  EXPECT_EQ(Count(), 1u);
}

TEST_F(DmaRequests, AWindowThatCannotBeReleasedStays) {
  ASSERT_EQ(Map(0x1000, 0x1000), 0u);
  session_.environment.release_status = absl::UnavailableError("in use");
  EXPECT_EQ(Unmap(0x1000, 0x1000), EBUSY);
  EXPECT_EQ(Unmap(0, 0, 2), EBUSY);
  EXPECT_EQ(Count(), 1u);
}

// Committed entries are never written: a crash before the commit leaves them.
TEST_F(DmaRequests, AnUncommittedWindowTouchesNoOther) {
  ASSERT_EQ(Map(0x1000, 0x1000), 0u);
  const WindowState before = session_.table[0];
  const SessionState committed = session_.state;
  ASSERT_EQ(Map(0x2000, 0x1000), 0u);
  session_.state = committed;  // As if the commit had not happened.
  EXPECT_EQ(std::memcmp(&before, session_.table.data(), sizeof(before)), 0);
  EXPECT_OK(CheckInvariants(session_.state, session_.table));
  EXPECT_EQ(Map(0x2000, 0x3000), 0u);
  EXPECT_EQ(session_.table[1].size, 0x3000u);
}

}  // namespace
}  // namespace holdfast::vfio_user

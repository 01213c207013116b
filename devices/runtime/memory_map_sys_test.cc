#include "devices/runtime/memory_map_sys.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kSize = 1 << 20;
constexpr store::Slot kSlot = store::kSlotFirstSession;

UniqueFd Memory(uint64_t size = kSize) {
  UniqueFd fd(memfd_create("guest", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), size), 0);
  return fd;
}

vhost_user::SessionState WithRegion(uint64_t offset, uint64_t size,
                                    store::Slot slot = kSlot) {
  vhost_user::SessionState state = {};
  state.regions[0].guest_address = 0x1000;
  state.regions[0].user_address = 0x7f0000000000;
  state.regions[0].mmap_offset = offset;
  state.regions[0].size = size;
  state.regions[0].slot = slot;
  return state;
}

// Pages of `mapping` that are in the page table of this process or cached.
size_t Resident(void* address, size_t size) {
  std::vector<unsigned char> pages(size / 4096);
  EXPECT_EQ(mincore(address, size, pages.data()), 0);
  size_t count = 0;
  for (unsigned char page : pages) count += page & 1;
  return count;
}

TEST(MemoryMap, MapsWhatTheSessionNames) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory());
  ASSERT_EQ(pwrite(slots.Get(kSlot).get(), "hi", 2, 4096 + 10), 2);
  MemoryMap map;
  const auto state = WithRegion(4096, 8192);
  EXPECT_FALSE(map.IsCurrent(state, slots));
  ASSERT_OK(map.Update(state, slots));
  EXPECT_TRUE(map.IsCurrent(state, slots));
  const uint8_t* at = map.memory().Translate(GuestAddress{0x1000 + 10}, 2);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(at[0], 'h');
  EXPECT_EQ(map.memory().Translate(GuestAddress{0x1000 + 8191}, 2), nullptr);
}

TEST(MemoryMap, TakesOffsetsInsideAPage) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory());
  ASSERT_EQ(pwrite(slots.Get(kSlot).get(), "x", 1, 100), 1);
  MemoryMap map;
  ASSERT_OK(map.Update(WithRegion(100, 4096), slots));
  EXPECT_EQ(*map.memory().Translate(GuestAddress{0x1000}, 1), 'x');
}

TEST(MemoryMap, KeepsAMappingThatStays) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory());
  slots.Set(kSlot + 1, Memory());
  MemoryMap map;
  auto state = WithRegion(0, 8192);
  ASSERT_OK(map.Update(state, slots));
  const uint8_t* before = map.memory().Translate(GuestAddress{0x1000}, 1);
  state.regions[1] = state.regions[0];
  state.regions[1].guest_address = 0x100000;
  state.regions[1].user_address = 0x7e0000000000;
  state.regions[1].slot = kSlot + 1;
  ASSERT_OK(map.Update(state, slots));
  EXPECT_EQ(map.memory().Translate(GuestAddress{0x1000}, 1), before);
  EXPECT_NE(map.memory().Translate(GuestAddress{0x100000}, 1), nullptr);
}

// Another VMM may say what the last one said.
TEST(MemoryMap, AMappingIsOfTheDescriptorThatTheSlotHoldsNow) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory());
  MemoryMap map;
  const auto state = WithRegion(0, kSize);
  ASSERT_OK(map.Update(state, slots));
  slots.Set(kSlot, Memory());
  ASSERT_EQ(pwrite(slots.Get(kSlot).get(), "b", 1, 0), 1);
  EXPECT_FALSE(map.IsCurrent(state, slots));
  EXPECT_FALSE(map.TouchSome(slots));  // It would look into the other file.
  ASSERT_OK(map.Update(state, slots));
  EXPECT_TRUE(map.IsCurrent(state, slots));
  EXPECT_EQ(*map.memory().Translate(GuestAddress{0x1000}, 1), 'b');
}

TEST(MemoryMap, ADescriptorThatIsMissingLeavesTheOldMappings) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory());
  MemoryMap map;
  const auto state = WithRegion(0, 8192);
  ASSERT_OK(map.Update(state, slots));
  EXPECT_FALSE(map.Update(WithRegion(0, 8192, kSlot + 5), slots).ok());
  EXPECT_TRUE(map.IsCurrent(state, slots));
  EXPECT_NE(map.memory().Translate(GuestAddress{0x1000}, 1), nullptr);
}

TEST(MemoryMap, TouchesWhatTheGuestUsedAndNothingElse) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory());
  // Two pages of 256 are used; they stay the only ones.
  ASSERT_EQ(pwrite(slots.Get(kSlot).get(), "a", 1, 0), 1);
  ASSERT_EQ(pwrite(slots.Get(kSlot).get(), "b", 1, kSize - 1), 1);
  MemoryMap map;
  ASSERT_OK(map.Update(WithRegion(0, kSize), slots));
  while (map.TouchSome(slots)) {
  }
  uint8_t* at = map.memory().Translate(GuestAddress{0x1000}, 1);
  EXPECT_EQ(Resident(at, kSize), 2u);
}

TEST(MemoryMap, RefusesAFileThatWasCut) {
  DescriptorSlots slots;
  slots.Set(kSlot, Memory(4096));
  MemoryMap map;
  EXPECT_THAT(map.Update(WithRegion(0, 8192), slots),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the file has 4096 bytes")));
}

TEST(CheckFileHolds, RefusesWhatLiesOutside) {
  const UniqueFd fd = Memory(8192);
  EXPECT_OK(CheckFileHolds(fd, 4096, 4096));
  EXPECT_THAT(CheckFileHolds(fd, 4096, 4097),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the file has 8192 bytes")));
  EXPECT_FALSE(CheckFileHolds(fd, ~uint64_t{0}, 1).ok());
  EXPECT_FALSE(CheckFileHolds(fd, 0, ~uint64_t{0}).ok());
}

TEST(MapUnaligned, RefusesRangesThatWrap) {
  const UniqueFd fd = Memory(8192);
  EXPECT_FALSE(MapUnaligned(fd, 1, ~uint64_t{0}).ok());
  EXPECT_FALSE(MapUnaligned(fd, 0, 0).ok());
}

}  // namespace
}  // namespace holdfast

#include "devices/runtime/descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Bitmap = std::array<uint64_t, store::kSlotCount / 64>;

UniqueFd Null() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

Bitmap With(std::initializer_list<store::Slot> slots) {
  Bitmap bitmap{};
  for (store::Slot slot : slots) bitmap[slot / 64] |= 1ull << (slot % 64);
  return bitmap;
}

TEST(DescriptorSlots, OwnWhatTheyHold) {
  int first = -1, second = -1;
  {
    DescriptorSlots slots;
    UniqueFd fd = Null();
    first = fd.get();
    slots.Set(store::kSlotFirstResource, std::move(fd));
    EXPECT_EQ(slots.Get(store::kSlotFirstResource).get(), first);
    fd = Null();
    second = fd.get();
    slots.Set(store::kSlotFirstResource, std::move(fd));
    EXPECT_FALSE(IsOpen(first));
    EXPECT_TRUE(IsOpen(second));
  }
  EXPECT_FALSE(IsOpen(second));
}

TEST(DescriptorSlots, AnInvalidDescriptorEmptiesTheSlot) {
  DescriptorSlots slots;
  slots.Set(store::kSlotFirstSession, Null());
  slots.Set(store::kSlotFirstSession, UniqueFd());
  EXPECT_FALSE(slots.Get(store::kSlotFirstSession).valid());
}

TEST(DescriptorSlots, EveryChangeIsANewGeneration) {
  DescriptorSlots slots;
  const store::Slot slot = store::kSlotFirstSession;
  uint64_t last = slots.generation(slot);
  const auto expect_change = [&](bool changed) {
    EXPECT_EQ(slots.generation(slot) != last, changed);
    last = slots.generation(slot);
  };
  slots.Set(slot, Null());
  expect_change(true);
  slots.Set(slot, Null());
  expect_change(true);
  slots.Set(slot + 1, Null());
  slots.RetainSession(With({slot}));
  expect_change(false);
  slots.RetainSession(With({}));
  expect_change(true);
  slots.RetainSession(With({}));
  expect_change(false);
  slots.Set(slot, Null());
  expect_change(true);
  EXPECT_EQ(slots.generation(store::kSlotCount), 0u);
}

// Slot numbers come from peers.
TEST(DescriptorSlots, IgnoreNumbersOutOfRange) {
  DescriptorSlots slots;
  UniqueFd fd = Null();
  const int number = fd.get();
  slots.Set(store::kSlotCount, std::move(fd));
  EXPECT_FALSE(slots.Get(store::kSlotCount).valid());
  EXPECT_FALSE(slots.Get(0xffff).valid());
  fd.Reset();
  EXPECT_FALSE(IsOpen(number));
}

TEST(DescriptorSlots, AConnectionHasItsNumber) {
  DescriptorSlots slots;
  EXPECT_EQ(slots.connection(), 0u);
  slots.SetConnection(Null(), 7);
  EXPECT_EQ(slots.connection(), 7u);
  EXPECT_TRUE(slots.Get(store::kSlotConnection).valid());
  slots.SetConnection(UniqueFd(), 8);  // No connection, no number.
  EXPECT_EQ(slots.connection(), 0u);
  EXPECT_FALSE(slots.Get(store::kSlotConnection).valid());
}

TEST(DescriptorSlots, RetainOnlyTheSessionSlotsThatAreNamed) {
  DescriptorSlots slots;
  const store::Slot kept = store::kSlotFirstSession + 3;
  const store::Slot last = store::kSlotEndSession - 1;
  for (store::Slot slot :
       {store::kSlotFirstSession, kept, last, store::kSlotFirstResource,
        store::kSlotFirstDevice}) {
    slots.Set(slot, Null());
  }
  slots.SetConnection(Null(), 1);
  slots.RetainSession(With({kept}));
  EXPECT_TRUE(slots.Get(kept).valid());
  EXPECT_FALSE(slots.Get(store::kSlotFirstSession).valid());
  EXPECT_FALSE(slots.Get(last).valid());
  // What is not of the session is not asked about.
  EXPECT_TRUE(slots.Get(store::kSlotFirstResource).valid());
  EXPECT_TRUE(slots.Get(store::kSlotFirstDevice).valid());
  EXPECT_TRUE(slots.Get(store::kSlotConnection).valid());
}

}  // namespace
}  // namespace holdfast

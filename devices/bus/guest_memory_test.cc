#include "devices/bus/guest_memory.h"

#include <array>
#include <thread>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kTop = ~uint64_t{0};

class GuestMemoryTest : public ::testing::Test {
 protected:
  GuestRegion Region(uint64_t guest, uint64_t size, uint64_t user) {
    return {GuestAddress{guest}, size, UserAddress{user}, bytes_.data()};
  }
  // [0x1000, 0x2000) at the start of bytes_, [0x2000, 0x2800) behind it, and a
  // hole up to [0x4000, 0x4100).
  GuestMemory Three() {
    GuestRegion low = Region(0x1000, 0x1000, 0x700000);
    GuestRegion next = Region(0x2000, 0x800, 0x100000);
    next.host = bytes_.data() + 0x1000;
    GuestRegion high = Region(0x4000, 0x100, 0x200000);
    high.host = bytes_.data() + 0x1800;
    return *GuestMemory::Create({high, low, next});
  }
  std::array<uint8_t, 0x2000> bytes_ = {};
};

TEST_F(GuestMemoryTest, TranslatesWithinOneRegionOnly) {
  const GuestMemory memory = Three();
  EXPECT_EQ(memory.Translate(GuestAddress{0x1000}, 1), bytes_.data());
  EXPECT_EQ(memory.Translate(GuestAddress{0x1fff}, 1), bytes_.data() + 0xfff);
  EXPECT_EQ(memory.Translate(GuestAddress{0x1000}, 0x1000), bytes_.data());
  EXPECT_EQ(memory.Translate(GuestAddress{0x40ff}, 1), bytes_.data() + 0x18ff);
  for (auto [address, size] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0xfff, 1},
                                                  {0xfff, 2},
                                                  {0x1fff, 2},
                                                  {0x1000, 0},
                                                  {0x1000, 0x1001},
                                                  {0x2800, 1},
                                                  {0x3fff, 2},
                                                  {0x4100, 1},
                                                  {0x40ff, kTop},
                                                  {kTop, 1},
                                                  {kTop, 2},
                                                  {0, kTop}}) {
    EXPECT_EQ(memory.Translate(GuestAddress{address}, size), nullptr)
        << address << " " << size;
  }
}

TEST_F(GuestMemoryTest, PrefixEndsWithTheRegion) {
  const GuestMemory memory = Three();
  const auto span = memory.TranslatePrefix(GuestAddress{0x1ff0}, 0x20);
  EXPECT_EQ(span.data(), bytes_.data() + 0xff0);
  EXPECT_EQ(span.size(), 0x10u);
  EXPECT_EQ(memory.TranslatePrefix(GuestAddress{0x1ff0}, 4).size(), 4u);
  EXPECT_TRUE(memory.TranslatePrefix(GuestAddress{0x3000}, 4).empty());
  EXPECT_TRUE(memory.TranslatePrefix(GuestAddress{0}, 4).empty());
  EXPECT_TRUE(GuestMemory().TranslatePrefix(GuestAddress{0}, 4).empty());
}

TEST_F(GuestMemoryTest, TranslatesFrontEndAddressesToBoth) {
  const GuestMemory memory = Three();
  const auto found = memory.TranslateUser(UserAddress{0x100010}, 0x7f0);
  EXPECT_EQ(found.host, bytes_.data() + 0x1010);
  EXPECT_EQ(found.guest_address, GuestAddress{0x2010});
  EXPECT_EQ(memory.TranslateUser(UserAddress{0x100010}, 0x7f1).host, nullptr);
  EXPECT_EQ(memory.TranslateUser(UserAddress{0x100010}, 0).host, nullptr);
  EXPECT_EQ(memory.TranslateUser(UserAddress{0x100010}, kTop).host, nullptr);
  EXPECT_EQ(memory.TranslateUser(UserAddress{0x1000}, 1).host, nullptr);
}

TEST_F(GuestMemoryTest, RefusesTablesThatContradictThemselves) {
  const auto refused = [&](std::vector<GuestRegion> regions, const char* why) {
    EXPECT_THAT(GuestMemory::Create(regions),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused({Region(0, 0, 0)}, "empty");
  refused({Region(kTop, 2, 0)}, "wraps");
  refused({Region(0, 2, kTop)}, "wraps");
  refused({Region(0, 0x10, 0), Region(0xf, 0x10, 0x100)}, "overlap");
  refused({Region(0xf, 0x10, 0x100), Region(0, 0x10, 0)}, "overlap");
  refused({Region(0, 0x10, 0), Region(0x10, 0x10, 0xf)}, "overlap");
  refused({Region(0, 1 << 20, 0), Region(5, 1, 1 << 30)}, "regions 0 and 1");
  GuestRegion unmapped = Region(0, 1, 0);
  unmapped.host = nullptr;
  refused({unmapped}, "not mapped");
  refused({Region(0, kTop - 0x1000, 0)}, "not mapped");
  refused(std::vector<GuestRegion>(65, Region(0, 1, 0)), "at most 64");
}

TEST_F(GuestMemoryTest, AcceptsTheEndOfTheAddressSpaceAndManyRegions) {
  EXPECT_OK(GuestMemory::Create({Region(kTop, 1, kTop)}));
  std::vector<GuestRegion> regions;
  for (int i = 0; i < 64; ++i) regions.push_back(Region(i * 2, 1, i * 4));
  const auto memory = GuestMemory::Create(regions);
  ASSERT_OK(memory);
  EXPECT_NE(memory->Translate(GuestAddress{126}, 1), nullptr);
  EXPECT_EQ(memory->Translate(GuestAddress{125}, 1), nullptr);
}

TEST_F(GuestMemoryTest, MarksEveryTouchedPage) {
  GuestMemory memory = Three();
  std::array<uint8_t, 2> log = {};
  memory.MarkDirty(GuestAddress{0x1000}, 1);  // No log yet.
  memory.SetLog(absl::MakeSpan(log));
  memory.MarkDirty(GuestAddress{0x1000}, 0);
  EXPECT_THAT(log, ElementsAre(0, 0));
  memory.MarkDirty(GuestAddress{0x1fff}, 2);
  EXPECT_THAT(log, ElementsAre(0b110, 0));
  memory.MarkDirty(GuestAddress{0x7000}, 0x1001);
  EXPECT_THAT(log, ElementsAre(0b10000110, 1));
}

TEST_F(GuestMemoryTest, IgnoresPagesBeyondTheLog) {
  GuestMemory memory = Three();
  std::array<uint8_t, 3> log = {};
  memory.SetLog(absl::MakeSpan(log).first(2));
  memory.MarkDirty(GuestAddress{0xf000}, 0x5000);
  memory.MarkDirty(GuestAddress{kTop - 1}, 1);
  memory.MarkDirty(GuestAddress{kTop}, 2);
  EXPECT_THAT(log, ElementsAre(0, 0x80, 0));
  memory.MarkDirty(GuestAddress{0}, kTop);
  EXPECT_THAT(log, ElementsAre(0xff, 0xff, 0));
}

TEST_F(GuestMemoryTest, ANewLogTakesTheOldOnesPlace) {
  GuestMemory memory = Three();
  EXPECT_FALSE(memory.logging());
  std::array<uint8_t, 1> first = {}, second = {};
  memory.SetLog(absl::MakeSpan(first));
  EXPECT_TRUE(memory.logging());
  memory.MarkDirty(GuestAddress{0x1000}, 1);
  memory.SetLog(absl::MakeSpan(second));
  memory.MarkDirty(GuestAddress{0x2000}, 1);
  EXPECT_THAT(first, ElementsAre(0b010));
  EXPECT_THAT(second, ElementsAre(0b100));
  memory.SetLog({});
  EXPECT_FALSE(memory.logging());
  memory.MarkDirty(GuestAddress{0x1000}, 0x1000);
  EXPECT_THAT(first, ElementsAre(0b010));
  EXPECT_THAT(second, ElementsAre(0b100));
}

TEST_F(GuestMemoryTest, ListsItsRegionsInTheOrderOfAddresses) {
  const GuestMemory memory = Three();
  ASSERT_EQ(memory.regions().size(), 3u);
  EXPECT_EQ(memory.regions()[0].guest_address, GuestAddress{0x1000});
  EXPECT_EQ(memory.regions()[1].guest_address, GuestAddress{0x2000});
  EXPECT_EQ(memory.regions()[2].guest_address, GuestAddress{0x4000});
  EXPECT_TRUE(GuestMemory().regions().empty());
}

TEST_F(GuestMemoryTest, ConcurrentMarksOfOneByteAreAllKept) {
  GuestMemory memory = Three();
  std::array<uint8_t, 1> log = {};
  memory.SetLog(absl::MakeSpan(log));
  for (int round = 0; round < 200; ++round) {
    __atomic_store_n(&log[0], uint8_t{0}, __ATOMIC_RELAXED);
    std::thread other([&] {
      for (uint64_t page : {0, 2, 4, 6}) {
        memory.MarkDirty(GuestAddress{page << 12}, 1);
      }
    });
    for (uint64_t page : {1, 3, 5, 7}) {
      memory.MarkDirty(GuestAddress{page << 12}, 1);
    }
    other.join();
    ASSERT_EQ(log[0], 0xff);
  }
}

}  // namespace
}  // namespace holdfast

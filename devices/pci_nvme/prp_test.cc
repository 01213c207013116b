#include "devices/pci_nvme/prp.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr uint64_t kRam = 16 * kPageSize;

MATCHER_P2(Is, address, size, "") {
  return ToInt(arg.address) == static_cast<uint64_t>(address) &&
         arg.size == static_cast<uint64_t>(size);
}

class PrpTest : public ::testing::Test {
 protected:
  PrpTest() : ram_(kRam) {
    EXPECT_OK(dma_.Add(
        {GuestAddress{0}, kRam, DmaAccess::kReadWrite, ram_.data(), nullptr}));
  }
  // A list at `address`.
  void PutList(uint64_t address, const std::vector<uint64_t>& entries) {
    std::memcpy(ram_.data() + address, entries.data(), entries.size() * 8);
  }
  Status Walk(uint64_t prp1, uint64_t prp2, uint64_t size) {
    return prp_.Walk(prp1, prp2, size, dma_);
  }

  std::vector<uint8_t> ram_;
  DmaWindows dma_;
  PrpRanges prp_;
};

TEST_F(PrpTest, OneEntryIsPartOfAPage) {
  EXPECT_EQ(Walk(0x1004, 0xdead, 512), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1004, 512)));
  EXPECT_EQ(Walk(0x1000, 0xdead, 4096), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1000, 4096)));
  EXPECT_EQ(Walk(0x1001, 0, 0), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), SizeIs(0));
}

TEST_F(PrpTest, TwoEntriesAreTwoPages) {
  EXPECT_EQ(Walk(0x1e00, 0x5000, 1024), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1e00, 512), Is(0x5000, 512)));
  EXPECT_EQ(Walk(0x1000, 0x5000, 8192), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1000, 4096), Is(0x5000, 4096)));
}

TEST_F(PrpTest, NeighboursAreJoined) {
  EXPECT_EQ(Walk(0x1800, 0x2000, 4096), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1800, 4096)));
  EXPECT_EQ(prp_.size(), 4096u);
}

TEST_F(PrpTest, MorePagesTakeAList) {
  PutList(0x3010, {0x5000, 0x7000});
  EXPECT_EQ(Walk(0x1000, 0x3010, 3 * 4096 - 8), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1000, 4096), Is(0x5000, 4096),
                                         Is(0x7000, 4088)));
}

TEST_F(PrpTest, AListGoesOnInAnother) {
  // Room for two entries: the second is the next list.
  PutList(0x3ff0, {0x5000, 0x8000});
  PutList(0x8000, {0x7000, 0x9000});
  EXPECT_EQ(Walk(0x1000, 0x3ff0, 4 * 4096), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1000, 4096), Is(0x5000, 4096),
                                         Is(0x7000, 4096), Is(0x9000, 4096)));
}

TEST_F(PrpTest, AListThatJustFitsGoesOnNowhere) {
  PutList(0x3ff0, {0x5000, 0x8000});
  EXPECT_EQ(Walk(0x1000, 0x3ff0, 3 * 4096), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), ElementsAre(Is(0x1000, 4096), Is(0x5000, 4096),
                                         Is(0x8000, 4096)));
}

TEST_F(PrpTest, TheLargestTransferHasRoom) {
  std::vector<uint64_t> entries;
  for (uint64_t i = 0; i < 128; ++i) entries.push_back(0x1000000 + i * 0x2000);
  PutList(0x3000, entries);
  EXPECT_EQ(Walk(0x1ffc, 0x3000, PrpRanges::kMaxTransfer), Status::kSuccess);
  EXPECT_THAT(prp_.ranges(), SizeIs(129));
  EXPECT_EQ(prp_.size(), PrpRanges::kMaxTransfer);
}

TEST_F(PrpTest, EntriesAreAlignedAsTheirPlaceDemands) {
  PutList(0x3000, {0x5000, 0x7004});
  PutList(0x4ff8, {0x8008});
  EXPECT_EQ(Walk(0x1002, 0, 512), Status::kInvalidPrpOffset);
  EXPECT_EQ(Walk(0x1000, 0x5004, 8192), Status::kInvalidPrpOffset);
  EXPECT_EQ(Walk(0x1000, 0x3004, 12288), Status::kInvalidPrpOffset);
  EXPECT_EQ(Walk(0x1000, 0x3000, 12288), Status::kInvalidPrpOffset);
  EXPECT_EQ(Walk(0x1000, 0x4ff8, 12288), Status::kInvalidPrpOffset)
      << "a list that goes on begins with its page";
}

TEST_F(PrpTest, AListOutsideTheGuestsMemoryIsATransferError) {
  EXPECT_EQ(Walk(0x1000, kRam, 12288), Status::kDataTransferError);
  PutList(0x4ff8, {~uint64_t{0xfff}});
  EXPECT_EQ(Walk(0x1000, 0x4ff8, 12288), Status::kDataTransferError);
}

// Every list names the next one, and none of them data: the walk must end.
TEST_F(PrpTest, AListThatGoesInCirclesEndsWithTheData) {
  std::vector<uint64_t> circle(512, 0x3000);
  PutList(0x3000, circle);
  EXPECT_EQ(Walk(0x1000, 0x3ff8, PrpRanges::kMaxTransfer), Status::kSuccess);
  EXPECT_EQ(prp_.size(), PrpRanges::kMaxTransfer);
}

}  // namespace
}  // namespace holdfast::nvme

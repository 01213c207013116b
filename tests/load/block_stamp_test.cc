#include "tests/load/block_stamp.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast::load {
namespace {

using Block = std::vector<uint8_t>;

Block Stamped(const BlockId& id) {
  Block block(kBlockSize);
  StampBlock(id, absl::MakeSpan(block));
  return block;
}

TEST(BlockStamp, WhatWasStampedIsIntact) {
  const BlockId id = {7, 1234, 56};
  BlockId found;
  EXPECT_EQ(CheckBlock(id, Stamped(id), &found), BlockVerdict::kIntact);
  EXPECT_EQ(found.run, 7u);
  EXPECT_EQ(found.index, 1234u);
  EXPECT_EQ(found.sequence, 56u);
}

TEST(BlockStamp, ZerosAreEmpty) {
  EXPECT_EQ(CheckBlock({1, 2, 3}, Block(kBlockSize)), BlockVerdict::kEmpty);
}

TEST(BlockStamp, OtherContentIsForeign) {
  EXPECT_EQ(CheckBlock({1, 2, 3}, Block(kBlockSize, 0xaa)),
            BlockVerdict::kForeign);
  EXPECT_EQ(CheckBlock({1, 2, 3}, Stamped({9, 2, 3})), BlockVerdict::kForeign);
}

TEST(BlockStamp, AZeroHeaderBeforeContentIsForeign) {
  Block block = Stamped({1, 2, 3});
  std::fill_n(block.begin(), 512, 0);
  EXPECT_EQ(CheckBlock({1, 2, 3}, block), BlockVerdict::kForeign);
}

TEST(BlockStamp, AnotherPlaceIsMisplaced) {
  EXPECT_EQ(CheckBlock({1, 2, 3}, Stamped({1, 20, 3})),
            BlockVerdict::kMisplaced);
}

TEST(BlockStamp, AnOlderWriteIsStaleAndAnUnknownOneFuture) {
  EXPECT_EQ(CheckBlock({1, 2, 30}, Stamped({1, 2, 29})), BlockVerdict::kStale);
  EXPECT_EQ(CheckBlock({1, 2, 30}, Stamped({1, 2, 31})), BlockVerdict::kFuture);
}

// Every way to cut a block between two writes at a word is recognised.
TEST(BlockStamp, EveryCutBetweenTwoWritesIsTorn) {
  const Block older = Stamped({1, 2, 3});
  const Block newer = Stamped({1, 2, 4});
  for (size_t cut = 8; cut < kBlockSize; cut += 8) {
    Block block = newer;
    std::copy(older.begin() + cut, older.end(), block.begin() + cut);
    // A cut inside the header's constant part leaves the older header whole.
    const BlockVerdict verdict = CheckBlock({1, 2, 4}, block);
    if (cut <= 16) {
      EXPECT_EQ(verdict, BlockVerdict::kStale) << cut;
    } else {
      EXPECT_EQ(verdict, BlockVerdict::kTorn) << cut;
    }
  }
}

TEST(BlockStamp, EveryFlippedBitIsNoticed) {
  const BlockId id = {1, 2, 3};
  const Block good = Stamped(id);
  for (size_t bit = 0; bit < kBlockSize * 8; ++bit) {
    Block block = good;
    block[bit / 8] ^= 1 << (bit % 8);
    EXPECT_NE(CheckBlock(id, block), BlockVerdict::kIntact) << bit;
  }
}

TEST(BlockStamp, EveryVerdictHasAName) {
  for (int i = 0; i < kBlockVerdicts; ++i) {
    EXPECT_NE(VerdictName(static_cast<BlockVerdict>(i)), "unknown") << i;
  }
}

}  // namespace
}  // namespace holdfast::load

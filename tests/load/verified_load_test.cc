#include "tests/load/verified_load.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::load {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Kind = LoadRequest::Kind;

constexpr uint64_t kBlocks = 64;

// A disk in memory, and the load that drives it one request at a time.
class Disk {
 public:
  Disk() : bytes_(kBlocks * kBlockSize), load_(Options()) {}

  static LoadOptions Options() {
    LoadOptions options;
    options.run = 77;
    options.seed = 5;
    options.blocks = kBlocks;
    options.max_request_blocks = 8;
    options.flushes_in_256 = 8;
    return options;
  }

  // Executes `n` requests correctly.
  void Run(int n) {
    for (int i = 0; i < n; ++i) Execute(*load_.Next());
  }

  void Execute(const LoadRequest& request) {
    std::vector<uint8_t> data(request.bytes());
    uint8_t* place = &bytes_[request.first_block * kBlockSize];
    if (request.kind == Kind::kWrite) {
      load_.Fill(request, absl::MakeSpan(data));
      std::copy(data.begin(), data.end(), place);
    } else {
      std::copy_n(place, data.size(), data.begin());
    }
    load_.Complete(request, true, data);
  }

  void ReadBack() {
    while (auto request = load_.NextReadBack()) Execute(*request);
  }

  // The next write that the load wants, not executed.
  LoadRequest NextWrite() {
    while (true) {
      const LoadRequest request = *load_.Next();
      if (request.kind == Kind::kWrite) return request;
      Execute(request);
    }
  }

  uint8_t* block(uint64_t index) { return &bytes_[index * kBlockSize]; }
  VerifiedLoad& load() { return load_; }
  std::vector<uint8_t>& bytes() { return bytes_; }
  uint64_t bad(BlockVerdict verdict) const {
    return load_.counts().bad[static_cast<int>(verdict)];
  }

 private:
  std::vector<uint8_t> bytes_;
  VerifiedLoad load_;
};

TEST(VerifiedLoad, AFaultlessDiskHasNothingBad) {
  Disk disk;
  disk.Run(5000);
  disk.ReadBack();
  const LoadCounts& counts = disk.load().counts();
  EXPECT_EQ(counts.bad_blocks(), 0u);
  EXPECT_EQ(counts.errors, 0u);
  EXPECT_GT(counts.reads, 1000u);
  EXPECT_GT(counts.writes, 2000u);
  EXPECT_GT(counts.flushes, 50u);
  EXPECT_GT(counts.checked_blocks, kBlocks);
  EXPECT_THAT(disk.load().findings(), SizeIs(0));
}

TEST(VerifiedLoad, RequestsInFlightShareNoBlock) {
  VerifiedLoad load(Disk::Options());
  std::vector<int> users(kBlocks);
  int requests = 0;
  while (auto request = load.Next()) {
    ++requests;
    for (uint32_t i = 0; i < request->blocks; ++i) {
      ++users[request->first_block + i];
    }
  }
  EXPECT_GT(requests, 10);
  EXPECT_LE(*std::max_element(users.begin(), users.end()), 1);
}

TEST(VerifiedLoad, LengthsAreEvenlySpreadPowersOfTwo) {
  Disk disk;
  std::vector<int> seen(9);
  for (int i = 0; i < 4000; ++i) {
    const LoadRequest request = *disk.load().Next();
    ++seen[request.blocks];
    disk.Execute(request);
  }
  for (int blocks : {1, 2, 4, 8}) EXPECT_GT(seen[blocks], 700) << blocks;
}

TEST(VerifiedLoad, EqualSeedsGiveEqualRequests) {
  Disk a;
  Disk b;
  a.Run(100);
  b.Run(100);
  EXPECT_EQ(a.bytes(), b.bytes());
}

TEST(VerifiedLoad, ALostWriteIsNoticed) {
  Disk disk;
  disk.Run(1000);
  const LoadRequest lost = disk.NextWrite();
  disk.load().Complete(lost, true, {});  // Acknowledged, never executed.
  disk.ReadBack();
  EXPECT_EQ(disk.bad(BlockVerdict::kStale), lost.blocks);
}

TEST(VerifiedLoad, ALostFirstWriteIsNoticed) {
  Disk disk;
  const LoadRequest lost = disk.NextWrite();
  std::fill_n(disk.block(lost.first_block), lost.bytes(), 0);
  disk.load().Complete(lost, true, {});
  disk.ReadBack();
  EXPECT_EQ(disk.bad(BlockVerdict::kEmpty), lost.blocks);
}

TEST(VerifiedLoad, AWriteExecutedAgainLaterIsNoticed) {
  Disk disk;
  const LoadRequest first = disk.NextWrite();
  disk.Execute(first);
  const std::vector<uint8_t> old(disk.block(first.first_block),
                                 disk.block(first.first_block) + first.bytes());
  disk.Run(5000);  // By now every block was written again.
  std::copy(old.begin(), old.end(), disk.block(first.first_block));
  disk.ReadBack();
  EXPECT_EQ(disk.bad(BlockVerdict::kStale), first.blocks);
}

TEST(VerifiedLoad, ATornWriteIsNoticed) {
  Disk disk;
  disk.Run(1000);
  const LoadRequest request = disk.NextWrite();
  const std::vector<uint8_t> before(disk.block(request.first_block),
                                    disk.block(request.first_block) + 512);
  disk.Execute(request);
  std::copy(before.begin(), before.end(), disk.block(request.first_block));
  disk.ReadBack();
  EXPECT_EQ(disk.bad(BlockVerdict::kTorn), 1u);
}

TEST(VerifiedLoad, AWriteAtAnotherPlaceIsNoticed) {
  Disk disk;
  disk.Run(1000);
  std::copy_n(disk.block(3), kBlockSize, disk.block(40));
  disk.ReadBack();
  EXPECT_EQ(disk.bad(BlockVerdict::kMisplaced), 1u);
}

TEST(VerifiedLoad, AReadThatReturnsTheWrongContentIsNoticedAtOnce) {
  Disk disk;
  disk.Run(1000);
  LoadRequest request = *disk.load().Next();
  while (request.kind != Kind::kRead) {
    disk.Execute(request);
    request = *disk.load().Next();
  }
  disk.load().Complete(request, true, std::vector<uint8_t>(request.bytes()));
  EXPECT_EQ(disk.bad(BlockVerdict::kEmpty), request.blocks);
  EXPECT_THAT(disk.load().findings(), Contains(HasSubstr("empty: block ")));
}

TEST(VerifiedLoad, AnErrorIsCountedAndTheBlocksAreUnknownAfterwards) {
  Disk disk;
  disk.Run(1000);
  const LoadRequest failed = disk.NextWrite();
  disk.load().Complete(failed, false, {});
  disk.ReadBack();
  EXPECT_EQ(disk.load().counts().errors, 1u);
  EXPECT_EQ(disk.load().counts().bad_blocks(), 0u);
  EXPECT_THAT(disk.load().findings(), Contains(HasSubstr("error: write")));
}

TEST(VerifiedLoad, FindingsAreBounded) {
  Disk disk;
  disk.Run(1000);
  std::fill(disk.bytes().begin(), disk.bytes().end(), 0);
  disk.ReadBack();
  EXPECT_GT(disk.load().counts().bad_blocks(), VerifiedLoad::kMaxFindings);
  EXPECT_THAT(disk.load().findings(), SizeIs(VerifiedLoad::kMaxFindings));
}

}  // namespace
}  // namespace holdfast::load

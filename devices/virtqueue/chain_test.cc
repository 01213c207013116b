#include "devices/virtqueue/chain.h"

#include <array>
#include <memory>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/virtqueue/vring_layout.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using vring::kIndirect;
using vring::kNext;
using vring::kWrite;

constexpr uint16_t kSize = 4;

// Two regions that touch, [0x1000, 0x9000) and [0x9000, 0x11000), which are
// mapped apart from one another; indirect tables at the start of the first.
class ChainTest : public ::testing::Test {
 protected:
  ChainTest() {
    table_.indirect = true;
    table_.size = kSize;
    table_.descriptors = reinterpret_cast<const uint8_t*>(ring_.data());
    memory_ = *GuestMemory::Create(
        {{GuestAddress{0x1000}, 0x8000, UserAddress{0x1000}, low_.data()},
         {GuestAddress{0x9000}, 0x8000, UserAddress{0x9000}, high_.data()}});
  }

  vring::Descriptor& Indirect(int i) {
    return reinterpret_cast<vring::Descriptor*>(low_.data())[i];
  }
  absl::Status Read(uint16_t head) {
    return ReadChain(table_, head, memory_, *chain_);
  }
  void ExpectRefused(uint16_t head, const char* why) {
    EXPECT_THAT(Read(head),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
    EXPECT_TRUE(chain_->readable().empty());
    EXPECT_TRUE(chain_->writable().empty());
    EXPECT_EQ(chain_->readable_size() + chain_->writable_size(), 0u);
  }

  alignas(16) std::array<vring::Descriptor, kSize> ring_ = {};
  alignas(16) std::array<uint8_t, 0x8000> low_ = {};
  alignas(16) std::array<uint8_t, 0x8000> high_ = {};
  GuestMemory memory_;
  DescriptorTable table_;
  std::unique_ptr<Chain> chain_ = std::make_unique<Chain>();
};

TEST_F(ChainTest, ListsReadableAndWritableBuffersInOrder) {
  ring_[2] = {0x2000, 16, kNext, 0};
  ring_[0] = {0x2100, 32, kNext, 3};
  ring_[3] = {0x3000, 512, kNext | kWrite, 1};
  ring_[1] = {0x4000, 1, kWrite, 77};  // `next` without the flag is ignored.
  ASSERT_OK(Read(2));
  EXPECT_EQ(chain_->head(), 2);
  ASSERT_EQ(chain_->readable().size(), 2u);
  EXPECT_EQ(chain_->readable()[0].data, low_.data() + 0x1000);
  EXPECT_EQ(chain_->readable()[1].size, 32u);
  ASSERT_EQ(chain_->writable().size(), 2u);
  EXPECT_EQ(chain_->writable()[0].address, GuestAddress{0x3000});
  EXPECT_EQ(chain_->writable()[1].size, 1u);
  EXPECT_EQ(chain_->readable_size(), 48u);
  EXPECT_EQ(chain_->writable_size(), 513u);
}

TEST_F(ChainTest, FollowsAnIndirectTableBehindDirectBuffers) {
  ring_[1] = {0x2000, 16, kNext, 3};
  ring_[3] = {0x1000, 48, kIndirect | kWrite, 0};  // kWrite means nothing here.
  Indirect(0) = {0x2100, 8, kNext, 2};
  Indirect(2) = {0x2200, 4, kWrite, 0};
  ASSERT_OK(Read(1));
  EXPECT_EQ(chain_->readable().size(), 2u);
  EXPECT_EQ(chain_->writable().size(), 1u);
  EXPECT_EQ(chain_->readable_size(), 24u);
}

TEST_F(ChainTest, SplitsABufferWhereRegionsTouch) {
  ring_[0] = {0x8ff0, 0x30, kWrite, 0};
  ASSERT_OK(Read(0));
  ASSERT_EQ(chain_->writable().size(), 2u);
  EXPECT_EQ(chain_->writable()[0].data, low_.data() + 0x7ff0);
  EXPECT_EQ(chain_->writable()[0].size, 0x10u);
  EXPECT_EQ(chain_->writable()[1].data, high_.data());
  EXPECT_EQ(chain_->writable()[1].size, 0x20u);
  EXPECT_EQ(chain_->writable()[1].address, GuestAddress{0x9000});
  EXPECT_EQ(chain_->writable_size(), 0x30u);
}

TEST_F(ChainTest, RefusesIndicesOutsideTheTable) {
  ExpectRefused(kSize, "outside the table");
  ExpectRefused(0xffff, "outside the table");
  ring_[0] = {0x2000, 1, kNext, kSize};
  ExpectRefused(0, "outside the table");
  ring_[0] = {0x1000, 16, kIndirect, 0};
  Indirect(0) = {0x2000, 1, kNext, 1};
  ExpectRefused(0, "outside the table");
}

TEST_F(ChainTest, RefusesLoops) {
  for (uint16_t i = 0; i < kSize; ++i) {
    ring_[i] = {0x2000, 1, kNext, static_cast<uint16_t>((i + 1) % kSize)};
  }
  ExpectRefused(1, "loop");
  ring_[0].next = 0;
  ExpectRefused(0, "loop");
  ring_[0] = {0x1000, 32, kIndirect, 0};
  Indirect(0) = {0x2000, 1, kNext, 1};
  Indirect(1) = {0x2000, 1, kNext, 0};
  ExpectRefused(0, "loop");
}

TEST_F(ChainTest, RefusesMisusedIndirectTables) {
  Indirect(0) = {0x2000, 1, 0, 0};
  ring_[0] = {0x1000, 16, kIndirect, 0};
  ASSERT_OK(Read(0));
  for (uint32_t size : {0u, 15u, 17u, 0xffffffffu}) {
    ring_[0].size = size;
    ExpectRefused(0, "size of the indirect table");
  }
  ring_[0] = {0x1000, 16, kIndirect | kNext, 1};
  ExpectRefused(0, "after the indirect table");
  ring_[0] = {0x8ff0, 32, kIndirect, 0};
  ExpectRefused(0, "table outside the memory");
  ring_[0] = {~uint64_t{0}, 32, kIndirect, 0};
  ExpectRefused(0, "table outside the memory");
  ring_[0] = {0x1000, 16, kIndirect, 0};
  Indirect(0) = {0x1000, 16, kIndirect, 0};
  ExpectRefused(0, "not allowed here");
}

TEST_F(ChainTest, RefusesIndirectTablesThatWereNotNegotiated) {
  Indirect(0) = {0x2000, 1, 0, 0};
  ring_[0] = {0x1000, 16, kIndirect, 0};
  table_.indirect = false;
  ExpectRefused(0, "not allowed here");
}

TEST_F(ChainTest, RefusesBadBuffers) {
  ring_[0] = {0x2000, 1, kWrite | kNext, 1};
  ring_[1] = {0x2000, 1, 0, 0};
  ExpectRefused(0, "after a writable one");
  ring_[1] = {0x2000, 0, 0, 0};
  ExpectRefused(1, "empty buffer");
  for (vring::Descriptor outside : {vring::Descriptor{0xfff, 1, 0, 0},
                                    {0x11000, 1, 0, 0},
                                    {0x10fff, 2, 0, 0},
                                    {0xfff, 2, 0, 0},
                                    {0x2000, 0xffffffff, 0, 0},
                                    {~uint64_t{0}, 1, 0, 0},
                                    {~uint64_t{0}, 0xffffffff, 0, 0}}) {
    ring_[2] = outside;
    ExpectRefused(2, "buffer outside the memory");
  }
}

TEST_F(ChainTest, RefusesABufferThatWrapsIntoMemoryAtZero) {
  memory_ = *GuestMemory::Create(
      {{GuestAddress{0}, 0x1000, UserAddress{0}, low_.data()},
       {GuestAddress{~uint64_t{0} - 0xfff}, 0x1000, UserAddress{0x9000},
        high_.data()}});
  ring_[0] = {~uint64_t{0}, 1, 0, 0};
  ASSERT_OK(Read(0));
  ring_[0] = {~uint64_t{0}, 2, 0, 0};
  ExpectRefused(0, "wraps");
}

TEST_F(ChainTest, RefusesMoreThanTheSizeFieldCounts) {
  std::vector<GuestRegion> huge = {
      {GuestAddress{0}, uint64_t{1} << 40, UserAddress{0}, low_.data()}};
  memory_ = *GuestMemory::Create(huge);  // Translated, never touched.
  ring_[0] = {0, 0xffffffff, 0, 0};
  ASSERT_OK(Read(0));
  ring_[0] = {0, 0x80000000, kNext, 1};
  ring_[1] = {0, 0x80000000, kWrite, 0};
  ExpectRefused(0, "4 GiB");
}

TEST_F(ChainTest, TakesAsManySegmentsAsItHolds) {
  for (size_t i = 0; i < Chain::kMaxSegments + 1; ++i) {
    Indirect(i) = {0x9000, 1, kNext, static_cast<uint16_t>(i + 1)};
  }
  Indirect(Chain::kMaxSegments - 1).flags = 0;
  ring_[0] = {0x1000, (Chain::kMaxSegments + 1) * 16, kIndirect, 0};
  ASSERT_OK(Read(0));
  EXPECT_EQ(chain_->readable().size(), Chain::kMaxSegments);
  Indirect(Chain::kMaxSegments - 1).flags = kNext;
  Indirect(Chain::kMaxSegments).flags = 0;
  ExpectRefused(0, "too long");
}

}  // namespace
}  // namespace holdfast

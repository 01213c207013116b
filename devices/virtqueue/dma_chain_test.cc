#include "devices/virtqueue/dma_chain.h"

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
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

// Windows: [0x1000, 0x3000) for both, [0x3000, 0x4000) to be read only; and
// [0x8000, 0x9000), which nobody can reach.
class DmaChainTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBase = 0x1000;

  DmaChainTest() {
    table_ = {GuestAddress{kBase}, /*size=*/64, /*indirect=*/true};
    Grant(0x1000, 0x2000, DmaAccess::kReadWrite, memory_.data());
    Grant(0x3000, 0x1000, DmaAccess::kRead, memory_.data() + 0x2000);
    Grant(0x8000, 0x1000, DmaAccess::kReadWrite, nullptr);
  }
  void Grant(uint64_t address, uint64_t size, DmaAccess access, uint8_t* host) {
    DmaWindow window;
    window.address = GuestAddress{address};
    window.size = size;
    window.access = access;
    window.host = host;
    ASSERT_OK(dma_.Add(window));
  }

  vring::Descriptor& Descriptor(int i, uint64_t table = kBase) {
    return reinterpret_cast<vring::Descriptor*>(At(table))[i];
  }
  uint8_t* At(uint64_t address) { return memory_.data() + (address - kBase); }
  void Put(uint64_t address, const std::string& text) {
    std::memcpy(At(address), text.data(), text.size());
  }
  std::string Get(uint64_t address, size_t size) {
    return std::string(At(address), At(address) + size);
  }
  static std::string Text(const ChainSegment& segment) {
    return std::string(segment.data, segment.data + segment.size);
  }
  absl::Status Read(uint16_t head) {
    return ReadChain(table_, head, dma_, absl::MakeSpan(room_), *chain_);
  }

  alignas(16) std::array<uint8_t, 0x3000> memory_ = {};
  std::array<uint8_t, 256> room_ = {};
  DmaWindows dma_;
  DmaDescriptorTable table_;
  std::unique_ptr<Chain> chain_ = std::make_unique<Chain>();
};

TEST_F(DmaChainTest, BuffersAreCopiesOfTheGuests) {
  Descriptor(2) = {0x1800, 5, kNext, 40};  // Farther than what is read ahead.
  Descriptor(40) = {0x1900, 3, kNext, 1};
  Descriptor(1) = {0x1a00, 4, kWrite, 0};
  Put(0x1800, "hello");
  Put(0x1900, "you");
  Put(0x1a00, "old!");
  ASSERT_OK(Read(2));
  ASSERT_OK(CopyIn(*chain_, dma_));
  EXPECT_EQ(chain_->head(), 2);
  ASSERT_EQ(chain_->readable().size(), 2u);
  EXPECT_EQ(Text(chain_->readable()[0]), "hello");
  EXPECT_EQ(Text(chain_->readable()[1]), "you");
  ASSERT_EQ(chain_->writable().size(), 1u);
  // Whatever was there before.
  EXPECT_EQ(Text(chain_->writable()[0]), std::string(4, '\0'));
  std::memcpy(chain_->writable()[0].data, "new", 3);
  EXPECT_EQ(Get(0x1a00, 4), "old!");
  ASSERT_OK(CopyOut(*chain_, dma_));
  EXPECT_EQ(Get(0x1a00, 4), std::string("new\0", 4));
  EXPECT_EQ(Get(0x1800, 5), "hello");
}

TEST_F(DmaChainTest, FollowsAnIndirectTable) {
  Descriptor(0) = {0x2000, 40 * sizeof(vring::Descriptor), kIndirect, 0};
  Descriptor(0, 0x2000) = {0x1800, 1, kNext, 39};
  Descriptor(39, 0x2000) = {0x1900, 2, kWrite, 0};
  ASSERT_OK(Read(0));
  EXPECT_EQ(chain_->readable_size(), 1u);
  EXPECT_EQ(chain_->writable_size(), 2u);
}

TEST_F(DmaChainTest, ReadOnlyWindowsHoldTablesAndWhatIsRead) {
  table_.descriptors = GuestAddress{0x3000};
  Descriptor(0, 0x3000) = {0x3800, 5, kNext, 1};
  Descriptor(1, 0x3000) = {0x1a00, 1, kWrite, 0};
  Put(0x3800, "hello");
  ASSERT_OK(Read(0));
  ASSERT_OK(CopyIn(*chain_, dma_));
  EXPECT_EQ(Text(chain_->readable()[0]), "hello");
  EXPECT_OK(CopyOut(*chain_, dma_));
}

TEST_F(DmaChainTest, AWriteIntoAReadOnlyWindowIsTheDriversMistake) {
  Descriptor(0) = {0x3000, 8, kWrite, 0};
  ASSERT_OK(Read(0));
  const absl::Status written = CopyOut(*chain_, dma_);
  EXPECT_THAT(written, StatusIs(absl::StatusCode::kPermissionDenied,
                                HasSubstr("does not allow")));
  EXPECT_TRUE(IsDriversMistake(written));
}

TEST_F(DmaChainTest, BuffersCrossFromOneWindowIntoTheNext) {
  Descriptor(0) = {0x2ffe, 4, 0, 0};
  Put(0x2ffe, "over");
  ASSERT_OK(Read(0));
  ASSERT_OK(CopyIn(*chain_, dma_));
  EXPECT_EQ(Text(chain_->readable()[0]), "over");
}

TEST_F(DmaChainTest, OutsideTheWindowsIsTheDriversMistake) {
  Descriptor(0) = {0x5000, 4, 0, 0};
  ASSERT_OK(Read(0));
  EXPECT_TRUE(IsDriversMistake(CopyIn(*chain_, dma_)));
  Descriptor(0) = {0x5000, 16, kIndirect, 0};
  EXPECT_TRUE(IsDriversMistake(Read(0)));
}

TEST_F(DmaChainTest, MemoryThatCannotBeReachedIsNobodysMistake) {
  Descriptor(0) = {0x8000, 4, 0, 0};
  ASSERT_OK(Read(0));
  const absl::Status status = CopyIn(*chain_, dma_);
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(IsDriversMistake(status));
}

TEST_F(DmaChainTest, BadChainsAreRefused) {
  const auto refused = [&](const char* why) {
    const absl::Status status = Read(0);
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
    EXPECT_TRUE(IsDriversMistake(status));
    EXPECT_TRUE(chain_->readable().empty());
  };
  Descriptor(0) = {0x1800, 1, kNext, 0};
  refused("loop");
  Descriptor(0) = {0x1800, 1, kNext, 64};
  refused("index outside");
  Descriptor(0) = {0x1800, 257, 0, 0};
  refused("larger than");
  Descriptor(0) = {~uint64_t{0}, 2, 0, 0};
  refused("wrapping");
  Descriptor(0) = {~uint64_t{0} - 7, 16, kIndirect, 0};
  refused("indirect table outside");
  Descriptor(0) = {0x2000, 15, kIndirect, 0};
  refused("size of the indirect table");
}

}  // namespace
}  // namespace holdfast

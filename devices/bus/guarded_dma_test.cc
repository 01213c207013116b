#include "devices/bus/guarded_dma.h"

#include <cstdint>

#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::_;

constexpr GuestAddress kAt{0x1000};

class GuardedDmaTest : public ::testing::Test {
 protected:
  GuardedDmaTest() {
    EXPECT_OK(windows_.Add(
        {kAt, sizeof(memory_), DmaAccess::kReadWrite, memory_, nullptr}));
  }

  uint8_t memory_[4096] = {7};
  DmaWindows windows_;
  bool may_ = true;
  GuardedDma dma_{windows_, [this] {
                    return may_ ? absl::OkStatus()
                                : absl::UnavailableError("not now");
                  }};
};

TEST_F(GuardedDmaTest, TransfersWhileItMay) {
  uint8_t byte = 0;
  EXPECT_OK(dma_.Read(kAt, {&byte, 1}));
  EXPECT_EQ(byte, 7);
  EXPECT_OK(dma_.Write(kAt, {9}));
  EXPECT_EQ(memory_[0], 9);
  const auto mapping = dma_.Map(kAt, 16, DmaAccess::kRead);
  ASSERT_OK(mapping);
  EXPECT_EQ(mapping->bytes().data(), memory_);
}

TEST_F(GuardedDmaTest, IsAskedBeforeEachTransfer) {
  may_ = false;
  uint8_t byte = 0;
  const auto refused = StatusIs(absl::StatusCode::kUnavailable, _);
  EXPECT_THAT(dma_.Read(kAt, {&byte, 1}), refused);
  EXPECT_THAT(dma_.Write(kAt, {9}), refused);
  EXPECT_THAT(dma_.Map(kAt, 16, DmaAccess::kRead), refused);
  EXPECT_EQ(memory_[0], 7);
  EXPECT_OK(dma_.AwaitForgotten()) << "of what it was allowed before";
  may_ = true;
  EXPECT_OK(dma_.Write(kAt, {9}));
}

}  // namespace
}  // namespace holdfast

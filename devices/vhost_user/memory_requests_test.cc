// Requests about memory and its dirty log, in each other's presence.

#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/test_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::vhost_user {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

// A byte of log stands for 8 pages of 4 KiB.
constexpr uint64_t kMemoryOfAByte = 8 * 4096;
constexpr MemoryRegion kLow{0, kMemoryOfAByte, 0x7f0000000000, 0};
constexpr MemoryRegion kHigh{16 * kMemoryOfAByte, 4096, 0x7e0000000000, 0};

class LogCoverage : public ::testing::Test {
 protected:
  absl::Status SetFeatures(uint64_t more) {
    return session_
        .SendNumber(RequestType::kSetFeatures, kFeatureProtocolFeatures | more)
        .status();
  }
  absl::Status SetMemory(const std::vector<MemoryRegion>& regions) {
    return session_
        .Send(RequestType::kSetMemTable, MemoryTablePayload(regions),
              regions.size())
        .status();
  }
  absl::Status Add(const MemoryRegion& region) {
    return session_
        .Send(RequestType::kAddMemReg, BytesOf(SingleMemoryRegion{0, region}),
              1)
        .status();
  }
  // Covers the guest's memory up to `bytes` * kMemoryOfAByte.
  void SetLog(uint64_t bytes) {
    const auto outcome = session_.Send(RequestType::kSetLogBase,
                                       BytesOf(LogDescription{bytes, 0}), 1);
    ASSERT_OK(outcome);
    ASSERT_OK(outcome->refusal);
  }

  TestSession session_;
};

// A page without a bit in the log would be lost in a migration.
TEST_F(LogCoverage, MemoryBeyondTheLogIsRefusedWhileLogging) {
  ASSERT_OK(SetFeatures(0));
  ASSERT_OK(SetMemory({kLow}));
  SetLog(1);
  ASSERT_OK(SetFeatures(kFeatureLogAll));
  const auto refused = StatusIs(
      kInvalid, HasSubstr("a log of 1 bytes does not cover guest address"));
  EXPECT_THAT(Add(kHigh), refused);
  EXPECT_THAT(SetMemory({kLow, kHigh}), refused);
  EXPECT_EQ(RegionCount(session_.state), 1u);
  // As QEMU does it: a larger log first.
  SetLog(17);
  EXPECT_OK(SetMemory({kLow, kHigh}));
  EXPECT_OK(SetMemory({kLow}));
  EXPECT_OK(Add(kHigh));
}

// The log of a migration that is over is nobody's concern any more...
TEST_F(LogCoverage, MemoryMayGrowBetweenMigrations) {
  ASSERT_OK(SetFeatures(0));
  ASSERT_OK(SetMemory({kLow}));
  SetLog(1);
  ASSERT_OK(SetFeatures(kFeatureLogAll));
  ASSERT_OK(SetFeatures(0));
  EXPECT_OK(Add(kHigh));
  // ... until it shall be written again.
  EXPECT_THAT(SetFeatures(kFeatureLogAll),
              StatusIs(kInvalid, HasSubstr("does not cover guest address")));
  SetLog(17);
  EXPECT_OK(SetFeatures(kFeatureLogAll));
}

TEST_F(LogCoverage, ADeviceWithoutALogHasNothingToCover) {
  ASSERT_OK(SetFeatures(kFeatureLogAll));
  EXPECT_OK(SetMemory({kLow, kHigh}));
}

TEST_F(LogCoverage, ALogMayEndWithMemory) {
  ASSERT_OK(SetFeatures(0));
  ASSERT_OK(SetMemory({{0, kMemoryOfAByte + 1, kLow.user_address, 0}}));
  const auto outcome =
      session_.Send(RequestType::kSetLogBase, BytesOf(LogDescription{1, 0}), 1);
  ASSERT_OK(outcome);
  EXPECT_FALSE(outcome->refusal.ok());
  SetLog(2);
}

}  // namespace
}  // namespace holdfast::vhost_user

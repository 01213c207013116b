#include "devices/bus/access_keeper.h"

#include <array>
#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/testing/state_memory.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StateMemory;
using ::holdfast::testing::StatusIs;
using ::testing::_;

constexpr Reg32 kCount = Reg32{"count", 0x08, kReadWrite}.InBar(access::kBank);

// A function of one register, which each access counts up.
class AccessKeeperTest : public ::testing::Test {
 protected:
  AccessKeeperTest() : bank_(MakeBank()), memory_(MakeSchema()) {
    EXPECT_OK(bank_.Bind(memory_.schema()));
    keeper_.TakeOver(bank_, memory_.bank(), [] {});
  }

  // What the access is answered; the whole of `bytes`, each alike.
  uint8_t Read(uint64_t name, size_t bytes = 4, bool changes = true) {
    std::vector<uint8_t> out(bytes, 0xee);
    status_ = keeper_.Transact(
        [&](StateTxn& txn) {
          return keeper_.Read(txn, AccessId{name}, absl::MakeSpan(out), [&] {
            const uint64_t count = bank_.Get(txn, kCount, 0) + 1;
            if (changes) bank_.Set(txn, kCount, 0, count);
            for (uint8_t& byte : out) byte = static_cast<uint8_t>(count);
            return absl::OkStatus();
          });
        },
        [] {});
    return out.back();
  }
  void Write(uint64_t name) {
    status_ = keeper_.Transact(
        [&](StateTxn& txn) {
          return keeper_.Write(txn, AccessId{name}, [&] {
            bank_.Set(txn, kCount, 0, bank_.Get(txn, kCount, 0) + 1);
            return result_;
          });
        },
        [&] { ++committed_; });
  }
  uint64_t count() {
    StateTxn txn = memory_.bank().Begin();
    return bank_.Get(txn, kCount, 0);
  }

  RegisterBank bank_;
  StateMemory memory_;
  AccessKeeper keeper_{"test"};
  absl::Status status_;
  absl::Status result_;
  int committed_ = 0;

 private:
  static RegisterBank MakeBank() {
    return *RegisterBank::Create(
        "own", access::kBank,
        {access::kName, kCount, access::kReady, access::kAnswer});
  }
  static Schema MakeSchema() {
    Schema schema;
    EXPECT_OK(MakeBank().AddFields(schema));
    return schema;
  }
};

TEST_F(AccessKeeperTest, AnAccessThatComesTwiceIsMadeOnce) {
  EXPECT_EQ(Read(1), 1);
  EXPECT_EQ(Read(1), 1);
  Write(2);
  Write(2);
  EXPECT_EQ(count(), 2u);
  EXPECT_EQ(Read(3), 3);
}

TEST_F(AccessKeeperTest, ASuccessorsKeeperAnswersAsThisOneDid) {
  EXPECT_EQ(Read(7), 1);
  memory_.Restart();
  AccessKeeper successor("test");
  successor.TakeOver(bank_, memory_.bank(), [] {});
  std::array<uint8_t, 4> out = {};
  ASSERT_OK(successor.Transact(
      [&](StateTxn& txn) {
        return successor.Read(txn, AccessId{7}, absl::MakeSpan(out),
                              [] { return absl::InternalError("made again"); });
      },
      [] {}));
  EXPECT_EQ(out, (std::array<uint8_t, 4>{1, 1, 1, 1}));
}

TEST_F(AccessKeeperTest, WithoutANameNothingIsKept) {
  EXPECT_EQ(Read(0), 1);
  EXPECT_EQ(Read(0), 2) << "the control: it is made again";
  Write(0);
  EXPECT_EQ(count(), 3u);
}

TEST_F(AccessKeeperTest, WhatChangesNothingNeedNotBeKept) {
  EXPECT_EQ(Read(1), 1);
  EXPECT_EQ(Read(2, 4, /*changes=*/false), 2);
  EXPECT_EQ(Read(1), 1) << "name 1 is still the last that changed anything";
}

TEST_F(AccessKeeperTest, OfALongAnswerTheFirstBytesAreKept) {
  EXPECT_EQ(Read(1, 100), 1);
  EXPECT_EQ(Read(1, 100), 0xee) << "not kept";
  EXPECT_EQ(Read(1, access::kMaxSize), 1);
}

TEST_F(AccessKeeperTest, AnAccessThatFailsHasNotHappened) {
  result_ = absl::InvalidArgumentError("no");
  Write(1);
  EXPECT_THAT(status_, StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_EQ(count(), 0u);
  EXPECT_EQ(committed_, 0);
  result_ = absl::OkStatus();
  Write(1);
  EXPECT_EQ(count(), 1u);
  EXPECT_EQ(committed_, 1);
}

TEST_F(AccessKeeperTest, NothingIsMadeBeforeTheStateIsTakenOver) {
  AccessKeeper keeper("test");
  EXPECT_THAT(
      keeper.Transact([](StateTxn&) { return absl::OkStatus(); }, [] {}),
      StatusIs(absl::StatusCode::kFailedPrecondition, _));
}

TEST_F(AccessKeeperTest, ASegmentIsMadeReadyOnce) {
  int resets = 0;
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK(keeper_.Transact(
        [&](StateTxn& txn) {
          keeper_.MakeReady(txn, [&] { ++resets; });
          return absl::OkStatus();
        },
        [] {}));
  }
  EXPECT_EQ(resets, 1);
}

TEST_F(AccessKeeperTest, RangesMayNotWrapOrLeaveTheRegion) {
  const std::vector<RegionInfo> regions = {{16, true, true, {}}, {}};
  EXPECT_OK(keeper_.CheckRange(regions, 0, 0, 16));
  EXPECT_OK(keeper_.CheckRange(regions, 0, 16, 0));
  const auto refused = StatusIs(absl::StatusCode::kOutOfRange, _);
  EXPECT_THAT(keeper_.CheckRange(regions, 0, 1, 16), refused);
  EXPECT_THAT(keeper_.CheckRange(regions, 0, ~uint64_t{0}, 2), refused);
  EXPECT_THAT(keeper_.CheckRange(regions, 0, 2, ~uint64_t{0}), refused);
  EXPECT_THAT(keeper_.CheckRange(regions, 1, 0, 1), refused);
  EXPECT_THAT(keeper_.CheckRange(regions, 2, 0, 1), refused);
  EXPECT_OK(keeper_.CheckSize(access::kMaxSize));
  EXPECT_THAT(keeper_.CheckSize(access::kMaxSize + 1),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_F(AccessKeeperTest, WhatADeviceSaysIsItsGuestsMistake) {
  EXPECT_OK(keeper_.Blame(absl::OkStatus()));
  EXPECT_EQ(keeper_.guest_errors(), 0u);
  EXPECT_THAT(keeper_.Blame(absl::DataLossError("x")),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_EQ(keeper_.guest_errors(), 1u);
}

}  // namespace
}  // namespace holdfast

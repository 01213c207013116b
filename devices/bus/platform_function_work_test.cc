// Work of platform devices: ordered by accesses and done after them; areas and
// memory that it reaches.
#include <cstdint>
#include <functional>
#include <vector>

#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "devices/bus/platform_function.h"
#include "devices/bus/testing/platform_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::PlatformClassOf;
using ::holdfast::testing::PlatformGuest;
using ::holdfast::testing::StatusIs;
using ::testing::_;

constexpr Reg32 kStart{"start", 0x00, kWriteOnly};  // Work.
constexpr Reg32 kEnded{"ended", 0x04, kReadOnly};   // Works that have.

class Worker final : public PlatformDevice {
 public:
  static PlatformSpec Spec() {
    return PlatformSpec()
        .Region({kStart, kEnded})
        .EdgeLine()
        .Area("area", 128)
        .WorkThreads(2);
  }
  explicit Worker(PlatformContext& context) {
    EXPECT_TRUE(context.Area("area").empty()) << "not ours yet";
  }

  void OnTakeOver() override { ++takeovers; }
  void OnCrash(uint32_t work) override { crashed.push_back(work); }
  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    txn.Order(static_cast<uint32_t>(write.value()));
    return absl::OkStatus();
  }
  absl::Status OnWork(uint32_t work, PlatformContext& context) override {
    if (during_work) RETURN_IF_ERROR(during_work(work, context));
    return context.Update([&](PlatformTxn& txn) {
      txn.Set(kEnded, txn.Get(kEnded) + 1);
      txn.Pulse(0);
      txn.Done(work);
      return absl::OkStatus();
    });
  }

  static std::function<absl::Status(uint32_t, PlatformContext&)> during_work;
  static int takeovers;
  static std::vector<uint32_t> crashed;
};
std::function<absl::Status(uint32_t, PlatformContext&)> Worker::during_work;
int Worker::takeovers = 0;
std::vector<uint32_t> Worker::crashed;

class PlatformWorkTest : public ::testing::Test {
 protected:
  PlatformWorkTest() : guest_(PlatformClassOf<Worker>()) {}
  ~PlatformWorkTest() override { Worker::during_work = nullptr; }

  // Orders work and leaves it to others.
  void Order(uint8_t work) {
    const uint8_t bytes[4] = {work};
    ASSERT_OK(guest_.function().Write(AccessId::kNone, 0, 0, bytes));
  }

  PlatformGuest guest_;
};

TEST_F(PlatformWorkTest, IsDoneAfterTheAccessAndInterrupts) {
  Order(3);
  EXPECT_EQ(guest_.signals(0), 0u);
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_FALSE(guest_.function().work_pending());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 1u);
  EXPECT_EQ(guest_.signals(0), 1u);
  EXPECT_EQ(guest_.function().work_threads(), 2u);
}

TEST_F(PlatformWorkTest, ACrashIsBlamedOnTheWorkOfItsThread) {
  Worker::during_work = [&](uint32_t, PlatformContext&) {
    guest_.function().OnWorkCrash();
    return absl::OkStatus();
  };
  guest_.function().OnWorkCrash();
  guest_.Write32(0, kStart.offset(), 6);
  guest_.function().OnWorkCrash();
  EXPECT_THAT(Worker::crashed, ::testing::ElementsAre(6));
}

TEST_F(PlatformWorkTest, TransfersUntilTheGuestResets) {
  Worker::during_work = [&](uint32_t, PlatformContext& context) {
    EXPECT_OK(context.dma().Write(GuestAddress{8}, {42}));
    EXPECT_FALSE(guest_.function().Reset().ok()) << "this work runs";
    EXPECT_THAT(context.dma().Write(GuestAddress{9}, {42}),
                StatusIs(absl::StatusCode::kUnavailable, _));
    return absl::OkStatus();
  };
  Order(1);
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_EQ(guest_.ram()[8], 42);
  EXPECT_EQ(guest_.ram()[9], 0);
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 0u);
}

TEST_F(PlatformWorkTest, ReachesNothingThatWasNotGranted) {
  Worker::during_work = [](uint32_t, PlatformContext& context) {
    return context.dma().Write(GuestAddress{PlatformGuest::kRamSize}, {42});
  };
  Order(1);
  EXPECT_FALSE(guest_.function().RunWork().ok());
  EXPECT_EQ(guest_.function().guest_errors(), 1u);
}

TEST_F(PlatformWorkTest, AreasOutliveTheProcessAndResets) {
  Worker::during_work = [](uint32_t, PlatformContext& context) {
    EXPECT_EQ(context.Area("area").size(), 128u);
    EXPECT_TRUE(context.Area("other").empty());
    ++context.Area("area")[127];
    return absl::OkStatus();
  };
  guest_.Write32(0, kStart.offset(), 1);
  const int takeovers = Worker::takeovers;
  guest_.Restart();
  EXPECT_EQ(Worker::takeovers, takeovers + 1);
  ASSERT_OK(guest_.function().Reset());
  guest_.Write32(0, kStart.offset(), 1);
  EXPECT_EQ(guest_.areas()[127], 2);
  EXPECT_FALSE(guest_.function().Start(guest_.bank(), {}).ok());
}

TEST_F(PlatformWorkTest, IsCalledInWithoutATransaction) {
  Worker::during_work = [](uint32_t work, PlatformContext& context) {
    if (work == 1) context.CallIn(0x4);
    if (work == 2) context.CallAll(0x8);
    return absl::OkStatus();
  };
  guest_.Write32(0, kStart.offset(), 1);
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 3u) << "1, 2 and 3";
}

}  // namespace
}  // namespace holdfast

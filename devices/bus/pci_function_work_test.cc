// Work on several threads, areas, and interrupts without a transaction.
#include <cstdint>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/pci_function.h"
#include "devices/bus/testing/pci_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::PciClassOf;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Reg32 kStart{"start", 0x00, kWriteOnly};  // Work.
constexpr Reg32 kEnded{"ended", 0x04, kReadOnly};   // Works that have.

class Worker final : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678})
        .Bar(0, {kStart, kEnded})
        .Intx()
        .Msix(70)
        .Area("first", 64)
        .Area("second", 128)
        .WorkThreads(2);
  }

  explicit Worker(PciContext& context) {
    EXPECT_TRUE(context.Area("first").empty()) << "not ours yet";
  }

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    txn.Order(static_cast<uint32_t>(write.value()));
    return absl::OkStatus();
  }

  absl::Status OnWork(uint32_t work, PciContext& context) override {
    if (during_work) during_work(work, context);
    return context.Update([&](PciTxn& txn) {
      txn.Set(kEnded, txn.Get(kEnded) + 1);
      txn.Done(work);
      return absl::OkStatus();
    });
  }

  static std::function<void(uint32_t, PciContext&)> during_work;
};
std::function<void(uint32_t, PciContext&)> Worker::during_work;

class PciWorkTest : public ::testing::Test {
 protected:
  PciWorkTest() : guest_(PciClassOf<Worker>()) {}
  ~PciWorkTest() override { Worker::during_work = nullptr; }

  // Orders work and leaves it to others.
  void Order(uint8_t work) {
    const uint8_t bytes[4] = {work};
    ASSERT_OK(guest_.function().Write(AccessId::kNone, 0, 0, bytes));
  }
  // What `work` sees of the context.
  void Within(std::function<void(PciContext&)> what) {
    Worker::during_work = [what](uint32_t, PciContext& context) {
      what(context);
    };
    guest_.Write32(0, kStart.offset(), 1);
    Worker::during_work = nullptr;
  }
  bool Signals(uint32_t vector) {
    bool signalled = false;
    Within(
        [&](PciContext& context) { signalled = context.SignalMsix(vector); });
    return signalled;
  }

  PciGuest guest_;
};

TEST_F(PciWorkTest, DifferentWorkIsDoneBesideOneAnother) {
  EXPECT_EQ(guest_.function().work_threads(), 2u);
  std::promise<void> begun;
  std::promise<void> end;
  Worker::during_work = [&](uint32_t work, PciContext&) {
    if (work != 3) return;
    begun.set_value();
    end.get_future().wait();
  };
  Order(3);
  Order(5);
  std::thread other([&] { EXPECT_OK(guest_.function().RunWork()); });
  begun.get_future().wait();
  EXPECT_TRUE(guest_.function().work_pending()) << "5";
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 1u);

  Order(3);
  EXPECT_FALSE(guest_.function().work_pending()) << "never beside itself";
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 1u);

  EXPECT_THAT(guest_.function().Reset(),
              StatusIs(absl::StatusCode::kUnavailable, _));
  end.set_value();
  other.join();
  EXPECT_OK(guest_.function().Reset());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 0u) << "it was cut off";
}

TEST_F(PciWorkTest, WhatIsOrderedWhileItRunsIsPendingAfterwards) {
  int runs = 0;
  Worker::during_work = [&](uint32_t, PciContext&) {
    if (++runs == 1) Order(7);
    EXPECT_FALSE(guest_.function().work_pending());
  };
  Order(7);
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_TRUE(guest_.function().work_pending());
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 2u);
}

class CountingCaller final : public WorkCaller {
 public:
  void CallThread() override { ++calls; }
  int calls = 0;
};

TEST_F(PciWorkTest, CallsInOneThatIsIdle) {
  CountingCaller caller;
  guest_.function().SetWorkCaller(&caller);
  std::vector<uint32_t> done;
  Worker::during_work = [&](uint32_t work, PciContext& context) {
    done.push_back(work);
    if (work != 1) return;
    context.CallIn(0x600);
    EXPECT_TRUE(guest_.function().work_pending()) << "9";
    context.CallIn(0x600);
    context.CallIn(0x600);  // There is no third.
    context.CallIn(0);
  };
  Order(1);
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_EQ(caller.calls, 2);
  while (guest_.function().work_pending()) {
    EXPECT_OK(guest_.function().RunWork());
  }
  EXPECT_THAT(done, ElementsAre(1, 9, 10));
  EXPECT_EQ(caller.calls, 3) << "9 has called in who does 10";
}

TEST_F(PciWorkTest, WhoWasCalledInIsForgottenWithTheProcess) {
  Worker::during_work = [&](uint32_t, PciContext& context) {
    context.CallAll(0x600);
  };
  Order(1);
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_TRUE(guest_.function().work_pending());
  guest_.Restart();
  EXPECT_FALSE(guest_.function().work_pending());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 1u);
}

// What is ordered meanwhile is not lost with the call.
TEST_F(PciWorkTest, WorkIsCalledInAndOrdered) {
  Worker::during_work = [&](uint32_t work, PciContext& context) {
    if (work == 1) context.CallAll(uint64_t{1} << 9);
    if (work == 9) Order(9);
    Worker::during_work = nullptr;
  };
  const auto first = Worker::during_work;
  Order(1);
  EXPECT_OK(guest_.function().RunWork());
  Worker::during_work = first;
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_TRUE(guest_.function().work_pending()) << "9, again";
  EXPECT_OK(guest_.function().RunWork());
  EXPECT_FALSE(guest_.function().work_pending());
  EXPECT_EQ(guest_.Read32(0, kEnded.offset()), 3u);
}

// ---- Areas ----

TEST_F(PciWorkTest, AreasAreApartAndOutliveTheProcess) {
  Within([](PciContext& context) {
    EXPECT_EQ(context.Area("first").size(), 64u);
    EXPECT_EQ(context.Area("second").size(), 128u);
    EXPECT_TRUE(context.Area("third").empty());
    EXPECT_EQ(context.Area("second")[127], 0);
    context.Area("first")[63] = 1;
    context.Area("second")[0] = 2;
  });
  guest_.Restart();
  Within([](PciContext& context) {
    EXPECT_EQ(context.Area("first")[63], 1);
    EXPECT_EQ(context.Area("second")[0], 2);
  });
}

TEST_F(PciWorkTest, AResetLeavesAreasAlone) {
  Within([](PciContext& context) { context.Area("first")[0] = 1; });
  ASSERT_OK(guest_.function().Reset());
  Within([](PciContext& context) { EXPECT_EQ(context.Area("first")[0], 1); });
}

TEST_F(PciWorkTest, NeedsAllOfItsAreas) {
  alignas(64) uint8_t bytes[256];
  for (const absl::Span<uint8_t> wrong :
       {absl::Span<uint8_t>(), absl::MakeSpan(bytes),
        absl::MakeSpan(bytes + 1, 192)}) {
    EXPECT_THAT(
        guest_.function().Start(guest_.bank(), wrong),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("192 wanted")));
  }
}

// ---- Interrupts without a transaction ----

TEST_F(PciWorkTest, SignalsWhatReachesTheGuestAtOnce) {
  EXPECT_FALSE(Signals(65)) << "not enabled";
  guest_.EnableMsix();
  EXPECT_FALSE(Signals(65)) << "no bus master";
  guest_.EnableMaster();
  EXPECT_FALSE(Signals(65)) << "masked in the table";
  guest_.UnmaskMsix(65);
  EXPECT_EQ(guest_.msix_count(1), 0u);
  EXPECT_TRUE(Signals(65));
  EXPECT_FALSE(Signals(64));
  EXPECT_FALSE(Signals(70)) << "no such vector";
  guest_.WriteConfig(pci::kMsixControl.offset(),
                     pci::kMsixEnable | pci::kMsixMaskAll, 2);
  EXPECT_FALSE(Signals(65)) << "all are masked";
}

TEST_F(PciWorkTest, SignalsNothingAfterAReset) {
  guest_.EnableMaster();
  guest_.EnableMsix();
  guest_.UnmaskMsix(3);
  Within([&](PciContext& context) {
    EXPECT_TRUE(context.SignalMsix(3));
    EXPECT_FALSE(guest_.function().Reset().ok()) << "this work runs";
    EXPECT_FALSE(context.SignalMsix(3));
  });
  EXPECT_EQ(guest_.msix_count(3), 1u);
}

TEST_F(PciWorkTest, ASuccessorKnowsWhichVectorsAreReady) {
  guest_.EnableMaster();
  guest_.EnableMsix();
  guest_.UnmaskMsix(3);
  guest_.Restart();
  EXPECT_TRUE(Signals(3));
  EXPECT_FALSE(Signals(4));
}

TEST(PciWork, MasksOfTheVmmAreNotOurs) {
  PciGuest::Options options;
  options.has_vector_table = true;
  PciGuest guest(PciClassOf<Worker>(), options);
  guest.EnableMaster();
  guest.EnableMsix();
  Worker::during_work = [](uint32_t, PciContext& context) {
    EXPECT_TRUE(context.SignalMsix(69));
  };
  guest.Write32(0, kStart.offset(), 0);
  Worker::during_work = nullptr;
}

}  // namespace
}  // namespace holdfast

// Register accesses killed after every store that anybody outside could see.
// The controls at the end each leave one rule out, and must be caught.
#include "devices/bus/testing/pci_crash.h"

#include <cstdint>
#include <cstdio>
#include <utility>

#include "devices/bus/pci_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::HasSubstr;

constexpr Reg32 kAdd{"add", 0x00, kReadWrite};
constexpr Reg32 kSum{"sum", 0x04, kReadToClear};
constexpr Reg32 kWork{"work", 0x08, kWriteOnly};
constexpr Reg32 kDone{"done", 0x0c, kReadOnly};

// Adds up what is written, and interrupts. Work counts itself.
class Adder : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678})
        .Bar(0, {kAdd, kSum, kWork, kDone})
        .Intx();
  }
  explicit Adder(PciContext&) {}

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kAdd)) txn.Set(kSum, txn.Get(kSum) + txn.Get(kAdd));
    if (write.Is(kAdd)) txn.SetIntx(true);
    if (write.Is(kWork)) txn.Order(0);
    return absl::OkStatus();
  }
  absl::Status OnWork(uint32_t, PciContext& context) override {
    return context.Update([](PciTxn& txn) {
      txn.Set(kDone, txn.Get(kDone) + 1);
      txn.Done(0);
      return absl::OkStatus();
    });
  }
};

void AddAndRead(PciGuest& guest) {
  guest.Write32(0, kAdd.offset(), 3);
  guest.Read32(0, kSum.offset());
}

CrashReport Explore(const PciClass& device, PciScript script,
                    PciGuest::Options options = {}, int depth = 1) {
  PciCrashPlan plan;
  plan.script = std::move(script);
  plan.options = options;
  plan.depth = depth;
  const CrashReport report = ExplorePciCrashes(device, plan);
  std::printf("%llu crash states, %llu violations: %s\n",
              static_cast<unsigned long long>(report.crash_states),
              static_cast<unsigned long long>(report.violations),
              report.first_violation.c_str());
  EXPECT_EQ(report.error, "");
  return report;
}

TEST(PciCrash, AccessesAreExecutedOnceAndAnsweredOnce) {
  AtEveryCrashPoint<Adder>(AddAndRead);
}

TEST(PciCrash, ReadsThatClearReturnWhatTheyCleared) {
  PciCrashPlan plan;
  plan.before = [](PciGuest& guest) { guest.Write32(0, kAdd.offset(), 7); };
  plan.script = [](PciGuest& guest) {
    guest.Read(0, kAdd.offset(), 8);
    guest.Read32(0, kSum.offset());
  };
  ExpectSurvives(PciClassOf<Adder>(), plan);
}

TEST(PciCrash, WorkEndsOnce) {
  AtEveryCrashPoint<Adder>(
      [](PciGuest& guest) { guest.Write32(0, kWork.offset(), 1); });
}

TEST(PciCrash, ANewSegmentIsMadeOnce) {
  PciCrashPlan plan;
  plan.fresh = true;
  plan.script = [](PciGuest& guest) { guest.EnableMaster(); };
  ExpectSurvives(PciClassOf<Adder>(), plan);
}

constexpr Reg32 kKnown{"known", 0x00, kReadOnly};  // Of the resource.
constexpr Reg32 kNews{"news", 0x04, kReadOnly};    // So often told.
constexpr Reg32 kWorks{"works", 0x08, kReadOnly};  // For each of these.

// Tells its driver what has become of a resource.
class Follower : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678})
        .Bar(0, {kKnown, kNews, kWorks})
        .Intx();
  }
  explicit Follower(PciContext&) {}

  void OnResourceChanged(PciTxn& txn) override {
    const auto now = static_cast<uint32_t>(PciGuest::Resource());
    if (now != txn.Get(kKnown)) Tell(now, txn);
  }
  absl::Status OnWork(uint32_t, PciContext& context) override {
    return context.Update([](PciTxn& txn) {
      txn.Set(kWorks, txn.Get(kWorks) + 1);
      txn.Done(0);
      return absl::OkStatus();
    });
  }

 protected:
  static void Tell(uint32_t now, PciTxn& txn) {
    txn.Set(kKnown, now);
    txn.Set(kNews, txn.Get(kNews) + 1);
    txn.SetIntx(true);
    txn.Order(0);
  }
};

void ChangeTwice(PciGuest& guest) {
  guest.ChangeResource(7);
  guest.Read32(0, kNews.offset());
  guest.ChangeResource(9);
  guest.Read(0, kKnown.offset(), 8);
  guest.Read32(0, kWorks.offset());
}

TEST(PciCrash, ADeviceLooksAtItsResourcesWhenToldAndAtFirst) {
  PciGuest guest(PciClassOf<Follower>());
  guest.ChangeResource(7);
  EXPECT_EQ(guest.Read32(0, kKnown.offset()), 7u);
  EXPECT_EQ(guest.signals(kPciIntxIrq), 1u);
  ASSERT_TRUE(guest.function().ResourceChanged().ok());
  guest.Restart();
  EXPECT_EQ(guest.Read32(0, kNews.offset()), 1u) << "nothing new";
  EXPECT_EQ(guest.Read32(0, kWorks.offset()), 1u);
  ASSERT_TRUE(guest.function().Reset().ok());
  EXPECT_EQ(guest.Read32(0, kKnown.offset()), 0u);
  guest.Restart();
  EXPECT_EQ(guest.Read32(0, kKnown.offset()), 7u) << "nobody has told it";
}

TEST(PciCrash, AChangeOutsideIsToldOnce) {
  AtEveryCrashPoint<Follower>(ChangeTwice);
}

// ---- Controls ----

// Remembers in the process what it has told.
class ForgetfulFollower final : public Follower {
 public:
  using Follower::Follower;
  void OnResourceChanged(PciTxn& txn) override {
    const auto now = static_cast<uint32_t>(PciGuest::Resource());
    if (std::exchange(known_, now) != now) Tell(now, txn);
  }

 private:
  uint32_t known_ = 0;
};

TEST(PciCrashControl, WhatWasToldMustBeState) {
  const CrashReport report =
      Explore(PciClassOf<ForgetfulFollower>(), ChangeTwice);
  EXPECT_GT(report.violations, 0u);
}

// Looks when it is told, and does not when it takes over.
class LateFollower final : public Follower {
 public:
  using Follower::Follower;
  void OnTakeOver() override { took_over_ = true; }
  void OnResourceChanged(PciTxn& txn) override {
    if (!std::exchange(took_over_, false)) Follower::OnResourceChanged(txn);
  }

 private:
  bool took_over_ = false;
};

TEST(PciCrashControl, WithoutALookAtFirstAChangeIsLost) {
  const CrashReport report = Explore(PciClassOf<LateFollower>(), ChangeTwice);
  EXPECT_GT(report.violations, 0u);
}

// Keeps its sum where a crash takes it.
class Forgetful final : public Adder {
 public:
  using Adder::Adder;
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kAdd)) txn.Set(kSum, sum_ += txn.Get(kAdd));
    return absl::OkStatus();
  }

 private:
  uint32_t sum_ = 0;
};

TEST(PciCrashControl, StateInTheProcessIsCaught) {
  const CrashReport report =
      Explore(PciClassOf<Forgetful>(), [](PciGuest& guest) {
        guest.Write32(0, kAdd.offset(), 3);
        guest.Write32(0, kAdd.offset(), 4);
      });
  EXPECT_GT(report.violations, 0u);
  EXPECT_THAT(report.first_violation, HasSubstr("bar0.sum"));
}

TEST(PciCrashControl, AccessesWithoutNamesAreExecutedTwice) {
  PciGuest::Options options;
  options.names_accesses = false;
  const CrashReport report = Explore(PciClassOf<Adder>(), AddAndRead, options);
  EXPECT_GT(report.violations, 0u);
}

TEST(PciCrashControl, WithoutResumeAnInterruptIsLost) {
  PciGuest::Options options;
  options.resumes = false;
  const CrashReport report = Explore(PciClassOf<Adder>(), AddAndRead, options);
  EXPECT_GT(report.violations, 0u);
  EXPECT_THAT(report.first_violation, HasSubstr("interrupt 0/0"));
}

// Changes state in one transaction and ends its work in another.
class DoneLate final : public Adder {
 public:
  using Adder::Adder;
  absl::Status OnWork(uint32_t, PciContext& context) override {
    return context.Update([](PciTxn& txn) {
      txn.Set(kDone, txn.Get(kDone) + 1);
      return absl::OkStatus();
    });
  }
};

TEST(PciCrashControl, WorkThatDoesNotSayDoneIsDoneTwice) {
  const CrashReport report =
      Explore(PciClassOf<DoneLate>(),
              [](PciGuest& guest) { guest.Write32(0, kWork.offset(), 1); });
  EXPECT_GT(report.violations, 0u);
  EXPECT_THAT(report.first_violation, HasSubstr("bar0.done"));
}

}  // namespace
}  // namespace holdfast::testing

// The rules on a platform device that keeps them, and on devices that break one
// each: a rule that cannot fail proves nothing.
#include "devices/bus/testing/platform_conformance.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "devices/bus/platform_device.h"
#include "devices/bus/testing/passing_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Reg32 kVersion{"version", 0x00, kConstant, 0x12345678};
constexpr Reg32 kAdd{"add", 0x04, kReadWrite};
constexpr Reg32 kSum{"sum", 0x08, kReadOnly};
constexpr Reg32 kLatch{"latch", 0x0c, kReadToClear, 7};
constexpr Reg32 kStart{"start", 0x10, kWriteOnly};
constexpr Reg32 kDone{"done", 0x14, kReadOnly};

// Adds up what is written; work counts itself in guest memory and in an area.
class Sound : public PlatformDevice {
 public:
  static PlatformSpec Spec() {
    return PlatformSpec()
        .Region(
            RegisterFile{kVersion, kAdd, kSum, kLatch, kStart, kDone}.Size(256))
        .Region({Reg64{"wide", 0, kReadWrite}.InBar(1)})
        .LevelLine()
        .EdgeLine()
        .Area("journal", 64);
  }
  explicit Sound(PlatformContext& context) : context_(context) {}

  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    if (write.Is(kAdd)) {
      txn.Set(kSum, txn.Get(kSum) + txn.Get(kAdd));
      txn.Set(kLatch, txn.Get(kLatch) | 1);
    }
    if (write.Is(kStart)) txn.Order(0);
    return absl::OkStatus();
  }
  absl::Status OnWork(uint32_t, PlatformContext& context) override {
    uint32_t next = 0;
    RETURN_IF_ERROR(context.Update([&](PlatformTxn& txn) {
      next = txn.Get(kDone) + 1;
      return absl::OkStatus();
    }));
    context.Area("journal")[0] = static_cast<uint8_t>(next);
    RETURN_IF_ERROR(context.dma().Write(
        GuestAddress{0}, {reinterpret_cast<const uint8_t*>(&next), 4}));
    return context.Update([&](PlatformTxn& txn) {
      txn.Set(kDone, next);
      txn.Pulse(1);
      txn.Done(0);
      return absl::OkStatus();
    });
  }

 protected:
  PlatformContext& context_;
};

TEST(PlatformConformance, ASoundDeviceKeepsAllRules) {
  for (const PlatformRule& rule : PlatformRules()) {
    EXPECT_THAT(rule.check(PlatformClassOf<Sound>()), IsEmpty()) << rule.name;
  }
}

TEST(PlatformConformance, ASoundDeviceSurvivesAllCrashes) {
  for (const auto& named : PlatformCrashPlans(PlatformClassOf<Sound>())) {
    SCOPED_TRACE(named.name);
    ExpectSurvives(PlatformClassOf<Sound>(), named.plan, /*least=*/2);
  }
}

// ---- Controls: mistakes that an author can make ----

// Keeps its sum where a crash takes it.
class StateInTheProcess final : public Sound {
 public:
  using Sound::Sound;
  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    if (write.Is(kAdd)) txn.Set(kSum, sum_ += txn.Get(kAdd));
    return absl::OkStatus();
  }
  void OnReset(PlatformTxn&) override { sum_ = 0; }

 private:
  uint32_t sum_ = 0;
};

// Counts in guest memory before the access is committed.
class EffectBeforeCommit final : public Sound {
 public:
  using Sound::Sound;
  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    uint8_t count = 0;
    (void)context_.dma().Read(GuestAddress{0}, {&count, 1});
    ++count;
    (void)context_.dma().Write(GuestAddress{0}, {&count, 1});
    return Sound::OnWrite(write, txn);
  }
};

// Counts in an area, which no transaction covers.
class CountsInAnArea final : public Sound {
 public:
  using Sound::Sound;
  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    ++context_.Area("journal")[1];
    return Sound::OnWrite(write, txn);
  }
};

// Says that work is done apart from what it did.
class DoneLate final : public Sound {
 public:
  using Sound::Sound;
  absl::Status OnWork(uint32_t, PlatformContext& context) override {
    return context.Update([](PlatformTxn& txn) {
      txn.Set(kDone, txn.Get(kDone) + 1);
      return absl::OkStatus();
    });
  }
};

TEST(PlatformConformanceControl, StateInTheProcessIsFound) {
  EXPECT_THAT(CheckRestarts(PlatformClassOf<StateInTheProcess>()),
              Contains(HasSubstr("region0.sum")));
}

TEST(PlatformConformanceControl, AnEffectBeforeTheCommitIsFoundByCrashes) {
  EXPECT_THAT(FirstCrashViolation(PlatformClassOf<EffectBeforeCommit>()),
              HasSubstr("RAM differs"));
}

TEST(PlatformConformanceControl, AnAreaThatIsNoJournalIsFoundByCrashes) {
  EXPECT_THAT(FirstCrashViolation(PlatformClassOf<CountsInAnArea>()),
              HasSubstr("an area differs at byte 1"));
}

TEST(PlatformConformanceControl, WorkThatDoesNotSayDoneIsDoneTwice) {
  EXPECT_THAT(FirstCrashViolation(PlatformClassOf<DoneLate>()),
              HasSubstr("region0.done"));
}

// ---- Controls: mistakes that only a framework can make ----

PlatformClass With(PassingDevice::Mistakes mistakes) {
  return With(PlatformClassOf<Sound>(), std::move(mistakes));
}

TEST(PlatformConformanceControl, PassingEverythingOnBreaksNothing) {
  for (const PlatformRule& rule : PlatformRules()) {
    EXPECT_THAT(rule.check(With({})), IsEmpty()) << rule.name;
  }
}

TEST(PlatformConformanceControl, AnAccessOutsideThatSucceedsIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.forgives_range = true;
  EXPECT_THAT(CheckOutside(With(mistakes)),
              Contains(HasSubstr("is answered OK")));
}

TEST(PlatformConformanceControl, AnAccessThatIsMadeTwiceIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.forgets_names = true;
  EXPECT_THAT(CheckWidths(With(mistakes)),
              Contains(AnyOf(HasSubstr("that comes again changes field"),
                             HasSubstr("has another answer"))));
}

TEST(PlatformConformanceControl, AResetThatLeavesThingsIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.resets_nothing = true;
  EXPECT_THAT(CheckReset(With(mistakes)),
              Contains(HasSubstr("a reset leaves field")));
}

TEST(PlatformConformanceControl, AnUnmaskedLevelThatIsForgottenIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.forgets_unmask = true;
  EXPECT_THAT(CheckLines(With(mistakes)),
              Contains(HasSubstr("when the VMM unmasks it: signalled 0")));
}

TEST(PlatformConformanceControl, ALevelThatAResetLeavesIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.resets_nothing = true;
  EXPECT_THAT(CheckLines(With(mistakes)),
              ElementsAre(HasSubstr("unmasked after a reset: signalled 1")));
}

// A line that is high by what the device is, before and after a reset.
class HighFromResetOn final : public Sound {
 public:
  using Sound::Sound;
  void OnReset(PlatformTxn& txn) override { txn.SetLine(0, true); }
};

TEST(PlatformConformance, ALineMayBeHighFromItsResetOn) {
  EXPECT_THAT(CheckLines(PlatformClassOf<HighFromResetOn>()), IsEmpty());
}

}  // namespace
}  // namespace holdfast::testing

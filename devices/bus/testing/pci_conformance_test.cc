// The rules on a device that keeps them, and on devices that break one each:
// a rule that cannot fail proves nothing.
#include "devices/bus/testing/pci_conformance.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "devices/bus/pci_device.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/region_device.h"
#include "devices/bus/testing/passing_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Reg32 kVersion{"version", 0x00, kConstant, 0x12345678};
constexpr Reg32 kAdd{"add", 0x04, kReadWrite};
constexpr Reg32 kSum{"sum", 0x08, kReadOnly};
constexpr Reg32 kLatch{"latch", 0x0c, kReadToClear, 7};

// Adds up what is written. Has one of everything that there are rules for.
class Sound : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678})
        .Bar(0, RegisterFile{kVersion, kAdd, kSum, kLatch}.Size(4096))
        .Bar(2, RegisterFile{Reg64{"wide", 0, kReadWrite}.InBar(2)}, kBar64)
        .Intx()
        .Msi(4)
        .Msix(3)
        .PowerManagement()
        .Express()
        .Vendor({1, 2, 3}, 2);
  }
  explicit Sound(PciContext&) {}

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (!write.Is(kAdd)) return absl::OkStatus();
    txn.Set(kSum, txn.Get(kSum) + txn.Get(kAdd));
    txn.Set(kLatch, txn.Get(kLatch) | 1);
    return absl::OkStatus();
  }
};

TEST(PciConformance, ASoundDeviceKeepsAllRules) {
  for (const PciRule& rule : PciRules()) {
    EXPECT_THAT(rule.check(PciClassOf<Sound>()), IsEmpty()) << rule.name;
  }
}

TEST(PciConformance, ASoundDeviceSurvivesAllCrashes) {
  for (const NamedCrashPlan<PciGuest>& named :
       PciCrashPlans(PciClassOf<Sound>())) {
    SCOPED_TRACE(named.name);
    ExpectSurvives(PciClassOf<Sound>(), named.plan, /*least=*/2);
  }
}

// ---- Controls: mistakes that an author can make ----

// Keeps its sum where a crash takes it.
class StateInTheProcess final : public Sound {
 public:
  using Sound::Sound;
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kAdd)) txn.Set(kSum, sum_ += txn.Get(kAdd));
    return absl::OkStatus();
  }
  void OnReset(PciTxn&) override { sum_ = 0; }

 private:
  uint32_t sum_ = 0;
};

// Changes guest memory before the access is committed.
class EffectBeforeCommit final : public Sound {
 public:
  explicit EffectBeforeCommit(PciContext& context)
      : Sound(context), dma_(context.dma()) {}
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    uint8_t count = 0;
    (void)dma_.Read(GuestAddress{0}, {&count, 1});
    ++count;
    (void)dma_.Write(GuestAddress{0}, {&count, 1});
    return Sound::OnWrite(write, txn);
  }

 private:
  Dma& dma_;
};

// Says of the guest's mistake what only the state may say.
class Confused final : public Sound {
 public:
  explicit Confused(PciContext& context) : Sound(context) {}
  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kAdd)) txn.RaiseMsix(99);  // There are three.
    return Sound::OnWrite(write, txn);
  }
};

TEST(PciConformanceControl, StateInTheProcessIsFound) {
  EXPECT_THAT(CheckRestarts(PciClassOf<StateInTheProcess>()),
              Contains(HasSubstr("bar0.sum")));
}

TEST(PciConformanceControl, AnEffectBeforeTheCommitIsFoundByCrashes) {
  EXPECT_THAT(CheckRestarts(PciClassOf<EffectBeforeCommit>()), IsEmpty())
      << "between accesses it is sound";
  EXPECT_EQ(FirstCrashViolation(PciClassOf<EffectBeforeCommit>()),
            "RAM differs at byte 0: 2 instead of 1");
}

TEST(PciConformanceControl, AnAccessThatFailsTheStateIsFound) {
  EXPECT_THAT(CheckWidths(PciClassOf<Confused>()),
              Contains(HasSubstr("is answered INTERNAL")));
}

// ---- Controls: mistakes that only a framework can make ----

PciClass With(PassingDevice::Mistakes mistakes) {
  return With(PciClassOf<Sound>(), std::move(mistakes));
}

// Sets bits of a byte of configuration space whenever it is read.
PciClass WithStuckBits(uint64_t at, uint8_t bits) {
  PassingDevice::Mistakes mistakes;
  mistakes.spoils = [=](uint32_t region, uint64_t offset,
                        absl::Span<uint8_t> out) {
    if (region != kPciConfigRegion || at < offset ||
        at >= offset + out.size()) {
      return;
    }
    out[at - offset] |= bits;
  };
  return With(mistakes);
}

TEST(PciConformanceControl, PassingEverythingOnBreaksNothing) {
  for (const PciRule& rule : PciRules()) {
    EXPECT_THAT(rule.check(With({})), IsEmpty()) << rule.name;
  }
}

TEST(PciConformanceControl, AWrongBarSizeIsFound) {
  EXPECT_THAT(CheckBarSizes(WithStuckBits(0x11, 0x08)),
              Contains(HasSubstr("BAR 0")));
  EXPECT_THAT(CheckBarSizes(WithStuckBits(0x14, 0x01)),
              Contains(HasSubstr("BAR 1 says 1 of 0 bytes")));
}

TEST(PciConformanceControl, AListThatIsNotWellFormedIsFound) {
  EXPECT_THAT(CheckHeader(WithStuckBits(pci::kPower + 1, 0x02)),
              Contains(HasSubstr("capability list: pointer to")));
  PassingDevice::Mistakes loop;
  loop.spoils = [](uint32_t region, uint64_t offset, absl::Span<uint8_t> out) {
    if (region == kPciConfigRegion && offset == 0 && out.size() > 0x80) {
      out[pci::kMsi + 1] = pci::kPower;
    }
  };
  EXPECT_THAT(CheckHeader(With(loop)), Contains(HasSubstr("comes to")));
  EXPECT_THAT(CheckHeader(WithStuckBits(pci::kMsix + 9, 0x80)),
              Contains(HasSubstr("MSI-X: pending bits at")));
}

// A constant that takes what is written, and a reserved bit that sticks.
TEST(PciConformanceControl, AConstantThatChangesIsFound) {
  for (const uint64_t at : {0x02u, 0x05u}) {
    const auto written = std::make_shared<uint8_t>(0);
    PassingDevice::Mistakes mistakes;
    mistakes.drops = [=](uint32_t region, uint64_t offset, uint8_t byte) {
      if (region == kPciConfigRegion && offset == at) *written = byte & 0x80;
      return false;
    };
    mistakes.spoils = [=](uint32_t region, uint64_t offset,
                          absl::Span<uint8_t> out) {
      if (region == kPciConfigRegion && offset <= at &&
          at < offset + out.size()) {
        out[at - offset] |= *written;
      }
    };
    EXPECT_THAT(CheckConstants(With(mistakes)),
                Contains(HasSubstr("configuration byte")));
  }
}

TEST(PciConformanceControl, AnAccessOutsideThatSucceedsIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.forgives_range = true;
  EXPECT_THAT(CheckOutside(With(mistakes)),
              Contains(HasSubstr("is answered OK")));
}

TEST(PciConformanceControl, AnAccessThatIsMadeTwiceIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.forgets_names = true;
  EXPECT_THAT(CheckWidths(With(mistakes)),
              Contains(AnyOf(HasSubstr("that comes again changes field"),
                             HasSubstr("has another answer"))));
}

TEST(PciConformanceControl, AConstantAtTheWrongWidthIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.spoils = [](uint32_t region, uint64_t, absl::Span<uint8_t> out) {
    if (region == 0 && out.size() == 8) std::swap(out[0], out[1]);
  };
  EXPECT_THAT(CheckWidths(With(mistakes)),
              Contains(HasSubstr("of a constant is")));
}

TEST(PciConformanceControl, AResetThatLeavesThingsIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.resets_nothing = true;
  EXPECT_THAT(CheckReset(With(mistakes)),
              Contains(HasSubstr("a reset leaves field")));
}

TEST(PciConformanceControl, AVectorThatStaysMaskedIsFound) {
  PassingDevice::Mistakes mistakes;
  const uint32_t table = Sound::Spec().Resolve()->msix_bar();
  mistakes.drops = [=](uint32_t region, uint64_t offset, uint8_t byte) {
    return region == table && offset == 12 && byte == 0;
  };
  EXPECT_THAT(CheckInterrupts(With(mistakes)),
              Contains(HasSubstr("unmasked: signalled 0 times instead of 1")));
}

TEST(PciConformanceControl, AMaskThatDoesNotHoldBackIsFound) {
  PassingDevice::Mistakes mistakes;
  mistakes.drops = [](uint32_t region, uint64_t offset, uint8_t) {
    return region == kPciConfigRegion && offset == pci::kMsiMask.offset();
  };
  EXPECT_THAT(CheckInterrupts(With(mistakes)),
              Contains(HasSubstr("while masked")));
}

}  // namespace
}  // namespace holdfast::testing

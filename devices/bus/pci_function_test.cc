#include "devices/bus/pci_function.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/testing/pci_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/format.h"

namespace holdfast {
namespace {

using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciClassOf;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

constexpr Reg32 kData{"data", 0x00, kReadWrite, 5};
constexpr Reg32 kCount{"count", 0x04, kReadToClear};  // Of writes to kData.
constexpr Reg32 kRaise{"raise", 0x08, kWriteOnly};    // A vector.
constexpr Reg32 kLevel{"level", 0x0c, kReadWrite};
constexpr Reg32 kFail{"fail", 0x10, kReadWrite};
constexpr Reg32 kSerial{"serial", 0x14, kReadOnly};  // Of reads of it.
constexpr Reg32 kStart{"start", 0x18, kWriteOnly};   // Work.

struct State {
  static constexpr SchemaId kSchema{"probe", 1};
  Cell<uint32_t> resets{"resets"};
  Cell<uint32_t> worked{"worked"};
};

class Probe final : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678})
        .Bar(0, {kData, kCount, kRaise, kLevel, kFail, kSerial, kStart})
        .MemoryBar(2, 8192, kBar64Prefetchable)
        .Intx()
        .Msi(4)
        .Msix(70)
        .PowerManagement()
        .Express()
        .Vendor({0xaa}, 2)
        .State<State>();
  }

  explicit Probe(PciContext& context) : state_(context.State<State>()) {}

  absl::Status OnRead(const RegRead& read, PciTxn& txn) override {
    if (read.Is(kSerial)) txn.Set(kSerial, txn.Get(kSerial) + 1);
    return absl::OkStatus();
  }

  absl::Status OnWrite(const RegWrite& write, PciTxn& txn) override {
    if (write.Is(kData)) txn.Set(kCount, txn.Get(kCount) + 1);
    if (write.Is(kRaise)) txn.Interrupt(write.value());
    if (write.Is(kLevel)) txn.SetIntx(write.value() != 0);
    if (write.Is(kStart)) txn.Order(write.value());
    if (write.Is(kFail)) return absl::NotFoundError("as asked");
    return absl::OkStatus();
  }

  absl::Status OnWork(uint32_t work, PciContext& context) override {
    if (during_work) during_work(context);
    return context.Update([&](PciTxn& txn) {
      txn.Set(state_.worked, txn.Get(state_.worked) * 10 + work);
      txn.Done(work);
      return absl::OkStatus();
    });
  }

  void OnReset(PciTxn& txn) override {
    txn.Set(state_.resets, txn.Get(state_.resets) + 1);
  }

  static std::function<void(PciContext&)> during_work;

 private:
  const State state_;
};
std::function<void(PciContext&)> Probe::during_work;

class PciFunctionTest : public ::testing::Test {
 protected:
  PciFunctionTest() : guest_(PciClassOf<Probe>()) {}
  ~PciFunctionTest() override { Probe::during_work = nullptr; }

  template <typename T>
  T Get(Cell<T> State::*cell) {
    const State state = *BindState<State>(*schema());
    StateTxn txn = guest_.bank().Begin();
    return txn.Get(state.*cell);
  }
  static absl::StatusOr<Schema> schema() {
    return PciState::Create(Probe::Spec())->schema();
  }
  absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> out) {
    return guest_.function().Read(id, region, offset, out);
  }

  PciGuest guest_;
};

TEST_F(PciFunctionTest, DescribesItself) {
  PciFunction& function = guest_.function();
  EXPECT_TRUE(function.is_pci());
  ASSERT_EQ(function.regions().size(), kPciRegionCount);
  EXPECT_EQ(function.regions()[0].size, 32u);
  EXPECT_EQ(function.regions()[1].size, 0u);
  EXPECT_EQ(function.regions()[2].size, 8192u);
  EXPECT_EQ(function.regions()[5].size, 4096u) << "the MSI-X table";
  EXPECT_EQ(function.regions()[kPciConfigRegion].size, 4096u);
  EXPECT_EQ(function.regions()[kPciRomRegion].size, 0u);
  ASSERT_EQ(function.irqs().size(), kPciIrqCount);
  EXPECT_EQ(function.irqs()[kPciIntxIrq].count, 1u);
  EXPECT_TRUE(function.irqs()[kPciIntxIrq].level);
  EXPECT_EQ(function.irqs()[kPciMsiIrq].count, 4u);
  EXPECT_EQ(function.irqs()[kPciMsixIrq].count, 70u);
  EXPECT_FALSE(function.RegionMemory(2).valid());
}

// ---- Configuration space ----

TEST_F(PciFunctionTest, KeepsWhatIsConstant) {
  for (uint64_t at = 0; at < 4; ++at) guest_.WriteConfig(at, 0xff, 1);
  EXPECT_EQ(guest_.ReadConfig(0, 4), 0x56781234u);
  guest_.WriteConfig(0x06, 0xffff, 2);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2), 0x0010u);
  guest_.WriteConfig(0x04, 0xffff, 2);
  EXPECT_EQ(guest_.ReadConfig(0x04, 2), 0x0546u);
  EXPECT_EQ(guest_.ReadConfig(0x100, 4), 0u) << "no extended capability";
}

TEST_F(PciFunctionTest, TellsTheSizeOfItsBars) {
  const auto size = [&](uint32_t bar) {
    guest_.WriteConfig(0x10 + 4 * bar, 0xffffffff, 4);
    return guest_.ReadConfig(0x10 + 4 * bar, 4);
  };
  EXPECT_EQ(size(0), 0xffffffe0u);
  EXPECT_EQ(size(1), 0u);
  EXPECT_EQ(size(2), 0xffffe00cu) << "64 bits, prefetchable";
  EXPECT_EQ(size(3), 0xffffffffu);
  EXPECT_EQ(size(4), 0u);
  EXPECT_EQ(size(5), 0xfffff000u);
  guest_.WriteConfig(0x10, 0xfebf1234, 4);
  guest_.Restart();
  EXPECT_EQ(guest_.ReadConfig(0x10, 4), 0xfebf1220u);
}

TEST_F(PciFunctionTest, LetsTheGuestWriteItsPartOfTheVendorCapability) {
  guest_.WriteConfig(pci::kVendor, 0xffffffff, 4);
  guest_.WriteConfig(pci::kVendor + 4, 0x1234, 2);
  EXPECT_EQ(guest_.ReadConfig(pci::kVendor, 4), 0xaa060009u);
  EXPECT_EQ(guest_.ReadConfig(pci::kVendor + 4, 4), 0x1234u);
}

TEST_F(PciFunctionTest, AWholeConfigurationSpaceIsReadAtOnce) {
  std::vector<uint8_t> all(4096);
  ASSERT_OK(Read(AccessId{1}, kPciConfigRegion, 0, absl::MakeSpan(all)));
  EXPECT_EQ(all[0x34], pci::kPower);
  EXPECT_THAT(Read(AccessId{2}, kPciConfigRegion, 1, absl::MakeSpan(all)),
              StatusIs(absl::StatusCode::kOutOfRange, _));
}

// ---- Accesses ----

TEST_F(PciFunctionTest, RefusesWhatIsNotThere) {
  uint8_t byte[65] = {};
  constexpr auto kOut = absl::StatusCode::kOutOfRange;
  EXPECT_THAT(Read(AccessId{1}, 0, 32, {byte, 1}), StatusIs(kOut, _));
  EXPECT_THAT(Read(AccessId{1}, 0, ~uint64_t{0}, {byte, 2}), StatusIs(kOut, _));
  EXPECT_THAT(Read(AccessId{1}, 1, 0, {byte, 1}), StatusIs(kOut, _));
  EXPECT_THAT(Read(AccessId{1}, 8, 0, {byte, 1}), StatusIs(kOut, _));
  EXPECT_THAT(Read(AccessId{1}, 0xffffffff, 0, {byte, 1}), StatusIs(kOut, _));
  EXPECT_THAT(
      Read(AccessId{1}, 5, 0, {byte, 65}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 64")));
  EXPECT_OK(Read(AccessId{1}, 5, 0, {byte, 64}));
  EXPECT_OK(Read(AccessId{1}, 0, 32, {byte, 0}));
}

TEST_F(PciFunctionTest, AnErrorOfTheDeviceUndoesTheAccessAndIsCounted) {
  guest_.Write(0, kLevel.offset(), 0x100000001, 8);
  EXPECT_THAT(guest_.status(),
              StatusIs(absl::StatusCode::kInvalidArgument, "device: as asked"));
  EXPECT_EQ(guest_.Read32(0, kLevel.offset()), 0u);
  EXPECT_EQ(guest_.function().guest_errors(), 1u);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 0u);
}

TEST_F(PciFunctionTest, AnAccessThatComesTwiceIsExecutedOnce) {
  const uint8_t bytes[4] = {1};
  PciFunction* function = &guest_.function();
  ASSERT_OK(function->Write(AccessId{7}, 0, kData.offset(), bytes));
  guest_.Restart();
  function = &guest_.function();
  ASSERT_OK(function->Write(AccessId{7}, 0, kData.offset(), bytes));
  uint8_t first[8];
  uint8_t again[8];
  ASSERT_OK(function->Read(AccessId{8}, 0, 0, first));
  EXPECT_EQ(first[4], 1) << "written once";
  ASSERT_OK(function->Read(AccessId{8}, 0, 0, again));
  EXPECT_EQ(again[4], 1) << "the same answer";
  ASSERT_OK(function->Read(AccessId{9}, 0, 0, again));
  EXPECT_EQ(again[4], 0) << "the read has cleared it";
  // Without a name there is no protection.
  ASSERT_OK(function->Write(AccessId::kNone, 0, kData.offset(), bytes));
  ASSERT_OK(function->Write(AccessId::kNone, 0, kData.offset(), bytes));
  ASSERT_OK(function->Read(AccessId{10}, 0, 0, again));
  EXPECT_EQ(again[4], 2);
}

TEST_F(PciFunctionTest, ReadsMayHaveSideEffectsOfTheirOwn) {
  EXPECT_EQ(guest_.Read32(0, kSerial.offset()), 1u);
  EXPECT_EQ(guest_.Read32(0, kSerial.offset()), 2u);
  guest_.Restart();
  EXPECT_EQ(guest_.Read32(0, kSerial.offset()), 3u);
}

TEST_F(PciFunctionTest, ReachesMemoryBars) {
  guest_.Write(2, 0x1ff8, 0x1122334455667788, 8);
  EXPECT_EQ(guest_.Read(2, 0x1ffc, 4), 0x11223344u);
  guest_.Write(2, 0x1ffc, 0, 8);
  EXPECT_THAT(guest_.status(), StatusIs(absl::StatusCode::kOutOfRange, _));
}

TEST(PciFunction, NeedsItsServices) {
  PciServices services;
  PciState state = *PciState::Create(Probe::Spec());
  const Schema schema = state.schema();
  EXPECT_THAT(PciFunction::Create(std::move(state), schema, services,
                                  PciDeviceMaker<Probe>()),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

// ---- Writes outside a transaction ----

TEST_F(PciFunctionTest, NoticesAWriteOutsideATransaction) {
  guest_.Write32(0, kData.offset(), 9);
  // Whoever keeps a pointer to a register and writes through it.
  for (uint8_t& byte : guest_.state().subspan(sizeof(StateHeader) + 24)) {
    if (byte == 9) byte = 10;
  }
  guest_.Read32(0, kData.offset());
  EXPECT_THAT(guest_.status(), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST_F(PciFunctionTest, AnOvertakenProcessIsTold) {
  const absl::StatusOr<StateBank> successor =
      StateBank::Attach(guest_.state(), /*epoch=*/99, StateBank::Threads::kOne);
  ASSERT_OK(successor);
  guest_.Write32(0, kData.offset(), 9);
  EXPECT_THAT(guest_.status(), StatusIs(absl::StatusCode::kAborted, _));
}

// ---- Interrupts ----

TEST_F(PciFunctionTest, TheLegacyInterruptIsALevel) {
  guest_.Write32(0, kLevel.offset(), 1);
  guest_.Write32(0, kLevel.offset(), 1);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 1u);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2), 0x18u);
  guest_.function().OnUnmask(kPciIntxIrq, 0);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 2u) << "still asserted";
  guest_.Write32(0, kLevel.offset(), 0);
  guest_.function().OnUnmask(kPciIntxIrq, 0);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 2u);
}

TEST_F(PciFunctionTest, TheLegacyInterruptCanBeDisabled) {
  guest_.WriteConfig(0x04, pci::kCommandIntxDisable, 2);
  guest_.Write32(0, kLevel.offset(), 1);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 0u);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2), 0x18u) << "the status says it";
  guest_.WriteConfig(0x04, 0, 2);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 1u);
}

TEST_F(PciFunctionTest, MsiWaitsForTheBusAndItsMask) {
  guest_.WriteConfig(pci::kMsiControl.offset(), 0x21, 2);
  EXPECT_EQ(guest_.ReadConfig(pci::kMsiControl.offset(), 2), 0x1a5u);
  guest_.Write32(0, kRaise.offset(), 1);
  EXPECT_EQ(guest_.signals(kPciMsiIrq, 1), 0u) << "not a bus master";
  guest_.EnableMaster();
  EXPECT_EQ(guest_.signals(kPciMsiIrq, 1), 1u);
  guest_.WriteConfig(pci::kMsiMask.offset(), 1u << 2, 4);
  guest_.Write32(0, kRaise.offset(), 2);
  EXPECT_EQ(guest_.signals(kPciMsiIrq, 2), 0u);
  EXPECT_EQ(guest_.ReadConfig(pci::kMsiPending.offset(), 4), 1u << 2);
  guest_.WriteConfig(pci::kMsiMask.offset(), 0, 4);
  EXPECT_EQ(guest_.signals(kPciMsiIrq, 2), 1u);
  EXPECT_EQ(guest_.ReadConfig(pci::kMsiPending.offset(), 4), 0u);
}

TEST_F(PciFunctionTest, MsiVectorsAreSharedWhenTheDriverEnablesFewer) {
  guest_.EnableMaster();
  guest_.WriteConfig(pci::kMsiControl.offset(), 0x11, 2);  // Two.
  guest_.Write32(0, kRaise.offset(), 3);
  EXPECT_EQ(guest_.signals(kPciMsiIrq, 1), 1u);
  EXPECT_EQ(guest_.signals(kPciMsiIrq, 3), 0u);
}

TEST_F(PciFunctionTest, MsixWaitsForTableMaskAndFunctionMask) {
  guest_.EnableMaster();
  guest_.WriteConfig(pci::kMsixControl.offset(),
                     pci::kMsixEnable | pci::kMsixMaskAll, 2);
  EXPECT_EQ(guest_.ReadConfig(pci::kMsixControl.offset(), 2), 0xc000u | 69);
  guest_.UnmaskMsix(63);
  guest_.Write32(0, kRaise.offset(), 63);
  guest_.Write32(0, kRaise.offset(), 2);
  EXPECT_EQ(guest_.msix_count(63), 0u);
  EXPECT_EQ(guest_.Read(5, pci::kMsixPendingOffset, 8), uint64_t{1} << 63 | 4);
  guest_.WriteConfig(pci::kMsixControl.offset(), pci::kMsixEnable, 2);
  EXPECT_EQ(guest_.msix_count(63), 1u);
  EXPECT_EQ(guest_.msix_count(2), 0u);
  guest_.UnmaskMsix(2);
  EXPECT_EQ(guest_.msix_count(2), 1u);
  EXPECT_EQ(guest_.Read(5, pci::kMsixPendingOffset, 8), 0u);
}

TEST(PciFunction, TheVmmMayMaskVectorsItself) {
  PciGuest::Options options;
  options.has_vector_table = true;
  PciGuest guest(PciClassOf<Probe>(), options);
  guest.EnableMaster();
  guest.EnableMsix();
  guest.Write32(0, kRaise.offset(), 2);
  EXPECT_EQ(guest.msix_count(2), 1u);
}

TEST_F(PciFunctionTest, AVectorThatIsNotThereIsTheDevicesMistake) {
  guest_.EnableMsix();
  guest_.Write32(0, kRaise.offset(), 70);
  EXPECT_THAT(guest_.status(), StatusIs(absl::StatusCode::kInternal, _));
}

TEST_F(PciFunctionTest, SleepingItSendsNoMessages) {
  guest_.EnableMaster();
  guest_.WriteConfig(pci::kMsiControl.offset(), 1, 2);
  guest_.WriteConfig(pci::kPowerControl.offset(), 3, 2);
  guest_.Write32(0, kRaise.offset(), 0);
  EXPECT_EQ(guest_.signals(kPciMsiIrq), 0u);
  guest_.WriteConfig(pci::kPowerControl.offset(), 0, 2);
  EXPECT_EQ(guest_.signals(kPciMsiIrq), 1u);
}

TEST_F(PciFunctionTest, ASuccessorSignalsWhatMayHaveBeenCutOff) {
  guest_.EnableMaster();
  guest_.WriteConfig(pci::kMsiControl.offset(), 1, 2);
  guest_.Write32(0, kRaise.offset(), 0);
  EXPECT_EQ(guest_.signals(kPciMsiIrq), 1u);
  guest_.Restart();
  EXPECT_EQ(guest_.signals(kPciMsiIrq), 2u) << "the last one, once more";
  guest_.Write32(0, kData.offset(), 1);
  guest_.Restart();
  EXPECT_EQ(guest_.signals(kPciMsiIrq), 2u) << "forgotten by the next commit";
}

// ---- Work ----

TEST_F(PciFunctionTest, WorkIsDoneInOrderOfItsNumberAndOnce) {
  for (uint64_t work : {3, 1, 2}) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&work);
    ASSERT_OK(guest_.function().Write(AccessId::kNone, 0, kStart.offset(),
                                      {bytes, 4}));
  }
  EXPECT_TRUE(guest_.function().work_pending());
  guest_.Restart();
  EXPECT_FALSE(guest_.function().work_pending());
  EXPECT_EQ(Get(&State::worked), 123u);
}

TEST_F(PciFunctionTest, WorkOrderedAgainWhileItRunsIsDoneAgain) {
  bool again = true;
  Probe::during_work = [&](PciContext&) {
    const uint8_t bytes[4] = {4};
    if (again) {
      EXPECT_OK(
          guest_.function().Write(AccessId::kNone, 0, kStart.offset(), bytes));
    }
    again = false;
  };
  guest_.Write32(0, kStart.offset(), 4);
  EXPECT_EQ(Get(&State::worked), 44u);
}

TEST_F(PciFunctionTest, AResetCutsWorkOff) {
  guest_.EnableMaster();
  absl::Status update;
  absl::Status transfer;
  Probe::during_work = [&](PciContext& context) {
    EXPECT_THAT(guest_.function().Reset(),
                StatusIs(absl::StatusCode::kUnavailable, _));
    // Even if the driver is quick.
    const uint8_t master[2] = {pci::kCommandMaster};
    EXPECT_OK(
        guest_.function().Write(AccessId::kNone, kPciConfigRegion, 4, master));
    transfer = context.dma().Write(GuestAddress{0}, {1});
    update = context.Update([](PciTxn&) { return absl::OkStatus(); });
  };
  guest_.Write32(0, kStart.offset(), 4);
  EXPECT_THAT(transfer, StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_THAT(update, StatusIs(absl::StatusCode::kCancelled, _));
  EXPECT_EQ(Get(&State::worked), 0u);
  EXPECT_OK(guest_.function().Reset());
}

// ---- Reset ----

TEST_F(PciFunctionTest, ResetsFromOutsideAndByTheGuest) {
  EXPECT_EQ(Get(&State::resets), 1u) << "a new device is one that was reset";
  guest_.Write32(0, kData.offset(), 9);
  guest_.WriteConfig(0x10, 0xfeb00000, 4);
  guest_.Write32(0, kLevel.offset(), 1);
  ASSERT_OK(guest_.function().Reset());
  EXPECT_EQ(guest_.Read32(0, kData.offset()), 5u);
  EXPECT_EQ(guest_.ReadConfig(0x10, 4), 0u);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2), 0x10u);
  EXPECT_EQ(Get(&State::resets), 2u);
  guest_.Write32(0, kData.offset(), 9);
  guest_.WriteConfig(pci::kExpressControl.offset(), pci::kFunctionReset, 2);
  EXPECT_EQ(guest_.Read32(0, kData.offset()), 5u);
  EXPECT_EQ(guest_.ReadConfig(pci::kExpressControl.offset(), 2), 0x2810u);
  EXPECT_EQ(Get(&State::resets), 3u);
  guest_.Restart();
  EXPECT_EQ(Get(&State::resets), 3u) << "a restart is none";
}

}  // namespace
}  // namespace holdfast

#include "devices/pci_edu/pci_edu.h"

#include <cstdint>
#include <numeric>
#include <utility>

#include "devices/bus/testing/pci_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::PciClassOf;
using ::holdfast::testing::PciGuest;
using ::testing::Each;

class PciEduTest : public ::testing::Test {
 protected:
  PciEduTest() : guest_(PciClassOf<PciEdu>()) { guest_.EnableMaster(); }

  uint32_t Read(const Register& reg) { return guest_.Read32(0, reg.offset()); }
  void Write(const Register& reg, uint64_t value) {
    guest_.Write(0, reg.offset(), value, reg.width());
  }
  void Transfer(uint64_t source, uint64_t destination, uint64_t count,
                uint64_t command) {
    Write(edu::kDmaSource, source);
    Write(edu::kDmaDestination, destination);
    Write(edu::kDmaCount, count);
    Write(edu::kDmaCommand, command | edu::kDmaRun);
  }

  PciGuest guest_;
};

TEST_F(PciEduTest, SaysWhoItIs) {
  EXPECT_EQ(guest_.ReadConfig(0, 4), 0x11e81234u);
  EXPECT_EQ(Read(edu::kId), edu::kVersion);
}

TEST_F(PciEduTest, InvertsWhatIsWritten) {
  Write(edu::kLiveness, 0x12345678);
  EXPECT_EQ(Read(edu::kLiveness), ~0x12345678u);
}

TEST_F(PciEduTest, IgnoresOtherWidthsOfItsFirstRegisters) {
  Write(edu::kLiveness, 5);
  guest_.Write(0, edu::kLiveness.offset(), 0, 2);
  EXPECT_EQ(Read(edu::kLiveness), ~5u);
  EXPECT_EQ(guest_.Read(0, edu::kLiveness.offset(), 2), 0xffffu);
  EXPECT_EQ(guest_.Read(0, 0x100, 4), 0xffffffffu);
}

TEST_F(PciEduTest, ComputesFactorials) {
  for (const auto& [n, factorial] : {std::pair<uint32_t, uint32_t>{0, 1},
                                     {1, 1},
                                     {5, 120},
                                     {13, 1932053504},
                                     {34, 0},
                                     {0xffffffff, 0}}) {
    Write(edu::kFactorial, n);
    EXPECT_EQ(Read(edu::kFactorial), factorial) << n;
    EXPECT_EQ(Read(edu::kStatus) & edu::kComputing, 0u);
  }
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 0u);
}

TEST_F(PciEduTest, InterruptsWhenTheFactorialIsThere) {
  Write(edu::kStatus, edu::kInterruptWhenDone);
  Write(edu::kFactorial, 4);
  EXPECT_EQ(Read(edu::kInterruptStatus), edu::kFactorialDone);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 1u);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2) & pci::kStatusIntx, pci::kStatusIntx);
  Write(edu::kInterruptAcknowledge, edu::kFactorialDone);
  EXPECT_EQ(Read(edu::kInterruptStatus), 0u);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2) & pci::kStatusIntx, 0u);
}

// Without the order of a carrier, which does the work at once.
TEST_F(PciEduTest, ChangesNothingThatItIsWorkingOn) {
  const auto write = [&](const Register& reg, uint64_t value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    EXPECT_TRUE(
        guest_.function()
            .Write(AccessId::kNone, 0, reg.offset(), {bytes, reg.width()})
            .ok());
  };
  write(edu::kFactorial, 3);
  write(edu::kFactorial, 9);
  write(edu::kDmaSource, edu::kBufferAddress);
  write(edu::kDmaCount, 8);
  write(edu::kDmaCommand, edu::kDmaRun | edu::kDmaFromBuffer);
  write(edu::kDmaCount, 16);
  write(edu::kDmaCommand, 0);
  EXPECT_TRUE(guest_.function().RunWork().ok());
  EXPECT_TRUE(guest_.function().RunWork().ok());
  EXPECT_FALSE(guest_.function().work_pending());
  EXPECT_EQ(Read(edu::kFactorial), 6u);
  EXPECT_EQ(Read(edu::kDmaCount), 8u);
  EXPECT_EQ(Read(edu::kDmaCommand), edu::kDmaFromBuffer);
}

TEST_F(PciEduTest, RaisesAndAcknowledgesAsAsked) {
  Write(edu::kInterruptRaise, 0x6);
  EXPECT_EQ(Read(edu::kInterruptStatus), 0x6u);
  Write(edu::kInterruptAcknowledge, 0x2);
  EXPECT_EQ(Read(edu::kInterruptStatus), 0x4u);
  EXPECT_NE(guest_.ReadConfig(0x06, 2) & pci::kStatusIntx, 0u) << "still";
  Write(edu::kInterruptAcknowledge, 0x4);
  EXPECT_EQ(guest_.ReadConfig(0x06, 2) & pci::kStatusIntx, 0u);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 1u);
}

TEST_F(PciEduTest, InterruptsByMessageIfTheDriverWantsThat) {
  guest_.WriteConfig(pci::kMsiControl.offset(), pci::kMsiEnable, 2);
  Write(edu::kInterruptRaise, 1);
  EXPECT_EQ(guest_.signals(kPciMsiIrq), 1u);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 0u);
}

TEST_F(PciEduTest, TransfersToItsBufferAndBack) {
  std::iota(guest_.ram().begin(), guest_.ram().begin() + 256, 1);
  Transfer(0, edu::kBufferAddress + 100, 200, 0);
  Transfer(edu::kBufferAddress + 110, 0x1000, 50,
           edu::kDmaFromBuffer | edu::kDmaInterrupt);
  EXPECT_EQ(guest_.ram()[0x1000], 11);
  EXPECT_EQ(guest_.ram()[0x1031], 60);
  EXPECT_EQ(guest_.ram()[0x1032], 0);
  EXPECT_EQ(Read(edu::kInterruptStatus), edu::kDmaDone);
  EXPECT_EQ(guest_.Read(0, edu::kDmaCommand.offset(), 8) & edu::kDmaRun, 0u);
}

TEST_F(PciEduTest, TheBufferOutlivesTheProcess) {
  guest_.ram()[0] = 42;
  Transfer(0, edu::kBufferAddress, 8, 0);
  guest_.Restart();
  Transfer(edu::kBufferAddress, 0x1000, 8, edu::kDmaFromBuffer);
  EXPECT_EQ(guest_.ram()[0x1000], 42);
}

TEST_F(PciEduTest, TransfersNothingBeyondBufferMemoryOrRights) {
  for (const auto& [source, count] :
       {std::pair<uint64_t, uint64_t>{edu::kBufferAddress, 4097},
        {edu::kBufferAddress + 4096, 1},
        {edu::kBufferAddress - 1, 2},
        {0, 8},
        {edu::kBufferAddress, ~uint64_t{0}},
        {edu::kBufferAddress + 8, ~uint64_t{7}}}) {
    const uint64_t before = guest_.function().guest_errors();
    Transfer(source, 0x1000, count, edu::kDmaFromBuffer);
    EXPECT_EQ(guest_.function().guest_errors(), before + 1);
  }
  const uint64_t before = guest_.function().guest_errors();
  Transfer(edu::kBufferAddress, PciGuest::kRamSize - 4, 8, edu::kDmaFromBuffer);
  guest_.WriteConfig(0x04, 0, 2);
  Transfer(edu::kBufferAddress, 0, 8, edu::kDmaFromBuffer);
  EXPECT_EQ(guest_.function().guest_errors(), before + 2);
  EXPECT_THAT(guest_.ram(), Each(0));
  EXPECT_EQ(guest_.Read(0, edu::kDmaCommand.offset(), 8) & edu::kDmaRun, 0u)
      << "it has ended all the same";
}

TEST_F(PciEduTest, AResetGivesANewDevice) {
  guest_.ram()[0] = 42;
  Transfer(0, edu::kBufferAddress, 8, 0);
  Write(edu::kLiveness, 1);
  ASSERT_TRUE(guest_.function().Reset().ok());
  EXPECT_EQ(Read(edu::kLiveness), 0u);
  guest_.EnableMaster();
  Transfer(edu::kBufferAddress, 0x1000, 8, edu::kDmaFromBuffer);
  EXPECT_EQ(guest_.ram()[0x1000], 0);
}

}  // namespace
}  // namespace holdfast

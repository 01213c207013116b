#include "examples/hello_pci/hello_pci.h"

#include "devices/bus/testing/pci_crash.h"
#include "gtest/gtest.h"

namespace hello {
namespace {

using ::holdfast::testing::AtEveryCrashPoint;
using ::holdfast::testing::PciClassOf;
using ::holdfast::testing::PciGuest;

void Square(PciGuest& guest) {
  guest.EnableMaster();
  guest.EnableMsix();
  guest.UnmaskMsix(0);
  guest.Write32(/*bar=*/0, 0x04, 7);
  EXPECT_EQ(guest.Read32(0, 0x08), 49u);
  EXPECT_EQ(guest.Read32(0, 0x0c), 1u);
  EXPECT_GE(guest.msix_count(0), 1u);
}

TEST(Squarer, AnswersAndInterrupts) {
  PciGuest guest(PciClassOf<Squarer>());
  EXPECT_EQ(guest.Read32(0, 0x00), 0x1e55u);
  Square(guest);
  guest.Write32(0, 0x0c, 1);
  guest.Restart();
  EXPECT_EQ(guest.Read32(0, 0x08), 49u);
  EXPECT_EQ(guest.Read32(0, 0x0c), 0u);
}

TEST(Squarer, AnswersAndInterruptsHoweverItDies) {
  AtEveryCrashPoint<Squarer>(Square);
}

}  // namespace
}  // namespace hello

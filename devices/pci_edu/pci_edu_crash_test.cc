// The teaching device killed after every store, in the middle of each of the
// things that it does.
#include <cstring>

#include "devices/bus/testing/pci_crash.h"
#include "devices/pci_edu/pci_edu.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::ExpectSurvives;
using ::holdfast::testing::PciClassOf;
using ::holdfast::testing::PciCrashPlan;
using ::holdfast::testing::PciGuest;

TEST(PciEduCrash, FactorialWithInterrupt) {
  PciCrashPlan plan;
  plan.before = [](PciGuest& guest) {
    guest.Write32(0, edu::kStatus.offset(), edu::kInterruptWhenDone);
  };
  plan.script = [](PciGuest& guest) {
    guest.Write32(0, edu::kFactorial.offset(), 5);
    guest.Read32(0, edu::kFactorial.offset());
  };
  ExpectSurvives(PciClassOf<PciEdu>(), plan);
}

TEST(PciEduCrash, TransferFromTheBuffer) {
  PciCrashPlan plan;
  plan.before = [](PciGuest& guest) {
    guest.EnableMaster();
    std::memset(guest.ram().data(), 0x5a, 64);
    guest.Write(0, edu::kDmaDestination.offset(), edu::kBufferAddress, 8);
    guest.Write(0, edu::kDmaCount.offset(), 64, 8);
    guest.Write(0, edu::kDmaCommand.offset(), edu::kDmaRun, 8);
    guest.Write(0, edu::kDmaSource.offset(), edu::kBufferAddress, 8);
    guest.Write(0, edu::kDmaDestination.offset(), 0x1000, 8);
  };
  plan.script = [](PciGuest& guest) {
    guest.Write(0, edu::kDmaCommand.offset(),
                edu::kDmaRun | edu::kDmaFromBuffer | edu::kDmaInterrupt, 8);
  };
  ExpectSurvives(PciClassOf<PciEdu>(), plan);
}

}  // namespace
}  // namespace holdfast

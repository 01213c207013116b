// Registers of virtio-pci killed after every store: each access of the driver
// has happened once, whatever it was about.
#include "devices/bus/testing/pci_crash.h"
#include "devices/virtio_pci/testing/virtio_pci_driver.h"
#include "devices/virtio_pci/testing/whole_device.h"
#include "devices/virtio_pci/virtio_pci_device.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_pci {
namespace {

using ::holdfast::testing::CrashReport;
using ::holdfast::testing::ExpectSurvives;
using ::holdfast::testing::ExplorePciCrashes;
using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciCrashPlan;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::VirtioPciDriver;

constexpr uint64_t kWanted =
    virtio::kFeatureVersion1 | virtio::kFeatureRingReset;

PciClass Class() { return WholeDevice::Class(); }

void Negotiate(PciGuest& guest) {
  VirtioPciDriver<PciGuest> driver(guest);
  driver.Probe();
  driver.Enable(/*msix=*/false);
  (void)driver.Negotiate(kWanted);
}

void RunQueue(PciGuest& guest) {
  Negotiate(guest);
  VirtioPciDriver<PciGuest> driver(guest);
  driver.Probe();
  driver.SetUpQueue(1, {16, 0x1000, 0x2000, 0x3000, 1});
  driver.Go();
}

TEST(VirtioPciCrash, Negotiation) {
  PciCrashPlan plan;
  plan.script = [](PciGuest& guest) {
    VirtioPciDriver<PciGuest> driver(guest);
    driver.Reset();
    driver.AddStatus(kAcknowledge | kDriver);
    driver.Set(kDriverFeatureSelect, 1);
    driver.Set(kDriverFeature, 1);
    driver.AddStatus(kFeaturesOk);
  };
  ExpectSurvives(Class(), plan);
}

TEST(VirtioPciCrash, QueueSetUp) {
  PciCrashPlan plan;
  plan.before = Negotiate;
  plan.script = [](PciGuest& guest) {
    VirtioPciDriver<PciGuest> driver(guest);
    driver.SetUpQueue(1, {16, 0x1000, 0x2000, 0x3000, 1});
    driver.Go();
  };
  ExpectSurvives(Class(), plan);
}

// Reading ISR status clears it and lets the level go.
TEST(VirtioPciCrash, InterruptAndItsStatus) {
  PciCrashPlan plan;
  plan.before = RunQueue;
  plan.script = [](PciGuest& guest) {
    guest.Write(kBar, kNotifyOffset + 4, 1, 4);
    guest.Read(kBar, kIsrOffset, 1);
    guest.Read(kBar, kIsrOffset, 1);
  };
  ExpectSurvives(Class(), plan);
}

TEST(VirtioPciCrash, ResetOfAQueueAndOfAll) {
  PciCrashPlan plan;
  plan.before = RunQueue;
  plan.script = [](PciGuest& guest) {
    VirtioPciDriver<PciGuest> driver(guest);
    driver.Set(kQueueReset, 1);
    driver.Reset();
    driver.Get(kQueueSize);
  };
  ExpectSurvives(Class(), plan);
}

TEST(VirtioPciCrash, AccessThroughConfigurationSpace) {
  PciCrashPlan plan;
  plan.before = RunQueue;
  plan.script = [](PciGuest& guest) {
    guest.WriteConfig(kAccessOffset.offset(), kNotifyOffset + 4, 4);
    guest.WriteConfig(kAccessLength.offset(), 4, 4);
    guest.WriteConfig(kAccessData.offset(), 1, 4);
    guest.WriteConfig(kAccessOffset.offset(), kIsrOffset, 4);
    guest.WriteConfig(kAccessLength.offset(), 1, 4);
    guest.ReadConfig(kAccessData.offset(), 1);
    guest.ReadConfig(kAccessData.offset(), 1);
  };
  ExpectSurvives(Class(), plan);
}

// A carrier that does not name accesses loses the interrupt's cause.
TEST(VirtioPciCrash, WithoutNamesTheCauseIsReadTwice) {
  PciCrashPlan plan;
  plan.before = [](PciGuest& guest) {
    RunQueue(guest);
    guest.Write(kBar, kNotifyOffset + 4, 1, 4);
  };
  plan.script = [](PciGuest& guest) { guest.Read(kBar, kIsrOffset, 1); };
  plan.options.names_accesses = false;
  const CrashReport report = ExplorePciCrashes(Class(), plan);
  EXPECT_EQ(report.error, "");
  EXPECT_GT(report.violations, 0u);
}

}  // namespace
}  // namespace holdfast::virtio_pci

#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_CONFORMANCE_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_CONFORMANCE_H_

#include <vector>

#include "devices/bus/testing/pci_crash.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/bus/testing/region_conformance.h"
#include "devices/bus/testing/region_prober.h"

namespace holdfast::testing {

// The rules of PCI functions, after PCI Local Bus 3.0 and PCI Express Base.
using PciRule = Rule<PciClass>;

// All of them:
//  HeaderIsWellFormed       identity, pins, capability list, MSI-X tables
//  ConstantsStay            no write changes a constant or a reserved bit
//  BarsTellTheirSize        by the probe of every driver, at every width
//  AccessesOutsideFail      with the error that RegionDevice names, without
//                           effect
//  EveryWidthAndAlignment   of every register: answered, and answered the same
//                           when the access comes again
//  ResetMakesANewDevice     from outside and by function level reset
//  InterruptsWaitForMasks   of vectors, functions, bus mastering; pending bits
//  RestartsAreInvisible     the same answers with a successor at every access
const std::vector<PciRule>& PciRules();

// A rule's parts, by file.
Violations CheckHeader(const PciClass& device);
Violations CheckConstants(const PciClass& device);
Violations CheckBarSizes(const PciClass& device);
Violations CheckOutside(const PciClass& device);
Violations CheckWidths(const PciClass& device);
Violations CheckReset(const PciClass& device);
Violations CheckInterrupts(const PciClass& device);
Violations CheckRestarts(const PciClass& device);

// Plans that crash every device: each of its registers written and read, its
// memory BARs, a probe of them, interrupts enabled, a function level reset if
// it has one, a new segment; recoveries of the smallest ones are killed, too,
// and theirs.
std::vector<NamedCrashPlan<PciGuest>> PciCrashPlans(const PciClass& device);

// For the tests that holdfast_pci_device_tests() makes.
inline const std::vector<PciRule>& RulesOf(const PciClass&) {
  return PciRules();
}
inline std::vector<NamedCrashPlan<PciGuest>> CrashPlansOf(
    const PciClass& device) {
  return PciCrashPlans(device);
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_CONFORMANCE_H_

#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_CONFORMANCE_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_CONFORMANCE_H_

#include <string>
#include <vector>

#include "devices/bus/testing/pci_crash.h"
#include "devices/bus/testing/pci_guest.h"

namespace holdfast::testing {

// What broke a rule, one line each, at most a few dozen; empty: nothing.
using Violations = std::vector<std::string>;

// A rule that every PCI function keeps, whatever it does. Each runs on a new
// device of the class, in this process; the verdict is the same every time.
// What a rule expects comes from the specification (PCI Local Bus 3.0, PCI
// Express Base) and from the device's spec, never from what the device answers.
struct PciRule {
  const char* name;
  Violations (*check)(const PciClass&);
};

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

// Plans that crash every device: each of its registers written and read, a
// probe of its BARs, interrupts enabled, a function level reset if it has one,
// a new segment; recoveries of the smallest ones are killed, too, and theirs.
struct NamedCrashPlan {
  std::string name;  // [A-Za-z0-9_]
  PciCrashPlan plan;
};
std::vector<NamedCrashPlan> PciCrashPlans(const PciClass& device);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_CONFORMANCE_H_

#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_CRASH_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_CRASH_H_

#include <utility>

#include "devices/bus/testing/pci_guest.h"
#include "devices/bus/testing/region_crash.h"

namespace holdfast::testing {

using PciCrashPlan = CrashPlan<PciGuest>;
using PciScript = PciCrashPlan::Script;

inline CrashReport ExplorePciCrashes(const PciClass& device,
                                     const PciCrashPlan& plan) {
  return ExploreDeviceCrashes(device, plan);
}

template <typename D>
void AtEveryCrashPoint(PciScript script) {
  PciCrashPlan plan;
  plan.script = std::move(script);
  ExpectSurvives(PciClassOf<D>(), plan);
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_CRASH_H_

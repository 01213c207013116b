#ifndef HOLDFAST_DEVICES_BUS_TESTING_PCI_CRASH_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PCI_CRASH_H_

#include <cstdint>
#include <functional>

#include "devices/bus/testing/pci_guest.h"
#include "gtest/gtest.h"
#include "statestore/testing/crash_explorer.h"

namespace holdfast::testing {

// What a guest does. Must be the same every time: it runs once for each crash.
using PciScript = std::function<void(PciGuest&)>;

struct PciCrashPlan {
  PciScript before = [](PciGuest&) {};  // Runs whole.
  PciScript script;                     // Is killed.
  PciGuest::Options options = {};
  int depth = 1;       // 2: recoveries are killed, too.
  bool fresh = false;  // Instead of `before`: a segment that is new.
};

// Runs `script` once in peace. Then kills it after every instruction that
// changes anything outside the process, takes the device over, lets the carrier
// repeat the access that was not answered and go on, and compares: every
// answer, all of the device's state and registers, and the guest's memory must
// be those of the peaceful run; every vector that was signalled there was
// signalled (perhaps once more), no other was. Linux on x86-64; not under
// sanitizers.
CrashReport ExplorePciCrashes(const PciClass& device, const PciCrashPlan& plan);

// As a test: no violation, and at least so many crash states. Prints them.
void ExpectSurvives(const PciClass& device, const PciCrashPlan& plan,
                    uint64_t least = 6);

template <typename D>
void AtEveryCrashPoint(PciScript script) {
  PciCrashPlan plan;
  plan.script = std::move(script);
  ExpectSurvives(PciClassOf<D>(), plan);
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PCI_CRASH_H_

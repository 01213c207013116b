#ifndef HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_CONFORMANCE_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_CONFORMANCE_H_

#include <vector>

#include "devices/bus/testing/platform_crash.h"
#include "devices/bus/testing/platform_guest.h"
#include "devices/bus/testing/region_conformance.h"
#include "devices/bus/testing/region_prober.h"

namespace holdfast::testing {

// The rules of platform devices.
using PlatformRule = Rule<PlatformClass>;

// All of them:
//  AccessesOutsideFail      with the error that RegionDevice names, without
//                           effect
//  EveryWidthAndAlignment   of every register: answered, and answered the same
//                           when the access comes again
//  ResetMakesANewDevice     whose lines are low
//  LinesReachTheGuest       levels while they stay, edges each time, and what a
//                           predecessor may not have signalled
//  RestartsAreInvisible     the same answers with a successor at every access
const std::vector<PlatformRule>& PlatformRules();

// A rule's parts.
Violations CheckOutside(const PlatformClass& device);
Violations CheckWidths(const PlatformClass& device);
Violations CheckReset(const PlatformClass& device);
Violations CheckLines(const PlatformClass& device);
Violations CheckRestarts(const PlatformClass& device);

// Plans that crash every device: each of its registers written and read, a new
// segment; recoveries of the smallest one are killed, too, and theirs.
std::vector<NamedCrashPlan<PlatformGuest>> PlatformCrashPlans(
    const PlatformClass& device);

// For the tests that holdfast_platform_device_tests() makes.
inline const std::vector<PlatformRule>& RulesOf(const PlatformClass&) {
  return PlatformRules();
}
inline std::vector<NamedCrashPlan<PlatformGuest>> CrashPlansOf(
    const PlatformClass& device) {
  return PlatformCrashPlans(device);
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_CONFORMANCE_H_

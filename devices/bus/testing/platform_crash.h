#ifndef HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_CRASH_H_
#define HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_CRASH_H_

#include <utility>

#include "devices/bus/testing/platform_guest.h"
#include "devices/bus/testing/region_crash.h"

namespace holdfast::testing {

using PlatformCrashPlan = CrashPlan<PlatformGuest>;
using PlatformScript = PlatformCrashPlan::Script;

template <typename D>
void AtEveryCrashPoint(PlatformScript script) {
  PlatformCrashPlan plan;
  plan.script = std::move(script);
  ExpectSurvives(PlatformClassOf<D>(), plan);
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_PLATFORM_CRASH_H_

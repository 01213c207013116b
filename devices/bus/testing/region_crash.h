#ifndef HOLDFAST_DEVICES_BUS_TESTING_REGION_CRASH_H_
#define HOLDFAST_DEVICES_BUS_TESTING_REGION_CRASH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "devices/bus/testing/region_guest.h"
#include "statestore/testing/crash_explorer.h"

namespace holdfast::testing {

// A device of any bus and a guest of it, to be killed.
template <typename Guest>
struct CrashPlan {
  // What a guest does. Must be the same every time: it runs once for each
  // crash.
  using Script = std::function<void(Guest&)>;

  Script before = [](Guest&) {};  // Runs whole.
  Script script;                  // Is killed.
  RegionGuest::Options options = {};
  int depth = 1;       // 2: recoveries are killed, too; 3: and theirs.
  bool fresh = false;  // Instead of `before`: a segment that is new.
  // Whether a device's areas are as in peace in the end. Not so where they hold
  // what is only then valid when state says so.
  bool compares_areas = true;
};

template <typename Guest>
struct NamedCrashPlan {
  std::string name;  // [A-Za-z0-9_]
  CrashPlan<Guest> plan;
};

// With the type of the guest erased; `make` gives one to be attached.
CrashReport ExploreRegionCrashes(
    const std::function<std::unique_ptr<RegionGuest>()>& make,
    const CrashPlan<RegionGuest>& plan);

// Runs `script` once in peace. Then kills it after every instruction that
// changes anything outside the process, takes the device over, lets the carrier
// repeat the access that was not answered and go on, and compares: every
// answer, all of the device's state and registers, its areas, the memory that
// it shares with the guest, and the guest's own must be those of the peaceful
// run; every vector that was signalled there was signalled (perhaps once more),
// no other was. Linux on x86-64; not under sanitizers.
template <typename Guest>
CrashReport ExploreDeviceCrashes(const typename Guest::Class& device,
                                 const CrashPlan<Guest>& plan) {
  const auto erased = [](const typename CrashPlan<Guest>::Script& script) {
    return [script](RegionGuest& guest) { script(static_cast<Guest&>(guest)); };
  };
  return ExploreRegionCrashes(
      [&] {
        return std::make_unique<Guest>(device, plan.options,
                                       typename Guest::Detached());
      },
      {erased(plan.before), erased(plan.script), plan.options, plan.depth,
       plan.fresh, plan.compares_areas});
}

// As a test: no violation, and at least so many crash states. Prints them.
void ExpectNoViolation(const CrashReport& report, uint64_t least);
template <typename Guest>
void ExpectSurvives(const typename Guest::Class& device,
                    const CrashPlan<Guest>& plan, uint64_t least = 6) {
  ExpectNoViolation(ExploreDeviceCrashes(device, plan), least);
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_REGION_CRASH_H_

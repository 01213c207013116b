#ifndef HOLDFAST_DEVICES_BUS_TESTING_REGION_CONFORMANCE_H_
#define HOLDFAST_DEVICES_BUS_TESTING_REGION_CONFORMANCE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "devices/bus/registers.h"
#include "devices/bus/testing/region_crash.h"
#include "devices/bus/testing/region_prober.h"

namespace holdfast::testing {

// A rule that every device of a bus keeps, whatever it does. Each runs on a new
// device of the class, in this process; the verdict is the same every time.
// What a rule expects comes from a specification and from the device's spec,
// never from what the device answers.
template <typename Class>
struct Rule {
  const char* name;
  Violations (*check)(const Class&);
};

// Rules of all buses, on a device that is new. They write down what they find.

// Accesses outside fail with the error that RegionDevice names, without effect.
void ProbeOutside(RegionProber& prober);
// Every register at every width and alignment: answered, and answered the same
// when the access comes again.
void ProbeWidths(RegionProber& prober);
// A reset makes a new device; `others` are more ways to make one.
struct ResetWay {
  const char* name;
  std::function<absl::Status()> reset;
};
void ProbeReset(RegionProber& prober, const std::vector<ResetWay>& others = {});
// The same answers with a successor at every access: of `shaken`, which has
// them, and of `calm`. They are found in `shaken`.
void ProbeRestarts(RegionProber& calm, RegionProber& shaken);

// Plans that write and read one register each, after `before`; all recoveries
// are killed, too. Of the first register's read also theirs.
template <typename Guest>
void AddRegisterPlans(const std::string& region_name, uint32_t region,
                      const std::vector<Register>& registers,
                      const typename CrashPlan<Guest>::Script& before,
                      std::vector<NamedCrashPlan<Guest>>& plans) {
  using Script = typename CrashPlan<Guest>::Script;
  const auto add = [&](std::string name, Script script, int depth) {
    plans.push_back({std::move(name), {}});
    plans.back().plan.before = before;
    plans.back().plan.script = std::move(script);
    plans.back().plan.depth = depth;
  };
  for (const Register& reg : registers) {
    if (reg.constant()) continue;
    const Script read = [region, reg](Guest& guest) {
      guest.Read(region, reg.offset(), reg.width());
    };
    if (plans.empty()) add("recoveries", read, 3);
    const Script touch = [region, reg, read](Guest& guest) {
      guest.Write(region, reg.offset(), 0x5a5a5a5a5a5a5a5b & reg.mask(),
                  reg.width());
      read(guest);
    };
    add(absl::StrCat(region_name, "_", reg.name()), touch, 2);
  }
}

// The first violation of the crash plans of a device; "": it survives.
template <typename Class>
std::string FirstCrashViolation(const Class& device) {
  for (const auto& named : CrashPlansOf(device)) {
    const CrashReport report = ExploreDeviceCrashes(device, named.plan);
    if (report.violations > 0) return report.first_violation;
  }
  return "";
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_REGION_CONFORMANCE_H_

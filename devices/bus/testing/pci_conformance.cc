#include "devices/bus/testing/pci_conformance.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/bus/testing/pci_prober.h"

namespace holdfast::testing {
namespace {

// A driver's start, so that what is raised reaches the guest.
void Enable(PciGuest& guest, const PciSpec& spec) {
  guest.EnableMaster();
  if (spec.msix_vectors() == 0) return;
  guest.EnableMsix();
  guest.UnmaskMsix(0);
}

// A write and a read of one register.
PciScript TouchScript(uint32_t region, const Register& reg) {
  return [region, reg](PciGuest& guest) {
    guest.Write(region, reg.offset(), 0x5a5a5a5a5a5a5a5b & reg.mask(),
                reg.width());
    guest.Read(region, reg.offset(), reg.width());
  };
}

// What a driver does first of all.
void Probe(PciGuest& guest, const PciSpec& spec) {
  guest.WriteConfig(pci::kFirstBar, 0xffffffff, 4);
  guest.ReadConfig(pci::kFirstBar, 4);
  guest.WriteConfig(pci::kFirstBar, 0xfeb00000, 4);
  Enable(guest, spec);
}

}  // namespace

const std::vector<PciRule>& PciRules() {
  static const auto* const kRules = new std::vector<PciRule>{
      {"HeaderIsWellFormed", CheckHeader},
      {"ConstantsStay", CheckConstants},
      {"BarsTellTheirSize", CheckBarSizes},
      {"AccessesOutsideFail", CheckOutside},
      {"EveryWidthAndAlignment", CheckWidths},
      {"ResetMakesANewDevice", CheckReset},
      {"InterruptsWaitForMasks", CheckInterrupts},
      {"RestartsAreInvisible", CheckRestarts},
  };
  return *kRules;
}

std::vector<NamedCrashPlan> PciCrashPlans(const PciClass& device) {
  const PciProber prober(device);
  const PciSpec& spec = prober.spec();
  const auto enable = [spec](PciGuest& guest) { Enable(guest, spec); };
  std::vector<NamedCrashPlan> plans;
  const auto add = [&](std::string name, PciScript script) -> PciCrashPlan& {
    plans.push_back({std::move(name), {}});
    plans.back().plan.before = enable;
    plans.back().plan.script = std::move(script);
    return plans.back().plan;
  };
  bool deep = false;
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    if (bar == spec.msix_bar()) continue;
    for (const Register& reg : prober.RegistersOf(bar)) {
      if (reg.constant()) continue;
      add(absl::StrCat("bar", bar, "_", reg.name()), TouchScript(bar, reg));
      if (std::exchange(deep, true)) continue;
      // The recovery of a recovery's recovery.
      add("recoveries", [bar, reg](PciGuest& guest) {
        guest.Read(bar, reg.offset(), reg.width());
      }).depth = 3;
    }
  }
  PciCrashPlan& probe =
      add("probe", [spec](PciGuest& guest) { Probe(guest, spec); });
  probe.before = [](PciGuest&) {};
  PciCrashPlan& fresh =
      add("new_segment", [](PciGuest& guest) { guest.EnableMaster(); });
  fresh.before = [](PciGuest&) {};
  fresh.fresh = true;
  if (spec.express()) {
    add("function_level_reset", [](PciGuest& guest) {
      guest.WriteConfig(pci::kExpressControl.offset(), pci::kFunctionReset, 2);
      guest.ReadConfig(pci::kCommand.offset(), 2);
    });
  }
  return plans;
}

}  // namespace holdfast::testing

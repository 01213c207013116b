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

// Writes and reads of a memory BAR, at both ends of it.
PciScript MemoryScript(uint32_t bar, uint64_t size) {
  return [bar, size](PciGuest& guest) {
    for (const uint64_t at : {uint64_t{0}, size - 8}) {
      guest.Write(bar, at, 0x123456789abcdef0, 8);
      guest.Read(bar, at + 4, 4);
    }
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

Violations CheckOutside(const PciClass& device) {
  PciProber prober(device);
  ProbeOutside(prober);
  return prober.found();
}

Violations CheckWidths(const PciClass& device) {
  PciProber prober(device);
  prober.guest().EnableMaster();
  ProbeWidths(prober);
  return prober.found();
}

Violations CheckReset(const PciClass& device) {
  PciProber prober(device);
  std::vector<ResetWay> others;
  if (prober.spec().express()) {
    others.push_back({"a function level reset", [&prober] {
                        prober.SetConfig(pci::kExpressControl.offset(),
                                         pci::kFunctionReset, 2);
                        return absl::OkStatus();
                      }});
  }
  ProbeReset(prober, others);
  return prober.found();
}

Violations CheckRestarts(const PciClass& device) {
  PciProber calm(device);
  PciProber shaken(device);
  ProbeRestarts(calm, shaken);
  return shaken.found();
}

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

std::vector<NamedCrashPlan<PciGuest>> PciCrashPlans(const PciClass& device) {
  const PciProber prober(device);
  const PciSpec& spec = prober.spec();
  const auto enable = [spec](PciGuest& guest) { Enable(guest, spec); };
  std::vector<NamedCrashPlan<PciGuest>> plans;
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    if (bar == spec.msix_bar()) continue;
    AddRegisterPlans<PciGuest>(absl::StrCat("bar", bar), bar,
                               prober.RegistersOf(bar), enable, plans);
  }
  const auto add = [&](std::string name, PciScript script) -> PciCrashPlan& {
    plans.push_back({std::move(name), {}});
    plans.back().plan.before = enable;
    plans.back().plan.script = std::move(script);
    return plans.back().plan;
  };
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    if (spec.bar(bar).kind != BarSpec::Kind::kMemory) continue;
    add(absl::StrCat("bar", bar, "_memory"),
        MemoryScript(bar, spec.BarSize(bar)));
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

#include "devices/bus/testing/platform_conformance.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "devices/bus/platform_device.h"

namespace holdfast::testing {
namespace {

class PlatformProber final : public RegionProber {
 public:
  explicit PlatformProber(const PlatformClass& device)
      : spec_(device.spec), guest_(Exposed(device, &context_)) {}

  const PlatformSpec& spec() const { return spec_; }
  PlatformGuest& guest() override { return guest_; }
  std::vector<Register> RegistersOf(uint32_t region) const override {
    return region < spec_.regions().size() ? spec_.regions()[region].registers()
                                           : std::vector<Register>();
  }
  bool IsGuests(const std::string& field) const override {
    return absl::StartsWith(field, "region") || field == "platform.levels";
  }

  // What the device might do at any time.
  template <typename Change>
  void Do(Change change) {
    const absl::Status status = context_->Update([&](PlatformTxn& txn) {
      change(txn);
      return absl::OkStatus();
    });
    Expect(status.ok(), "a change of lines fails: ", status.ToString());
  }

 private:
  static PlatformClass Exposed(const PlatformClass& device,
                               PlatformContext** context) {
    PlatformClass exposed = device;
    exposed.make = [make = device.make, context](PlatformContext& given) {
      *context = &given;
      return make(given);
    };
    return exposed;
  }

  const PlatformSpec spec_;
  PlatformContext* context_ = nullptr;
  PlatformGuest guest_;
};

// The signals of one line, as they come.
class Line {
 public:
  Line(PlatformProber& prober, uint32_t line) : prober_(prober), line_(line) {
    Set(false);
    seen_ = prober_.guest().signals(line_);
  }

  void Set(bool level) {
    prober_.Do([&](PlatformTxn& txn) { txn.SetLine(line_, level); });
  }
  void Pulse() {
    prober_.Do([&](PlatformTxn& txn) { txn.Pulse(line_); });
  }
  void Unmask() { prober_.guest().device().OnUnmask(line_, 0); }
  // Since the last call.
  void Expect(const char* when, uint64_t want) {
    const uint64_t got = prober_.guest().signals(line_) - seen_;
    seen_ += got;
    prober_.Expect(got == want, "line ", line_, " ", when, ": signalled ", got,
                   " times instead of ", want);
  }

 private:
  PlatformProber& prober_;
  const uint32_t line_;
  uint64_t seen_ = 0;
};

// Signals of a line that the VMM unmasks and nobody has driven.
uint64_t UnmaskedAtFirst(PlatformProber& prober, uint32_t line) {
  const uint64_t before = prober.guest().signals(line);
  prober.guest().device().OnUnmask(line, 0);
  return prober.guest().signals(line) - before;
}

void CheckLevel(PlatformProber& prober, uint32_t number) {
  // A device may hold a line high from its reset on, by what it is.
  const uint64_t held = UnmaskedAtFirst(prober, number);
  Line line(prober, number);
  line.Set(true);
  line.Expect("that rises", 1);
  line.Set(true);
  line.Expect("that stays", 0);
  line.Unmask();
  line.Expect("that stays when the VMM unmasks it", 1);
  prober.guest().Restart();
  line.Expect("that stays, of a successor", 1);
  line.Set(false);
  line.Unmask();
  line.Expect("let go", 0);
  prober.guest().Restart();
  line.Expect("let go, of a successor", 0);
  line.Set(true);
  line.Expect("that rises again", 1);
  prober.Expect(prober.guest().device().Reset().ok(), "a reset fails");
  line.Expect("that a reset lets go", 0);
  line.Unmask();
  line.Expect("unmasked after a reset", held);
}

void CheckEdge(PlatformProber& prober, uint32_t number) {
  Line line(prober, number);
  line.Pulse();
  line.Expect("pulsed", 1);
  line.Unmask();
  line.Expect("unmasked after its edge", 0);
  line.Pulse();
  line.Expect("pulsed again", 1);
  prober.guest().Restart();
  line.Expect("pulsed by a predecessor that may not have said so", 1);
  // Whatever comes next says that it was signalled.
  line.Set(true);
  line.Set(false);
  line.Expect("up and down", 1);
  prober.guest().Restart();
  line.Expect("pulsed and said so", 0);
}

}  // namespace

Violations CheckOutside(const PlatformClass& device) {
  PlatformProber prober(device);
  ProbeOutside(prober);
  return prober.found();
}

Violations CheckWidths(const PlatformClass& device) {
  PlatformProber prober(device);
  ProbeWidths(prober);
  return prober.found();
}

Violations CheckReset(const PlatformClass& device) {
  PlatformProber prober(device);
  ProbeReset(prober);
  return prober.found();
}

Violations CheckLines(const PlatformClass& device) {
  PlatformProber prober(device);
  const std::vector<bool>& lines = prober.spec().lines();
  for (uint32_t line = 0; line < lines.size(); ++line) {
    lines[line] ? CheckLevel(prober, line) : CheckEdge(prober, line);
  }
  return prober.found();
}

Violations CheckRestarts(const PlatformClass& device) {
  PlatformProber calm(device);
  PlatformProber shaken(device);
  ProbeRestarts(calm, shaken);
  return shaken.found();
}

const std::vector<PlatformRule>& PlatformRules() {
  static const auto* const kRules = new std::vector<PlatformRule>{
      {"AccessesOutsideFail", CheckOutside},
      {"EveryWidthAndAlignment", CheckWidths},
      {"ResetMakesANewDevice", CheckReset},
      {"LinesReachTheGuest", CheckLines},
      {"RestartsAreInvisible", CheckRestarts},
  };
  return *kRules;
}

std::vector<NamedCrashPlan<PlatformGuest>> PlatformCrashPlans(
    const PlatformClass& device) {
  const PlatformProber prober(device);
  std::vector<NamedCrashPlan<PlatformGuest>> plans;
  for (uint32_t region = 0; region < device.spec.regions().size(); ++region) {
    AddRegisterPlans<PlatformGuest>(
        absl::StrCat("region", region), region, prober.RegistersOf(region),
        [](PlatformGuest&) {}, plans);
  }
  const uint64_t size = device.spec.regions()[0].size();
  plans.push_back({"new_segment", {}});
  plans.back().plan.fresh = true;
  plans.back().plan.script = [size](PlatformGuest& guest) {
    guest.Read(0, 0, size < 4 ? 1 : 4);
  };
  return plans;
}

}  // namespace holdfast::testing

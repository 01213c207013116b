#include "devices/bus/testing/pci_crash.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/bus/pci_state.h"

namespace holdfast::testing {
namespace {

// All that the device holds and the guest can see, at rest.
struct Outcome {
  std::vector<uint8_t> fields;
  std::vector<uint8_t> ram;
  PciRecord record;
};

Outcome OutcomeOf(const PciClass& device, size_t ram_size,
                  absl::Span<const uint8_t> memory) {
  const Schema schema = PciState::Create(device.spec)->schema();
  const size_t state_size = StateSectionSize(schema.size, 0);
  const absl::Span<const uint8_t> fields = CommittedFields(memory, schema);
  Outcome outcome;
  outcome.fields.assign(fields.begin(), fields.end());
  std::memcpy(&outcome.record, memory.data() + state_size, sizeof(PciRecord));
  const uint8_t* ram = memory.data() + state_size + sizeof(PciRecord);
  outcome.ram.assign(ram, ram + ram_size);
  return outcome;
}

std::string CompareRecords(const PciRecord& want, const PciRecord& got) {
  if (want.done != got.done) {
    return absl::StrCat(got.done, " accesses instead of ", want.done);
  }
  for (size_t i = 0; i < PciRecord::kMaxAccesses; ++i) {
    if (want.answers[i] != got.answers[i]) {
      return absl::StrCat("access ", i, " was answered ", got.answers[i],
                          " instead of ", want.answers[i]);
    }
  }
  for (uint32_t irq = 0; irq < kPciIrqCount; ++irq) {
    for (uint32_t v = 0; v < PciRecord::kMaxVectors; ++v) {
      if (got.signals[irq][v] < want.signals[irq][v] ||
          (want.signals[irq][v] == 0 && got.signals[irq][v] != 0)) {
        return absl::StrCat("interrupt ", irq, "/", v, " was signalled ",
                            got.signals[irq][v], " times instead of ",
                            want.signals[irq][v]);
      }
    }
  }
  return "";
}

}  // namespace

CrashReport ExplorePciCrashes(const PciClass& device,
                              const PciCrashPlan& plan) {
  PciGuest before(device, plan.options);
  plan.before(before);
  const uint64_t first = before.record().done;
  if (plan.fresh) PciGuest::Format(device, before.memory());
  const std::vector<uint8_t> image(before.memory().begin(),
                                   before.memory().end());
  const Schema schema = PciState::Create(device.spec)->schema();
  // Made before the child that is stepped through.
  PciGuest guest(device, plan.options, PciGuest::Detached());
  const auto run = [&](PciGuest& on, absl::Span<uint8_t> memory) {
    on.set_next_id(first);
    on.Attach(memory);
    plan.script(on);
  };
  std::vector<uint8_t> peace(image.size() + kPageSize);
  const size_t skew = reinterpret_cast<uintptr_t>(peace.data()) % kPageSize;
  const absl::Span<uint8_t> peaceful = absl::MakeSpan(peace).subspan(
      (kPageSize - skew) % kPageSize, image.size());
  std::memcpy(peaceful.data(), image.data(), image.size());
  PciGuest calm(device, plan.options, PciGuest::Detached());
  run(calm, peaceful);
  const Outcome want = OutcomeOf(device, plan.options.ram_size, peaceful);
  return ExploreCrashes(
      image, [&](absl::Span<uint8_t> memory) { run(guest, memory); },
      [&](absl::Span<uint8_t> memory) {
        PciGuest successor(device, plan.options, PciGuest::Detached());
        run(successor, memory);
      },
      [&](absl::Span<uint8_t> memory) {
        const Outcome got = OutcomeOf(device, plan.options.ram_size, memory);
        std::string wrong = CompareRecords(want.record, got.record);
        // Whether an interrupt was signalled is not known to the device.
        if (wrong.empty()) {
          wrong = CompareFields(schema, want.fields, got.fields,
                                {"function.unsent"});
        }
        if (wrong.empty() && want.ram != got.ram) wrong = "RAM differs";
        return wrong;
      },
      plan.depth, Stepping::kTraps);
}

void ExpectSurvives(const PciClass& device, const PciCrashPlan& plan,
                    uint64_t least) {
  const CrashReport report = ExplorePciCrashes(device, plan);
  std::printf("%llu crash states, %llu recoveries, %llu violations\n",
              static_cast<unsigned long long>(report.crash_states),
              static_cast<unsigned long long>(report.recoveries),
              static_cast<unsigned long long>(report.violations));
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.violations, 0u) << report.first_violation;
  EXPECT_GE(report.crash_states, least);
}

}  // namespace holdfast::testing

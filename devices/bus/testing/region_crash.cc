#include "devices/bus/testing/region_crash.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "statestore/format.h"

namespace holdfast::testing {
namespace {

std::vector<uint8_t> Copy(absl::Span<const uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

// All that the device holds and the guest can see, at rest.
struct Outcome {
  std::vector<uint8_t> fields;
  std::vector<uint8_t> ram;
  std::vector<uint8_t> shared;
  std::vector<uint8_t> areas;
  RegionRecord record;
};

Outcome OutcomeOf(const RegionGuest& guest, absl::Span<uint8_t> memory) {
  const RegionGuest::View view = guest.ViewOf(memory);
  return {Copy(CommittedFields(view.state, guest.layout().schema)),
          Copy(view.ram), Copy(view.shared), Copy(view.areas), *view.record};
}

std::string CompareRecords(const RegionRecord& want, const RegionRecord& got,
                           uint32_t vectors) {
  if (want.done != got.done) {
    return absl::StrCat(got.done, " accesses instead of ", want.done);
  }
  for (size_t i = 0; i < RegionRecord::kMaxAccesses; ++i) {
    if (want.answers[i] != got.answers[i]) {
      return absl::StrCat("access ", i, " was answered ", got.answers[i],
                          " instead of ", want.answers[i]);
    }
  }
  for (size_t i = 0; i < RegionRecord::kMaxSignals; ++i) {
    if (got.signals[i] < want.signals[i] ||
        (want.signals[i] == 0 && got.signals[i] != 0)) {
      return absl::StrCat("interrupt ", i / vectors, "/", i % vectors,
                          " was signalled ", got.signals[i],
                          " times instead of ", want.signals[i]);
    }
  }
  return "";
}

std::string CompareBytes(const char* what, const std::vector<uint8_t>& want,
                         const std::vector<uint8_t>& got) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i] == got[i]) continue;
    return absl::StrCat(what, " differs at byte ", i, ": ", got[i],
                        " instead of ", want[i]);
  }
  return "";
}

std::string CompareOutcomes(const RegionGuest::Layout& layout,
                            const Outcome& want, const Outcome& got,
                            bool compares_areas) {
  std::string wrong = CompareRecords(want.record, got.record, layout.vectors);
  // Whether an interrupt was signalled is not known to the device.
  if (wrong.empty()) {
    wrong = CompareFields(layout.schema, want.fields, got.fields,
                          {"function.unsent", "platform.unsent"});
  }
  if (wrong.empty()) wrong = CompareBytes("RAM", want.ram, got.ram);
  if (wrong.empty()) {
    wrong = CompareBytes("shared memory", want.shared, got.shared);
  }
  if (wrong.empty() && compares_areas) {
    wrong = CompareBytes("an area", want.areas, got.areas);
  }
  return wrong;
}

}  // namespace

CrashReport ExploreRegionCrashes(
    const std::function<std::unique_ptr<RegionGuest>()>& make,
    const CrashPlan<RegionGuest>& plan) {
  const auto before = make();
  before->Begin();
  plan.before(*before);
  const uint64_t first = before->record().done;
  if (plan.fresh) before->Format(before->memory());
  const std::vector<uint8_t> image = Copy(before->memory());
  // Made before the child that is stepped through.
  const auto guest = make();
  const auto run = [&](RegionGuest& on, absl::Span<uint8_t> memory) {
    on.set_next_id(first);
    on.Attach(memory);
    plan.script(on);
  };
  std::vector<uint8_t> peace(image.size() + kPageSize);
  const size_t skew = reinterpret_cast<uintptr_t>(peace.data()) % kPageSize;
  const absl::Span<uint8_t> peaceful = absl::MakeSpan(peace).subspan(
      (kPageSize - skew) % kPageSize, image.size());
  std::memcpy(peaceful.data(), image.data(), image.size());
  const auto calm = make();
  run(*calm, peaceful);
  const Outcome want = OutcomeOf(*calm, peaceful);
  return ExploreCrashes(
      image, [&](absl::Span<uint8_t> memory) { run(*guest, memory); },
      [&](absl::Span<uint8_t> memory) { run(*make(), memory); },
      [&](absl::Span<uint8_t> memory) {
        return CompareOutcomes(guest->layout(), want, OutcomeOf(*guest, memory),
                               plan.compares_areas);
      },
      plan.depth, Stepping::kTraps);
}

void ExpectNoViolation(const CrashReport& report, uint64_t least) {
  std::printf("%llu crash states, %llu recoveries, %llu violations\n",
              static_cast<unsigned long long>(report.crash_states),
              static_cast<unsigned long long>(report.recoveries),
              static_cast<unsigned long long>(report.violations));
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.violations, 0u) << report.first_violation;
  EXPECT_GE(report.crash_states, least);
}

}  // namespace holdfast::testing

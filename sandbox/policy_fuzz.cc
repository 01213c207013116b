// Any text is refused or gives a policy, whose filter then means what it says.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "sandbox/compile.h"
#include "sandbox/policy.h"
#include "sandbox/prove.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::sandbox;  // NOLINT(build/namespaces)
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  // The second half serves as every include.
  const auto policy = ParsePolicy("p", [&](absl::string_view name) {
    return std::string(name == "p" ? text : text.substr(size / 2));
  });
  if (!policy.ok()) return 0;
  const auto rules = policy->StartupRules();
  const auto program = Compile(rules);
  if (!program.ok() || rules.size() > 4) return 0;
  // The numbers without rules are compile_test's; they would take the time.
  std::vector<SyscallRecord> records;
  for (const SyscallRecord& record : ProofRecords(rules)) {
    if (record.number % 8 == size % 8) records.push_back(record);
  }
  if (!ProveFilter(rules, *program, records).ok()) __builtin_trap();
  return 0;
}

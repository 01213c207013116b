#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "launcher/instance_record.h"
#include "launcher/restart_policy.h"
#include "launcher/spec.h"

namespace {

namespace launcher = holdfast::launcher;
using ::holdfast::testing::Require;

std::vector<uint8_t> GoodRecord() {
  launcher::LaunchSpec spec;
  spec.name = "disk0";
  spec.binary = "/bin/device";
  spec.uid = 12345;
  launcher::RecordCounters counters;
  counters.children = {{15, 4000}, {16, 4001}};
  counters.restarts = {{"SIGKILL", 4}};
  counters.recovery_us = {90, 900};
  std::vector<uint8_t> memory(launcher::kRecordSize);
  launcher::WriteRecord(absl::MakeSpan(memory), spec, counters);
  return memory;
}

}  // namespace

// A record over which somebody has written: three bytes of the input are a
// place and what stands there now. Whatever is accepted is a valid spec, a
// policy in its range, and the same when it is written and read again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<uint8_t>* const good =
      new std::vector<uint8_t>(GoodRecord());
  std::vector<uint8_t> memory = *good;
  for (size_t i = 0; i + 3 <= size; i += 3) {
    memory[(data[i] | data[i + 1] << 8) % memory.size()] = data[i + 2];
  }
  const auto record = launcher::ReadRecord(memory);
  if (!record.ok()) return 0;
  Require(launcher::ValidateSpec(record->spec).ok());
  Require(record->counters.next_child >= 1);
  for (const auto& life : record->counters.backend.lives) {
    Require(record->counters.backend.next_life > life.number);
  }
  launcher::RestartPolicy policy(record->spec.restart, 1);
  policy.Restore(record->counters.policy);
  Require(policy.tokens() <= record->spec.restart.budget);
  launcher::UpdateRecord(absl::MakeSpan(memory), record->counters);
  const auto again = launcher::ReadRecord(memory);
  Require(again.ok());
  Require(launcher::EncodeSpec(again->spec) ==
          launcher::EncodeSpec(record->spec));
  Require(again->counters.children.size() == record->counters.children.size());
  Require(again->counters.restarts == record->counters.restarts);
  Require(again->counters.recovery_us == record->counters.recovery_us);
  return 0;
}

// A region with any content, calls in any order: results stay in the table, a
// second Recover finds what the first one found, and nothing outside the region
// is touched (AddressSanitizer).
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "statestore/inflight.h"

namespace {

using ::holdfast::InflightRequest;
using ::holdfast::InflightTable;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

void CheckRecover(InflightTable& table, uint16_t used_idx) {
  const uint16_t num = table.num();
  std::vector<InflightRequest> out(num);
  const auto count = table.Recover(used_idx, absl::MakeSpan(out));
  if (!count.ok()) return;
  Require(*count <= num);
  std::vector<bool> seen(num);
  for (size_t i = 0; i < *count; ++i) {
    Require(out[i].head < num && !seen[out[i].head]);
    seen[out[i].head] = true;
    Require(i == 0 || out[i - 1].counter <= out[i].counter);
  }
  std::vector<InflightRequest> again(num);
  const auto second = table.Recover(used_idx, absl::MakeSpan(again));
  Require(second.ok() && *second == *count);
  for (size_t i = 0; i < *count; ++i) {
    Require(again[i].head == out[i].head && again[i].deaths == out[i].deaths);
  }
}

void Step(InflightTable& table, FuzzInput& input) {
  const uint8_t call = input.Take<uint8_t>();
  const uint16_t argument = input.Take<uint16_t>();
  const uint16_t head = argument % table.num();
  switch (call % 8) {
    case 0:
      return table.Fetch(head);
    case 1:
      return table.RecordBatchEntry(head);
    case 2:
      return table.Clear(head);
    case 3:
      return table.FinishBatch(argument);
    case 4:
      return table.MarkStarted(head);
    case 5:
      return table.Reset(argument, input.Take<uint16_t>());
    default:
      return CheckRecover(table, argument);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  const uint16_t num = 1 << (input.Take<uint8_t>() % 6);
  const size_t bytes = holdfast::InflightRegionSize(num);
  std::unique_ptr<uint64_t[]> region(new uint64_t[bytes / 8]);
  for (size_t i = 0; i < bytes / 8; ++i) region[i] = input.Take<uint64_t>();
  auto table = InflightTable::Attach(
      {reinterpret_cast<uint8_t*>(region.get()), bytes}, num);
  Require(table.ok());
  CheckRecover(*table, input.Take<uint16_t>());
  while (!input.empty()) Step(*table, input);
  CheckRecover(*table, 0);
  return 0;
}

#ifndef HOLDFAST_DEVICES_BUS_TESTING_FUZZ_ACCESS_H_
#define HOLDFAST_DEVICES_BUS_TESTING_FUZZ_ACCESS_H_

// What fuzzers of devices with regions have in common: accesses as an input
// says, each made twice.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "devices/bus/region_device.h"

namespace holdfast::testing {

struct FuzzStep {
  uint8_t kind;  // Even: a write. The rest of it is the fuzzer's.
  uint32_t region;
  uint64_t offset;
  std::vector<uint8_t> bytes;  // Written, or how many are read.
};

// The next step of an input, to one of `regions` (an index that any of them
// has) and mostly below offset `limit`, from 1 to 256. Corpora are committed:
// the order and width of what is taken is a format.
inline FuzzStep TakeStep(FuzzInput& input, absl::Span<const uint32_t> regions,
                         uint32_t limit) {
  FuzzStep step;
  step.kind = input.Take<uint8_t>();
  const uint8_t where = input.Take<uint8_t>();
  step.region = regions[where % regions.size()];
  step.offset = input.Take<uint8_t>() % limit;
  if (where >= 0xf0) step.offset = input.Take<uint64_t>();
  const uint8_t size = input.Take<uint8_t>();
  step.bytes.resize(size < 200 ? size % 9 : size - 180);
  for (uint8_t& byte : step.bytes) byte = input.Take<uint8_t>();
  return step;
}

// Makes the access, and again under its name, which must answer the same and
// change nothing of what `look` returns. Whether it was accepted.
template <typename Look>
bool AccessTwice(RegionDevice& device, AccessId id, const FuzzStep& step,
                 Look look) {
  const auto once = [&](std::vector<uint8_t>& bytes) {
    return step.kind % 2 == 0
               ? device.Write(id, step.region, step.offset, bytes).ok()
               : device
                     .Read(id, step.region, step.offset, absl::MakeSpan(bytes))
                     .ok();
  };
  std::vector<uint8_t> first = step.bytes;
  std::vector<uint8_t> again = step.bytes;
  const bool ok = once(first);
  const auto after = look();
  Require(once(again) == ok);
  Require(!ok || first == again);
  Require(look() == after);
  return ok;
}

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_FUZZ_ACCESS_H_

// Any bytes give a report that can be printed. The second pass repairs magic
// and header checksum, so that what they protect is reached too.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "statestore/dump.h"
#include "statestore/format.h"
#include "statestore/recover.h"

namespace {

void Check(const std::vector<uint8_t>& memory) {
  const holdfast::RecoveryReport report = holdfast::Recover(memory);
  holdfast::Dump(report);
  holdfast::DumpJson(report);
  holdfast::Diff(report, holdfast::RecoveryReport());
  holdfast::DiffJson(holdfast::RecoveryReport(), report);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using holdfast::SegmentHeader;
  std::vector<uint8_t> memory(data, data + size);
  Check(memory);
  if (size < holdfast::kPageSize) return 0;
  SegmentHeader header;
  std::memcpy(&header, memory.data(), sizeof(header));
  const uint64_t epoch = header.epoch;
  header.magic = header.epoch = header.check = 0;
  header.format_version = holdfast::kFormatVersion;
  header.segment_size = size;
  std::memcpy(memory.data(), &header, sizeof(header));
  header.check = holdfast::Crc32c({memory.data(), holdfast::kPageSize});
  header.magic = holdfast::kSegmentMagic;
  header.epoch = epoch;
  std::memcpy(memory.data(), &header, sizeof(header));
  Check(memory);
  return 0;
}

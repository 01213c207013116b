// Any bytes give figures or an error. The second pass repairs magic and header
// checksum, so that what they protect is reached too.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "statestore/figures.h"
#include "statestore/format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> memory(data, data + size);
  (void)holdfast::ReadFigures(memory);
  if (size < holdfast::kPageSize) return 0;
  holdfast::SegmentHeader header;
  std::memcpy(&header, memory.data(), sizeof(header));
  header.segment_size = size;
  header.magic = header.epoch = header.check = 0;
  std::memcpy(memory.data(), &header, sizeof(header));
  header.check = holdfast::Crc32c({memory.data(), holdfast::kPageSize});
  header.magic = holdfast::kSegmentMagic;
  std::memcpy(memory.data(), &header, sizeof(header));
  (void)holdfast::ReadFigures(memory);
  return 0;
}

// Any bytes give a valid schema, which encodes to bytes that decode to itself,
// or an error. The second pass repairs the checksum so that it is passed.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "statestore/schema.h"

namespace {

void Check(const std::vector<uint8_t>& bytes) {
  const absl::StatusOr<holdfast::Schema> schema = holdfast::DecodeSchema(bytes);
  if (!schema.ok()) return;
  if (!holdfast::ValidateSchema(*schema).ok()) std::abort();
  const std::vector<uint8_t> again = holdfast::EncodeSchema(*schema);
  if (again.size() > bytes.size() ||
      std::memcmp(again.data(), bytes.data(), again.size()) != 0) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  Check(bytes);
  if (size >= 20) {
    const uint32_t encoded_size = static_cast<uint32_t>(size);
    std::memcpy(bytes.data(), &encoded_size, sizeof(encoded_size));
    std::memset(bytes.data() + 4, 0, sizeof(uint32_t));
    const uint32_t check = holdfast::Crc32c(bytes);
    std::memcpy(bytes.data() + 4, &check, sizeof(check));
    Check(bytes);
  }
  return 0;
}

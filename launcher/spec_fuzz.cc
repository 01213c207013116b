#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "launcher/spec.h"

// Whatever is accepted is valid and means the same when encoded again; in
// today's version it is what it was, byte for byte.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using holdfast::launcher::DecodeSpec;
  using holdfast::launcher::EncodeSpec;
  constexpr size_t kVersionAt = 4;
  const auto spec = DecodeSpec(absl::MakeConstSpan(data, size));
  if (!spec.ok()) return 0;
  const auto bytes = EncodeSpec(*spec);
  const auto again = DecodeSpec(bytes);
  if (!again.ok() || EncodeSpec(*again) != bytes) abort();
  if (data[kVersionAt] == holdfast::launcher::kSpecVersion &&
      absl::MakeConstSpan(bytes) != absl::MakeConstSpan(data, size)) {
    abort();
  }
  return 0;
}

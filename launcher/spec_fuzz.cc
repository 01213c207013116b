#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "launcher/spec.h"

// Whatever is accepted is valid and means the same when encoded again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using holdfast::launcher::DecodeSpec;
  const auto spec = DecodeSpec(absl::MakeConstSpan(data, size));
  if (!spec.ok()) return 0;
  const auto bytes = holdfast::launcher::EncodeSpec(*spec);
  if (absl::MakeConstSpan(bytes) != absl::MakeConstSpan(data, size)) abort();
  return 0;
}

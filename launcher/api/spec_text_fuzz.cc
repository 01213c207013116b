// Any text gives a spec that the core's rules accept, or an error that starts
// with the file.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/match.h"
#include "launcher/api/spec_text.h"
#include "launcher/api/translate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto proto = holdfast::launcher::ParseSpecText(text, "file");
  if (!proto.ok()) {
    if (!absl::StartsWith(proto.status().message(), "file:")) std::abort();
    return 0;
  }
  const auto spec = holdfast::launcher::FromProto(*proto);
  if (!spec.ok() || !holdfast::launcher::ValidateSpec(*spec).ok()) std::abort();
  return 0;
}

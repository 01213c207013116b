// Any bytes as JSON: reading ends within the limits, names what is wrong, and
// visits balanced paths.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "devices/vfio_user/json.h"

using holdfast::vfio_user::JsonValue;
using holdfast::vfio_user::kMaxJsonDepth;
using holdfast::vfio_user::kMaxJsonSize;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  size_t visits = 0;
  const absl::Status status = holdfast::vfio_user::ReadJson(
      text, [&](absl::Span<const std::string> path, const JsonValue& value) {
        if (path.size() > kMaxJsonDepth) abort();
        size_t name_bytes = 0;
        for (const std::string& name : path) name_bytes += name.size();
        if (name_bytes > size) abort();
        if (value.kind != JsonValue::Kind::kNumber && value.number != 0) {
          abort();
        }
        ++visits;
        return absl::OkStatus();
      });
  if (visits > size) abort();
  if (status.ok() && (visits == 0 || size > kMaxJsonSize)) abort();
  if (!status.ok() && status.message().empty()) abort();
  return 0;
}

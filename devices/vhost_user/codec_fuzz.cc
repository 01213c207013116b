// Any bytes as a message: parsing terminates within the bytes, and what is
// parsed satisfies its own limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/types/span.h"
#include "devices/vhost_user/codec.h"

using holdfast::vhost_user::kMaxConfigAccess;
using holdfast::vhost_user::kMaxMessageSize;
using holdfast::vhost_user::kMaxTableRegions;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const uint8_t> bytes(data, size);
  const auto whole = holdfast::vhost_user::MessageSize(bytes);
  const auto request = holdfast::vhost_user::Parse(bytes);
  if (request.ok() && (!whole.ok() || *whole != size)) abort();
  if (whole.ok() && *whole > kMaxMessageSize) abort();
  if (!request.ok()) {
    // An error names what is wrong.
    if (request.status().message().empty()) abort();
    return 0;
  }
  if (request->region_count > kMaxTableRegions) abort();
  if (request->config.size > kMaxConfigAccess) abort();
  if (holdfast::vhost_user::RequestName(request->type).empty()) abort();
  return 0;
}

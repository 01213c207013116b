// Any bytes as what a back-end says: what is read keeps within its limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/types/span.h"
#include "devices/vhost_user/front_end_codec.h"

using holdfast::vhost_user::kMaxConfigAccess;
using holdfast::vhost_user::kMaxMessageSize;
using holdfast::vhost_user::RequestType;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const uint8_t> bytes(data, size);
  (void)holdfast::vhost_user::ParseBackendRequest(bytes);
  for (const RequestType asked :
       {RequestType::kGetFeatures, RequestType::kGetVringBase,
        RequestType::kGetConfig}) {
    const auto whole = holdfast::vhost_user::AnswerSize(asked, bytes);
    if (whole.ok() && *whole > kMaxMessageSize) abort();
    for (const bool acknowledgement : {false, true}) {
      const auto answer =
          holdfast::vhost_user::ParseAnswer(asked, acknowledgement, bytes);
      if (!answer.ok()) {
        if (answer.status().message().empty()) abort();
        continue;
      }
      if (!whole.ok() || *whole != size) abort();
      if (answer->config.size > kMaxConfigAccess) abort();
    }
  }
  return 0;
}

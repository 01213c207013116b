#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/types/span.h"
#include "launcher/core_protocol.h"

// Whatever is accepted means the same when encoded again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace launcher = holdfast::launcher;
  const auto bytes = absl::MakeConstSpan(data, size);
  if (const auto request = launcher::DecodeRequest(bytes); request.ok()) {
    const auto again = launcher::EncodeRequest(*request);
    if (absl::MakeConstSpan(again) != bytes) abort();
  }
  if (const auto answer = launcher::DecodeAnswer(bytes); answer.ok()) {
    if (launcher::EncodeAnswer(*answer).size() > launcher::kMaxCorePacket) {
      abort();
    }
  }
  return 0;
}

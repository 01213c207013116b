// A hostile front-end: any sequence of messages with any descriptors. Every
// state that is decided satisfies its invariants, the same decision comes out
// twice, and what the environment is asked for is within its contract.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/testing/test_session.h"

namespace {

using holdfast::vhost_user::kMaxPayloadSize;
using holdfast::vhost_user::MessageHeader;
using holdfast::vhost_user::TestSession;

// Takes `size` bytes, or as many as there are, the rest zero.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(data, size) {}
  bool empty() const { return bytes_.empty(); }
  void Take(void* to, size_t size) {
    const size_t n = std::min(size, bytes_.size());
    std::memset(to, 0, size);
    if (n != 0) std::memcpy(to, bytes_.data(), n);
    bytes_.remove_prefix(n);
  }
  uint8_t Byte() {
    uint8_t value;
    Take(&value, 1);
    return value;
  }

 private:
  absl::Span<const uint8_t> bytes_;
};

void Require(bool holds, const absl::Status& status) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  TestSession session;
  session.environment.stopped_at = 40000;
  // One step: the number of descriptors, then a message.
  while (!input.empty()) {
    const size_t fds = input.Byte() % 9;
    MessageHeader header;
    input.Take(&header, sizeof(header));
    // Most sizes and versions would end the sequence at once.
    header.size %= kMaxPayloadSize + 1;
    header.flags = (header.flags & 8) | 1;
    std::vector<uint8_t> message(sizeof(header) + header.size);
    std::memcpy(message.data(), &header, sizeof(header));
    input.Take(message.data() + sizeof(header), header.size);
    // A refusal ends the connection; here the front-end is let off, so that the
    // rest of the input is not wasted. kInternal is TestSession's and
    // FakeEnvironment's word for a broken promise.
    const auto outcome = session.Deliver(message, fds);
    Require(!absl::IsInternal(outcome.status()), outcome.status());
    if (!outcome.ok()) continue;
    Require(!absl::IsInternal(outcome->refusal), outcome->refusal);
    const bool describes_slot = outcome->reply_slot != 0;
    Require(!describes_slot || header.request == 31, outcome->refusal);
  }
  return 0;
}

// A hostile client: any sequence of messages with any descriptors. Every state
// that is decided satisfies its invariants, the same decision comes out twice,
// accesses are named in order, and no state refers to a slot that it must not.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "devices/vfio_user/testing/test_session.h"

namespace {

using namespace holdfast::vfio_user;  // NOLINT: a program of one function.

// Data of one message; longer ones add nothing.
constexpr size_t kMaxPayload = 512;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  TestSession session{holdfast::BorrowedFd(0)};
  session.serving.max_transfer = 4096;
  if (size != 0 && (data[0] & 1) == 0 && !session.Negotiate().ok()) abort();
  // One step: the number of descriptors, the size of the payload, then command,
  // flags and payload.
  for (size_t at = 1; at + 6 <= size;) {
    const size_t fds = data[at] % 18;
    session.environment.inode = data[at] / 18;  // Files often are the same.
    const size_t payload =
        std::min((data[at + 1] | size_t{data[at + 2]} << 8) % kMaxPayload,
                 size - at - 6);
    MessageHeader header{};
    header.id = data[at + 3];
    header.command = data[at + 4];
    header.flags = data[at + 5];
    header.size = static_cast<uint32_t>(sizeof(header) + payload);
    Bytes message = Join(header);
    message.insert(message.end(), data + at + 6, data + at + 6 + payload);
    at += 6 + payload;
    const auto outcome = session.Deliver(message, fds);
    if (!outcome.ok()) {
      // TestSession's word for a broken promise.
      std::fprintf(stderr, "%s\n", outcome.status().ToString().c_str());
      abort();
    }
    const bool silent = (header.flags & kFlagNoReply) != 0 ||
                        (header.flags & kFlagTypeMask) == kFlagReply;
    if (outcome->reply.empty() != silent) abort();
    if (!silent && outcome->header().size != outcome->reply.size()) abort();
  }
  return 0;
}

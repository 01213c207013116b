// Any bytes as a message, any number of descriptors: parsing ends within the
// bytes, whom to answer is always known, what is parsed satisfies its own
// limits; and what is answered has the size that its header says.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "devices/vfio_user/capabilities.h"
#include "devices/vfio_user/codec.h"

namespace {

using ::holdfast::testing::Require;
using namespace holdfast::vfio_user;  // NOLINT: a program of one function.

void CheckWithin(absl::Span<const uint8_t> inner,
                 absl::Span<const uint8_t> outer) {
  if (inner.empty()) return;
  Require(inner.data() >= outer.data() &&
          inner.data() + inner.size() <= outer.data() + outer.size());
}

void CheckCommand(const Request& request) {
  Require(request.region.count <= kMaxTransfer);
  Require(request.migration.size <= kMaxTransfer);
  Require(request.fd_count <= kMaxMessageFds);
  Require(request.small_writes <= kMaxSmallWrites);
  for (size_t i = 0; i < request.small_writes; ++i) {
    Require(SmallWriteAt(request, i).count <= 8);
  }
  if (request.command == Command::kRegionWrite) {
    Require(request.data.size() == request.region.count);
  }
  if (request.command == Command::kDeviceSetIrqs) {
    const bool booleans =
        (request.irq_set.flags & kIrqDataMask) == kIrqDataBool;
    Require(request.data.size() == (booleans ? request.irq_set.count : 0));
  }
  if (request.has_json) {
    const auto parsed = ParseCapabilities(request.json);
    if (parsed.ok()) {
      Require(ParseCapabilities(EncodeCapabilities(*parsed)).ok());
    }
  }
}

void CheckAnswer(const Request& request) {
  uint8_t out[64];
  const auto size = EncodeError(request, EINVAL, absl::MakeSpan(out));
  Require(size.ok() && *size == sizeof(MessageHeader));
  MessageHeader header;
  std::memcpy(&header, out, sizeof(header));
  Require(header.size == *size && header.id == request.id);
  // Our own answer is one that we could read.
  const Request back = Parse(absl::MakeConstSpan(out, *size), 0);
  Require(back.is_reply && back.error == EINVAL && !back.boundary_lost);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t fds = data[0] % 20;
  const absl::Span<const uint8_t> bytes(data + 1, size - 1);
  const auto whole = MessageSize(bytes);
  Require(whole.ok() == (bytes.size() >= sizeof(MessageHeader)));
  Require(!whole.ok() ||
          (*whole >= sizeof(MessageHeader) && *whole <= kMaxMessageSize));
  const Request request = Parse(bytes, fds);
  CheckAnswer(request);
  if (!request.malformed.ok()) {
    Require(!request.malformed.message().empty());
    Require(ErrorNumber(request.malformed) != 0);
    Require(request.data.empty() && request.json.empty());
    return 0;
  }
  Require(whole.ok() && *whole == bytes.size() && !request.boundary_lost);
  CheckWithin(request.data, bytes);
  if (!request.is_reply) CheckCommand(request);
  if (request.is_reply) Require(request.fd_count == 0);
  if (request.is_reply && request.error == 0 &&
      request.command == Command::kDmaRead) {
    Require(request.dma.count == request.data.size());
  }
  return 0;
}

#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_SENDING_IO_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_SENDING_IO_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/lane_io.h"

namespace holdfast::vfio_user {

// A socket on which this side only sends: so many bytes still find room, and
// what was sent is kept.
class SendingIo : public LaneIo {
 public:
  size_t room = 64 << 20;
  bool closed = false;
  std::vector<uint8_t> stream;

  absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector&,
                              absl::Span<const uint8_t> bytes,
                              absl::Span<const int>) override {
    if (closed) return Result::kClosed;
    const size_t size = std::min(room, bytes.size());
    if (size == 0) return Result::kNothing;
    room -= size;
    stream.insert(stream.end(), bytes.begin(), bytes.begin() + size);
    entry.length = static_cast<uint32_t>(size);
    return Result::kDone;
  }
  absl::Status WaitWritable() override { return absl::OkStatus(); }

  absl::StatusOr<Peeked> Peek(absl::Span<uint8_t>) override { return Peeked(); }
  absl::StatusOr<Peeked> PeekWithFds(absl::Span<uint8_t>,
                                     std::vector<UniqueFd>&) override {
    return Peeked();
  }
  absl::StatusOr<int> PeekOffset() override { return 0; }
  absl::Status SetPeekOffset(size_t) override { return absl::OkStatus(); }
  absl::StatusOr<Taken> Receive(LaneEntry&, LaneVector&,
                                absl::Span<uint8_t>) override {
    return Taken();
  }
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_SENDING_IO_H_

#ifndef HOLDFAST_STATESTORE_LANE_IO_H_
#define HOLDFAST_STATESTORE_LANE_IO_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/lane_format.h"

namespace holdfast {

// The system calls of a lane on its stream: the seam at which tests put a
// model of a socket, or one that misbehaves. lane_sys.h has the real one. One
// thread; nothing blocks except WaitWritable().
class LaneIo {
 public:
  enum class Result {
    kDone,     // Something was moved (or seen).
    kNothing,  // Nothing could be moved now.
    kClosed,   // The peer has closed.
  };
  struct Peeked {
    Result result = Result::kNothing;
    size_t size = 0;
    bool has_fds = false;
  };
  struct Taken {
    Result result = Result::kNothing;
    bool dropped_fds = false;  // The bytes carried descriptors, now closed.
  };

  virtual ~LaneIo() = default;

  // Looks at bytes from the socket's peek offset on without consuming them, and
  // moves that offset behind them. Stops after bytes that carry descriptors;
  // has_fds may also mean descriptors that follow later in the queue.
  virtual absl::StatusOr<Peeked> Peek(absl::Span<uint8_t> into) = 0;

  // The same for whole pieces (what the peer sent in one call) that lie within
  // `into`, and appends fresh copies of their descriptors, and of no others, to
  // `fds`. kDone and size 0: the next piece goes on beyond `into`.
  virtual absl::StatusOr<Peeked> PeekWithFds(absl::Span<uint8_t> into,
                                             std::vector<UniqueFd>& fds) = 0;

  // The socket's peek offset; negative when it has none. Consuming n bytes
  // takes it back by n, at most to 0.
  virtual absl::StatusOr<int> PeekOffset() = 0;
  virtual absl::Status SetPeekOffset(size_t offset) = 0;

  // Consumes at most into.size() bytes and drops their descriptors. How many is
  // written to entry.length *by the kernel*, before this process can die.
  // `entry` and `vector` lie in the journal and are laid out here.
  virtual absl::StatusOr<Taken> Receive(LaneEntry& entry, LaneVector& vector,
                                        absl::Span<uint8_t> into) = 0;

  // Sends at most bytes.size() bytes, the first of them with copies of `fds`;
  // entry.length as above.
  virtual absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector& vector,
                                      absl::Span<const uint8_t> bytes,
                                      absl::Span<const int> fds) = 0;

  // Waits until Send() has a chance again or the peer has closed.
  virtual absl::Status WaitWritable() = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_IO_H_

#ifndef HOLDFAST_STATESTORE_LANE_HANDLER_H_
#define HOLDFAST_STATESTORE_LANE_HANDLER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace holdfast {

// Descriptors with one message. More are the peer's error.
inline constexpr size_t kLaneMaxFds = 253;

// A protocol, as the lane sees it. The bank is all that it may remember from
// one message to the next; it begins as zeros.
class LaneHandler {
 public:
  struct Outcome {
    size_t reply_size = 0;  // 0: no reply.
    bool reply_has_fds = false;
    // Nothing was done and nothing is to be committed: the message stays where
    // it is, and with it all that follow, and is executed at the next Run.
    bool later = false;
  };

  virtual ~LaneHandler() = default;

  // Constant, not 0, at most LaneSizes::max_message.
  virtual size_t header_size() const = 0;

  // Pure. How many bytes the message that starts with these header_size() bytes
  // has in all, or an error: the peer broke the protocol.
  virtual absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const = 0;

  // Called for every message that carries descriptors, before it is consumed:
  // keep them outside this process (the store acknowledges). May be called
  // again for the same message after a crash, with fresh copies. What is not
  // moved out of `fds` is closed.
  virtual absl::Status Escrow(absl::Span<const uint8_t> message,
                              absl::Span<UniqueFd> fds) = 0;

  // Computes the new bank (given as a copy of the old one) and the reply. May
  // run again after a crash, so it must be a function of the old bank and the
  // message, plus idempotent effects. An error: the peer broke the protocol and
  // the connection is given up. `fd_count` descriptors are in escrow for this
  // message. `attempts` executions of it have begun, this one included: more
  // than 2 means that it kills whoever executes it.
  virtual absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                          size_t fd_count,
                                          absl::Span<const uint8_t> old_bank,
                                          absl::Span<uint8_t> new_bank,
                                          absl::Span<uint8_t> reply,
                                          uint32_t attempts) = 0;

  // Brings the world in line with the committed bank. Called after commit and
  // before the reply is sent, and again by a successor that finds the reply
  // unfinished: must be idempotent.
  virtual void Committed(absl::Span<const uint8_t> bank) = 0;

  // Descriptors to send with the first byte of the reply, borrowed until the
  // next call. Asked when Outcome::reply_has_fds, perhaps more than once and by
  // a successor; at least one, at most kLaneMaxFds.
  virtual absl::Span<const int> ReplyFds(absl::Span<const uint8_t> bank) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_HANDLER_H_

#ifndef HOLDFAST_STATESTORE_LANE_SYS_H_
#define HOLDFAST_STATESTORE_LANE_SYS_H_

#include <vector>

#include "base/unique_fd.h"
#include "statestore/lane_io.h"

namespace holdfast {

// A connected AF_UNIX SOCK_STREAM socket. Makes these system calls and no
// others: recvmmsg, sendmmsg, ppoll, getsockopt and setsockopt (SOL_SOCKET,
// SO_PEEK_OFF). Interrupted calls are repeated.
class LaneSocket final : public LaneIo {
 public:
  // `socket` must stay open for the life of this object.
  explicit LaneSocket(BorrowedFd socket) : socket_(socket) {}

  absl::StatusOr<Peeked> Peek(absl::Span<uint8_t> into) override;
  absl::StatusOr<Peeked> PeekWithFds(absl::Span<uint8_t> into,
                                     std::vector<UniqueFd>& fds) override;
  absl::StatusOr<int> PeekOffset() override;
  absl::Status SetPeekOffset(size_t offset) override;
  absl::StatusOr<Taken> Receive(LaneEntry& entry, LaneVector& vector,
                                absl::Span<uint8_t> into) override;
  absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector& vector,
                              absl::Span<const uint8_t> bytes,
                              absl::Span<const int> fds) override;
  absl::Status WaitWritable() override;

 private:
  BorrowedFd socket_;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_SYS_H_

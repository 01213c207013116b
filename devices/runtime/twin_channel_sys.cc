#include "devices/runtime/twin_channel_sys.h"

#include <sys/socket.h>

#include <utility>

#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace holdfast {

absl::Status TwinChannel::Open(absl::Span<uint8_t> memory) {
  spares_.reserve(kSpares);
  while (spares_.size() < kSpares) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
      return ErrnoStatus("socketpair");
    }
    spares_.push_back({UniqueFd(fds[0]), UniqueFd(fds[1])});
  }
  memory_ = memory;
  return absl::OkStatus();
}

void TwinChannel::Resume(uint64_t epoch) {
  epoch_ = epoch;
  lane_.reset();
}

absl::Status TwinChannel::UseLane() {
  if (lane_.has_value()) return absl::OkStatus();
  if (memory_.empty()) {
    return absl::FailedPreconditionError("no memory for a second socket");
  }
  ASSIGN_OR_RETURN(
      lane_, Lane::Attach(memory_, vfio_user::AnswerReader::Sizes(), epoch_));
  return absl::OkStatus();
}

// The lane forgets what it knows of another socket: a predecessor's that died
// before the VMM had it, or of the connection before.
std::optional<TwinChannel::Pair> TwinChannel::Begin() {
  if (spares_.empty() || memory_.empty()) return std::nullopt;
  absl::Status ready = UseLane();
  if (ready.ok()) ready = lane_->ResetConnection();
  if (!ready.ok()) {
    LogWarning("no second socket: ", ready.message());
    return std::nullopt;
  }
  Pair pair = std::move(spares_.back());
  spares_.pop_back();
  return pair;
}

absl::StatusOr<Lane::Progress> TwinChannel::Serve(BorrowedFd socket,
                                                  LaneHandler& handler) {
  RETURN_IF_ERROR(UseLane());
  return lane_->Run(socket, handler);
}

}  // namespace holdfast

#ifndef HOLDFAST_DEVICES_RUNTIME_TWIN_CHANNEL_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_TWIN_CHANNEL_SYS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/vfio_user/answers.h"
#include "statestore/lane.h"

namespace holdfast {

// The second socket of a vfio-user connection: by it the device asks the VMM
// for memory, and the two never wait for each other's streams. Sockets are made
// before the sandbox is tightened and used up by connections: a process that
// has none left serves the VMMs that still come on their one socket.
//
// Control thread only.
class TwinChannel {
 public:
  // Of one process. A standby brings new ones.
  static constexpr size_t kSpares = 4;
  // Bytes of its lane's section.
  static constexpr size_t kMemorySize =
      LaneSize(vfio_user::AnswerReader::Sizes());

  // `memory`, aligned to 64 bytes, is locked and outlives this object. Before
  // the sandbox is tightened.
  absl::Status Open(absl::Span<uint8_t> memory);

  // From now on this process owns the lane, under `epoch`.
  void Resume(uint64_t epoch);

  struct Pair {
    UniqueFd ours;
    UniqueFd client;
  };
  // Another pair, for a new connection; null: there is none, or no memory.
  std::optional<Pair> Begin();

  // Takes what has come by `socket`. As Lane::Run with Lane::Waiting::kAny.
  absl::StatusOr<Lane::Progress> Serve(BorrowedFd socket, LaneHandler& handler);

 private:
  absl::Status UseLane();

  absl::Span<uint8_t> memory_;
  uint64_t epoch_ = 0;
  std::optional<Lane> lane_;  // Since it was needed.
  std::vector<Pair> spares_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_TWIN_CHANNEL_SYS_H_

#ifndef HOLDFAST_DEVICES_VFIO_USER_MIGRATION_H_
#define HOLDFAST_DEVICES_VFIO_USER_MIGRATION_H_

#include <cstdint>

#include "absl/types/optional.h"

namespace holdfast::vfio_user {

// "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE": the numbers are those of the wire.
enum class MigrationState : uint8_t {
  kError = 0,
  kStop = 1,
  kRunning = 2,
  kStopCopy = 3,
  kResuming = 4,
  kRunningP2p = 5,  // Not used in vfio-user.
  kPreCopy = 6,
  kPreCopyP2p = 7,  // Likewise.
};

// "Direct State Transitions" and "Complex State Transitions": the next state on
// the way from one to another, which is one arc away; the way is the shortest
// without a saving state inside. None: no way. From a state to itself: itself.
constexpr absl::optional<MigrationState> NextOnTheWay(MigrationState from,
                                                      MigrationState to) {
  using State = MigrationState;
  const bool known = to == State::kStop || to == State::kRunning ||
                     to == State::kStopCopy || to == State::kResuming ||
                     to == State::kPreCopy;
  if (!known) return absl::nullopt;
  if (from == to) return to;
  switch (from) {
    case State::kStop:
      return to == State::kPreCopy ? State::kRunning : to;
    case State::kRunning:
      return to == State::kPreCopy ? to : State::kStop;
    case State::kStopCopy:
      if (to == State::kPreCopy) return absl::nullopt;
      return State::kStop;
    case State::kResuming:
      return State::kStop;
    case State::kPreCopy:
      return to == State::kStopCopy ? to : State::kRunning;
    default:
      return absl::nullopt;
  }
}

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_MIGRATION_H_

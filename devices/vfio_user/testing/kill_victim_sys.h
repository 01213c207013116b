#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_KILL_VICTIM_SYS_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_KILL_VICTIM_SYS_H_

// The server that kill_sys.h kills: a torture device behind a lane, in a forked
// process that dies at a random instant or at a numbered point.

#include <cstddef>
#include <cstdint>
#include <map>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/vfio_user/server.h"
#include "devices/vfio_user/session.h"
#include "devices/vfio_user/session_state.h"
#include "devices/vfio_user/testing/torture_device.h"
#include "statestore/lane.h"
#include "statestore/store/protocol.h"

namespace holdfast::vfio_user {

inline constexpr uint32_t kVictimTransfer = 8192;
inline constexpr LaneSizes kVictimSizes = Server::Sizes(kVictimTransfer);

// All that outlives a server, one after the other in one sealed file.
struct Shared {
  SessionMemory session;
  TortureDevice::Memory device;
  uint32_t serving;
  char error[200];
};
inline constexpr size_t kSharedSize = (sizeof(Shared) + 4095) / 4096 * 4096;

using Slots = std::map<store::Slot, UniqueFd>;

// What every server here offers.
Serving VictimServing();

// Everything is lent. `points`: die at that one of the numbered points; 0: at
// none. `epoch`: of the lane, larger than that of the server before.
struct VictimSetup {
  absl::Span<uint8_t> lane;
  Shared* shared;
  BorrowedFd stream{-1};
  BorrowedFd store{-1};
  BorrowedFd window{-1};
  Slots* slots;
  uint64_t epoch;
  uint64_t points;
  TortureDevice::Fault fault;
};

// Serves until it is killed, or says in Shared::error why it gave up.
[[noreturn]] void RunVictim(const VictimSetup& setup);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_KILL_VICTIM_SYS_H_

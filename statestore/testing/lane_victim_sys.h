#ifndef HOLDFAST_STATESTORE_TESTING_LANE_VICTIM_SYS_H_
#define HOLDFAST_STATESTORE_TESTING_LANE_VICTIM_SYS_H_

// The process that is killed: a server of the toy protocol over a lane.

#include <atomic>
#include <cstdint>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/lane.h"

namespace holdfast::testing {

// Deliberate mistakes, each of which breaks one rule of the lane. A test that
// does not notice them proves nothing.
enum class LaneFault {
  kNone,
  // The count of received bytes is stored by user code after the call. Once
  // with the witness, which makes up for it, and once without.
  kUserStoresReceived,
  kUserStoresReceivedNoWitness,
  kUserStoresSent,
  kCommitBeforeBank,
  kEscrowAfterConsumption,
  // How many bytes are executed is written after the commit and not with it.
  kPositionAfterCommit,
  // A successor looks from the head of the queue on.
  kOffsetNotRestored,
  // A successor believes that no byte of a reply was sent, or that all were.
  kAlwaysResends,
  kNeverResends,
};

// Memory shared by the killer and all its victims, apart from the section.
struct LaneVictimPage {
  std::atomic<uint32_t> serving{0};  // Set by the victim once it is attached.
  std::atomic<uint32_t> finish{0};   // Asks it to exit when it is idle.
  char error[200] = {};              // Why it gave up.
};

struct LaneVictimSetup {
  absl::Span<uint8_t> section;  // Mapped, shared; locked by the victim.
  LaneSizes sizes;
  BorrowedFd stream{-1};
  BorrowedFd store{-1};
  BorrowedFd gift{-1};
  BorrowedFd wake{-1};  // An eventfd that makes it look at `finish`.
  LaneVictimPage* page = nullptr;
  LaneFault fault = LaneFault::kNone;
  Lane::Waiting waiting = Lane::Waiting::kAny;
  uint64_t epoch = 0;
  // Kills itself at this many-th numbered point; 0: never. There is a point
  // before and after every system call and every call of the handler.
  uint64_t kill_at_point = 0;
  // Instruction by instruction, from the given point on; 0: from before it
  // attaches. Never waits for input then but asks again.
  enum class Stepping { kNone, kTraced, kTrapped };
  Stepping stepping = Stepping::kNone;  // kTraced: stops once, for a tracer.
  uint64_t step_from_point = 0;
  uint64_t trap_after = 0;  // kTrapped: kills itself after so many.
};

// Whether this processor can trap its own process after every instruction;
// much faster than a tracer.
bool CanTrapInstructions();

// To be called in a forked child. Exits with 0 when asked to finish, with 3 and
// `error` filled in when the lane reports an error.
[[noreturn]] void RunLaneVictim(const LaneVictimSetup& setup);

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_LANE_VICTIM_SYS_H_

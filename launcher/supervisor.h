#ifndef HOLDFAST_LAUNCHER_SUPERVISOR_H_
#define HOLDFAST_LAUNCHER_SUPERVISOR_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/restart_policy.h"

namespace holdfast::launcher {

// Life of one instance, as a pure function of what happened. The store promotes
// by itself, without the launcher; the supervisor keeps a spare child ready for
// it, decides when lost children are replaced, and ends the instance in order.
//
//            SpecAccepted
//   Stopped -------------> Starting --Promoted--> Running <--Promoted--+
//                             |                    |   |               |
//                        child lost           active lost          Recovering
//                             |                    |   +-- spare or ---^  ^
//                             v                    v       no delay       |
//                        BackingOff <----- delay --+------ timer ---------+
//                             |
//                       budget empty --> Quarantined --RestartRequested--> ^
//
//   any --StopRequested--> Stopping --last child lost--> Stopped
//
// `active` is the child that the store has promoted, `spare` the one that it
// has not: the standby, or the first child before its promotion. There is never
// more than one of each.
enum class State : uint8_t {
  kStopped,      // Nothing exists; the first and the last state.
  kStarting,     // No child has been promoted yet.
  kRunning,      // An active child serves; a spare may be starting or ready.
  kRecovering,   // The active child was lost; a spare is on its way.
  kBackingOff,   // No child; the next one waits for a timer.
  kQuarantined,  // No child, and the crash budget is empty. The connection
                 // stays, the guest waits, an operator can go on.
  kStopping,     // Children have been asked to end.
};
inline constexpr int kStateCount = 7;

// Named by the supervisor: 1, 2, ... within the instance, never reused.
using ChildNumber = uint32_t;

enum class Timer : uint8_t { kBackOff, kStart, kStop, kRefill };
inline constexpr int kTimerCount = 4;

// ---- What happened ----

// A validated spec, its resources opened, its instance known to the store.
struct SpecAccepted {};
// The launcher was started again and has found the instance in the store.
struct Adopted {
  ChildNumber active = 0;
  ChildNumber spare = 0;
  bool spare_ready = false;
  ChildNumber next_child = 1;
  // Those that ended while no launcher ran, though nobody had asked them to.
  std::vector<ChildNumber> lost = {};
  // The crash budget was empty.
  bool denied = false;
  // Of active and spare, those that the store has done with. It may not have
  // been able to kill them, and who was told so is dead.
  std::vector<ChildNumber> dying = {};
};
// The store says that the child is parked and complete.
struct ChildReady {
  ChildNumber child = 0;
};
struct Promoted {
  ChildNumber child = 0;
};
// The child is dead, by the store's fence or by its pidfd: the first counts.
struct ChildLost {
  ChildNumber child = 0;
};
// The child could not be made.
struct StartFailed {
  ChildNumber child = 0;
  std::string reason;
};
struct StopRequested {};
struct RestartRequested {};
struct TimerFired {
  Timer timer{};
};
struct StoreLost {};
// A new store runs and knows nothing.
struct StoreBack {};
struct VmmConnected {};
struct VmmGone {};
// A resource, or the store, cannot take the instance (again).
struct ResourceFailure {
  std::string reason;
};

using Event =
    std::variant<SpecAccepted, Adopted, ChildReady, Promoted, ChildLost,
                 StartFailed, StopRequested, RestartRequested, TimerFired,
                 StoreLost, StoreBack, VmmConnected, VmmGone, ResourceFailure>;

// ---- What to do about it; performed elsewhere, in this order ----

struct SpawnChild {
  ChildNumber child = 0;
};
// Asks the child over its control channel to finish and exit.
struct StopChild {
  ChildNumber child = 0;
};
struct KillChild {
  ChildNumber child = 0;
};
// Demotes the dying process, so that its tear-down does not steal the core.
struct DemoteChild {
  ChildNumber child = 0;
};
struct HoldPromotion {
  bool hold = false;
};
// Arms the instance's timer of this kind, in place of an earlier one.
struct ArmTimer {
  Timer timer{};
  absl::Duration delay;
};
struct EmitEvent {
  std::string type;  // A word, as in `holdfast events`.
  ChildNumber child = 0;
  std::string detail;
};
// Gives everything to the new store: instance, resources, children; with
// promotion held before the first child is added.
struct Redeposit {
  bool hold = false;
};
// Fetches a duplicate of the VMM's socket from the store, or closes it.
struct KeepConnection {};
struct DropConnection {};
// Removes the instance from the store, its socket file and its record.
struct CloseInstance {};

using Action = std::variant<SpawnChild, StopChild, KillChild, DemoteChild,
                            HoldPromotion, ArmTimer, EmitEvent, Redeposit,
                            KeepConnection, DropConnection, CloseInstance>;
using Actions = std::vector<Action>;

// Deadlines of the supervisor; each ends in KillChild.
struct SupervisorOptions {
  RestartLimits restart;
  bool want_standby = true;
  // A child that is not ready this long after its start is killed.
  absl::Duration start_deadline = absl::Seconds(10);
  // A child that was asked to end and lives this long is killed.
  absl::Duration stop_deadline = absl::Seconds(3);
  uint64_t seed = 0;  // Of the back-off's jitter.
};

// What stands between the instance and its next spare.
enum class Replacement : uint8_t {
  kNone,     // Nothing is missing.
  kDue,      // Start it as soon as there is room and a store.
  kDelayed,  // Timer::kBackOff is armed.
  kDenied,   // The budget is empty.
};

struct Supervision {
  explicit Supervision(SupervisorOptions options = {});

  SupervisorOptions options;
  RestartPolicy policy;
  State state = State::kStopped;
  ChildNumber active = 0;  // 0: none.
  ChildNumber spare = 0;   // 0: none.
  bool spare_ready = false;
  ChildNumber next_child = 1;
  // This active child was asked to make room: its death is no crash.
  ChildNumber retiring = 0;
  Replacement replacement = Replacement::kNone;
  bool served = false;  // A child was promoted at least once.
  bool store_up = true;
  bool vmm_connected = false;
};

struct StepResult {
  Supervision next;
  Actions actions;
};

// Decides every (state, event) pair; launcher/golden/supervisor_table.txt is
// the whole table. Total: events that make no sense in a state, or speak of an
// unknown child, change nothing. Pure and thread-safe.
StepResult Step(Supervision state, const Event& event, Uptime now);

// Upper-case names as printed by `holdfast status`.
absl::string_view StateName(State state);
absl::string_view TimerName(Timer timer);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_SUPERVISOR_H_

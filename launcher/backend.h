#ifndef HOLDFAST_LAUNCHER_BACKEND_H_
#define HOLDFAST_LAUNCHER_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/restart_policy.h"

namespace holdfast::launcher::backend {

// The lives of a wrapped program, as a pure function of what happened. A life
// is one process of it with one connection. The keeper goes on with the next
// one when the life before has ended for certain: every thread of it, so that
// none of its writes comes after those of the next one.
//
//   idle --Start--> living <--life ended; a spare, or no delay--+
//                     |  \---- delay: waiting --timer-----------+
//                     |        budget empty: denied --Restart---+
//   any --Stop--> stopping --last life ended--> idle
//
// By another program, while it lives and has a spare: the spare makes room for
// the candidate; when the keeper says that this will do, the one before is
// ended, and the candidate takes over. One that will not do ends, and nothing
// else does. A restart is the same by its own program, where that can be.
//
// `current` is the life that the keeper works with; `spare` one that was
// started ahead. The keeper has its connection too, and tells it all that can
// be told before it is current. `leaving` is one that was killed to make
// room: there are never three. Was it a spare, no other one becomes current
// while it lives, for the keeper goes on with a spare as soon as the current
// one can do no more (store::kBackendNext), perhaps before it hears of this.

using LifeNumber = uint32_t;  // 1, 2, ... within the instance.

enum class State : uint8_t { kIdle, kLiving, kWaiting, kDenied, kStopping };
inline constexpr int kStateCount = 5;

enum class Timer : uint8_t { kBackOff, kStop, kCandidate };
inline constexpr size_t kTimerCount = 3;

// ---- What happened ----

struct Start {};
// The launcher was started again and has found these lives; 0: none.
struct Adopted {
  LifeNumber current = 0;
  LifeNumber spare = 0;
  LifeNumber next = 1;
  // `current` is of a program that was to be replaced: see CommitReplacement.
  bool outdated = false;
  // The budget was empty.
  bool denied = false;
};
// Nothing of it runs any more.
struct LifeEnded {
  LifeNumber life = 0;
};
// It could not be started.
struct StartFailed {
  LifeNumber life = 0;
  std::string reason;
};
// It is of no use to anybody: it has closed its connection, or the keeper has
// given it up.
struct BecameUseless {
  LifeNumber life = 0;
  std::string why;
};
// It is not needed any more, through no fault of its own: the VMM that it knows
// has gone. That is no loss, but it is not done at any rate either.
struct Finished {
  LifeNumber life = 0;
};
struct TimerFired {
  Timer timer{};
};
struct RestartRequested {};
// By another program. See CanReplace.
struct ReplaceRequested {};
// The keeper has told it everything but the rings.
struct BecameReady {
  LifeNumber life = 0;
};
struct StopRequested {};

using Event =
    std::variant<Start, Adopted, LifeEnded, StartFailed, BecameUseless,
                 Finished, TimerFired, RestartRequested, ReplaceRequested,
                 BecameReady, StopRequested>;

// ---- What to do about it, in this order ----

struct SpawnLife {
  LifeNumber life = 0;  // The candidate: of the other program.
};
// The keeper is to go on with it.
struct HandOver {
  LifeNumber life = 0;
};
// From now on the other program is the program: the candidate, and every later
// life.
struct CommitReplacement {
  LifeNumber candidate = 0;
};
// The other program serves; or, with a reason, it is not the program after all.
struct EndReplacement {
  std::string why_not;
};
// SIGTERM, or SIGKILL.
struct EndLife {
  LifeNumber life = 0;
  bool kill = false;
};
struct ArmTimer {
  Timer timer{};
  absl::Duration delay;
};
struct Report {
  std::string type;
  LifeNumber life = 0;
  std::string detail;
};

using Action = std::variant<SpawnLife, HandOver, CommitReplacement,
                            EndReplacement, EndLife, ArmTimer, Report>;
using Actions = std::vector<Action>;

struct Options {
  RestartLimits restart;
  bool want_spare = false;
  // One that cannot be started is tried again after this at the earliest.
  absl::Duration start_retry = absl::Milliseconds(100);
  // A life that was asked to end and goes on so long is killed.
  absl::Duration stop_deadline = absl::Seconds(3);
  // A candidate that has not come so far by then is none.
  absl::Duration candidate_deadline = absl::Seconds(15);
  uint64_t seed = 0;  // Of the back-off's jitter.
};

struct Supervision {
  explicit Supervision(Options options = {});

  Options options;
  RestartPolicy policy;
  RestartPolicy turnover;  // Of those that have finished: no budget.
  State state = State::kIdle;
  LifeNumber current = 0;        // 0: none.
  LifeNumber spare = 0;          // 0: none.
  LifeNumber leaving = 0;        // 0: none.
  bool leaving_follows = false;  // It was no candidate.
  LifeNumber next = 1;
  std::vector<LifeNumber> finished;  // Of those that still run.
  bool due = false;  // The next one begins when the leaving one has ended.
  bool replacing = false;
  LifeNumber candidate = 0;      // While replacing: 0, or the spare.
  bool candidate_ready = false;  // It takes over from one that is ending.
};

// Why its program cannot be replaced now. kUnavailable: it is being replaced.
absl::Status CanReplace(const Supervision& state);

struct StepResult {
  Supervision next;
  Actions actions;
};

// Total: what makes no sense in a state, or speaks of an unknown life, changes
// nothing. Pure and thread-safe.
StepResult Step(Supervision state, const Event& event, Uptime now);

absl::string_view StateName(State state);

}  // namespace holdfast::launcher::backend

#endif  // HOLDFAST_LAUNCHER_BACKEND_H_

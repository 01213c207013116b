#include "launcher/supervisor.h"

#include <algorithm>
#include <utility>

namespace holdfast::launcher {
namespace {

// A start that fails (no program, no descriptors) does so at once: repeated at
// once, without a budget, it would keep the launcher from everything else.
constexpr absl::Duration kPauseAfterFailedStart = absl::Milliseconds(10);

// One call of Step(): the state being changed and the actions so far.
class Stepper {
 public:
  Stepper(Supervision state, Uptime now) : s_(std::move(state)), now_(now) {}

  StepResult Take() && { return {std::move(s_), std::move(actions_)}; }

  void operator()(const SpecAccepted&) {
    if (s_.state != State::kStopped) return;
    Enter(State::kStarting);
    s_.replacement = Replacement::kDue;
    Settle();
  }

  void operator()(const Adopted& event) {
    if (s_.state != State::kStopped) return;
    s_.active = event.active;
    s_.spare = event.spare;
    s_.spare_ready = event.spare != 0 && event.spare_ready;
    s_.next_child = event.next_child;
    s_.served = event.active != 0;
    if (s_.active != 0) s_.policy.OnServing(now_);
    const bool spare_dies =
        std::count(event.dying.begin(), event.dying.end(), event.spare) != 0;
    if (s_.spare != 0 && !s_.spare_ready && !spare_dies) Arm(Timer::kStart);
    if (NeedsSpare()) {
      s_.replacement = event.denied ? Replacement::kDenied : Replacement::kDue;
    }
    Enter(State::kStarting);
    Emit("adopted", s_.active);
    for (ChildNumber child : event.lost) {
      Emit("lost", child, "while no core ran");
      if (NeedsSpare()) Replace(absl::ZeroDuration());
    }
    for (ChildNumber child : event.dying) Do(KillChild{child});
    // An earlier launcher may have died in the middle of a stop.
    Do(HoldPromotion{false});
    Settle();
  }

  void operator()(const ChildReady& event) {
    if (!Supervised() || event.child != s_.spare || event.child == 0) return;
    if (s_.spare_ready) return;
    s_.spare_ready = true;
    Emit("ready", event.child);
  }

  void operator()(const Promoted& event) {
    if (event.child == 0 || event.child != s_.spare) return;
    // The store promotes only behind the fence: an active child that is still
    // known here is dead, and the news of it went down with the old store.
    if (s_.active != 0) {
      Emit("lost", s_.active, "active");
      Forget(s_.active);
    }
    s_.active = std::exchange(s_.spare, 0);
    s_.spare_ready = false;
    s_.retiring = 0;
    s_.served = true;
    s_.policy.OnServing(now_);
    Emit("promoted", s_.active);
    if (!Supervised()) return;
    if (s_.replacement == Replacement::kNone) {
      s_.replacement = Replacement::kDue;
    }
    Settle();
  }

  void operator()(const ChildLost& event) {
    if (event.child == 0) return;
    if (event.child != s_.active && event.child != s_.spare) return;
    Do(DemoteChild{event.child});
    const bool planned =
        event.child == s_.retiring || s_.state == State::kStopping;
    Emit(planned ? "ended" : "lost", event.child,
         event.child == s_.active ? "active" : "standby");
    Forget(event.child);
    AfterLoss(planned);
  }

  void operator()(const StartFailed& event) {
    if (event.child == 0 || event.child != s_.spare) return;
    Emit("start-failed", event.child, event.reason);
    Forget(event.child);
    if (Supervised()) Replace(kPauseAfterFailedStart);
    Settle();
  }

  void operator()(const StopRequested&) {
    if (s_.state == State::kStopped || s_.state == State::kStopping) return;
    Enter(State::kStopping);
    s_.replacement = Replacement::kNone;
    Do(HoldPromotion{true});
    for (ChildNumber child : {s_.spare, s_.active}) {
      if (child != 0) Do(StopChild{child});
    }
    if (HasChild()) Arm(Timer::kStop);
    Settle();
  }

  void operator()(const RestartRequested&) {
    switch (s_.state) {
      case State::kQuarantined:
      case State::kBackingOff:
        s_.policy.Reset();
        s_.replacement = Replacement::kDue;
        Emit("restart", 0);
        Do(HoldPromotion{false});
        return Settle();
      case State::kRunning:
        s_.policy.Reset();
        s_.retiring = s_.active;
        Emit("restart", s_.active);
        Do(StopChild{s_.active});
        Arm(Timer::kStop);
        if (s_.spare == 0) s_.replacement = Replacement::kDue;
        return Settle();
      case State::kStarting:
      case State::kRecovering:
      case State::kStopping:
      case State::kStopped:
        return;
    }
  }

  void operator()(const TimerFired& event) {
    switch (event.timer) {
      case Timer::kBackOff:
        if (s_.replacement != Replacement::kDelayed) return;
        s_.replacement = Replacement::kDue;
        return Settle();
      case Timer::kRefill:
        return OnRefill();
      case Timer::kStart:
        if (s_.spare == 0 || s_.spare_ready || !s_.store_up) return;
        Emit("start-timeout", s_.spare);
        return Do(KillChild{s_.spare});
      case Timer::kStop:
        return OnStopDeadline();
    }
  }

  void operator()(const StoreLost&) {
    s_.store_up = false;
    // Whoever was ready has to say so again to the new store.
    s_.spare_ready = false;
  }

  void operator()(const StoreBack&) {
    if (s_.store_up) return;
    s_.store_up = true;
    if (s_.state == State::kStopped) return;
    Do(Redeposit{s_.state == State::kStopping ||
                 s_.state == State::kQuarantined});
    if (s_.spare != 0) Arm(Timer::kStart);
    Settle();
  }

  void operator()(const VmmConnected&) {
    if (s_.state == State::kStopped || s_.vmm_connected) return;
    s_.vmm_connected = true;
    Emit("vmm-connected", s_.active);
    Do(KeepConnection{});
  }

  void operator()(const VmmGone&) {
    if (s_.state == State::kStopped || !s_.vmm_connected) return;
    s_.vmm_connected = false;
    Emit("vmm-gone", s_.active);
    Do(DropConnection{});
  }

  void operator()(const ResourceFailure& event) {
    if (!Supervised()) return;
    Emit("resource-failure", 0, event.reason);
    // Without an active child nothing is lost by trying again from the start,
    // as often as the budget allows.
    if (s_.active == 0 && s_.spare != 0) Do(KillChild{s_.spare});
  }

 private:
  bool HasChild() const { return s_.active != 0 || s_.spare != 0; }
  // Whether lost children are replaced in this state.
  bool Supervised() const {
    return s_.state != State::kStopped && s_.state != State::kStopping;
  }
  bool NeedsSpare() const {
    return s_.spare == 0 && (s_.active == 0 || s_.options.want_standby);
  }

  void Do(Action action) { actions_.push_back(std::move(action)); }
  void Emit(const char* type, ChildNumber child, std::string detail = "") {
    Do(EmitEvent{type, child, std::move(detail)});
  }
  void Arm(Timer timer) {
    Do(ArmTimer{timer, timer == Timer::kStart ? s_.options.start_deadline
                                              : s_.options.stop_deadline});
  }
  void Enter(State state) { s_.state = state; }

  void Forget(ChildNumber child) {
    if (child == s_.active) {
      s_.active = 0;
      s_.retiring = 0;
      s_.policy.OnNotServing(now_);
    } else {
      s_.spare = 0;
      s_.spare_ready = false;
    }
  }

  // A child is gone: decides when its replacement starts.
  void AfterLoss(bool planned) {
    if (!Supervised()) return Settle();
    if (planned) {
      s_.replacement = Replacement::kDue;
      return Settle();
    }
    Replace(absl::ZeroDuration());
    Settle();
  }

  // Not before `pause` is over.
  void Replace(absl::Duration pause) {
    RestartPolicy::Decision decision = s_.policy.OnLoss(now_);
    decision.delay = std::max(decision.delay, pause);
    if (!decision.allowed) {
      s_.replacement = Replacement::kDenied;
    } else if (decision.delay > absl::ZeroDuration()) {
      s_.replacement = Replacement::kDelayed;
      Do(ArmTimer{Timer::kBackOff, decision.delay});
    } else {
      s_.replacement = Replacement::kDue;
    }
  }

  void OnRefill() {
    if (s_.replacement != Replacement::kDenied || s_.active == 0) return;
    if (s_.policy.TryTakeToken(now_)) s_.replacement = Replacement::kDue;
    Settle();
  }

  void OnStopDeadline() {
    if (s_.state == State::kStopping) {
      for (ChildNumber child : {s_.spare, s_.active}) {
        if (child != 0) Do(KillChild{child});
      }
      if (HasChild()) Arm(Timer::kStop);
    } else if (s_.retiring != 0) {
      Do(KillChild{s_.retiring});
    }
  }

  // Brings `state` in line with the children, and starts what is due.
  void Settle() {
    if (s_.state == State::kStopping) {
      if (HasChild()) return;
      Do(CloseInstance{});
      return Enter(State::kStopped);
    }
    if (!NeedsSpare()) {
      if (s_.replacement == Replacement::kDue) {
        s_.replacement = Replacement::kNone;
      }
    } else if (s_.replacement == Replacement::kDue && s_.store_up) {
      Spawn();
    }
    SettleState();
  }

  void Spawn() {
    s_.replacement = Replacement::kNone;
    s_.spare = s_.next_child++;
    s_.spare_ready = false;
    Do(SpawnChild{s_.spare});
    Arm(Timer::kStart);
  }

  void SettleState() {
    const State before = s_.state;
    if (s_.active != 0) {
      Enter(State::kRunning);
      if (s_.replacement == Replacement::kDenied && NeedsSpare()) {
        Do(ArmTimer{Timer::kRefill, s_.options.restart.refill_every});
      }
    } else if (s_.spare != 0 || s_.replacement == Replacement::kDue) {
      Enter(s_.served ? State::kRecovering : State::kStarting);
    } else if (s_.replacement == Replacement::kDelayed) {
      Enter(State::kBackingOff);
      if (before != State::kBackingOff) Emit("backing-off", 0);
    } else {
      Enter(State::kQuarantined);
      if (before == State::kQuarantined) return;
      Do(HoldPromotion{true});
      Emit("quarantined", 0);
    }
  }

  Supervision s_;
  const Uptime now_;
  Actions actions_;
};

}  // namespace

Supervision::Supervision(SupervisorOptions options_in)
    : options(options_in), policy(options_in.restart, options_in.seed) {}

StepResult Step(Supervision state, const Event& event, Uptime now) {
  Stepper stepper(std::move(state), now);
  std::visit(stepper, event);
  return std::move(stepper).Take();
}

absl::string_view StateName(State state) {
  static constexpr absl::string_view kNames[kStateCount] = {
      "STOPPED",     "STARTING",    "RUNNING", "RECOVERING",
      "BACKING_OFF", "QUARANTINED", "STOPPING"};
  const auto index = static_cast<size_t>(state);
  return index < kStateCount ? kNames[index] : "UNKNOWN";
}

absl::string_view TimerName(Timer timer) {
  static constexpr absl::string_view kNames[kTimerCount] = {"back-off", "start",
                                                            "stop", "refill"};
  const auto index = static_cast<size_t>(timer);
  return index < kTimerCount ? kNames[index] : "unknown";
}

}  // namespace holdfast::launcher

#include "launcher/backend.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace holdfast::launcher::backend {
namespace {

class Stepper {
 public:
  Stepper(Supervision state, Uptime now) : s_(std::move(state)), now_(now) {}

  StepResult Done() && { return {std::move(s_), std::move(actions_)}; }

  void On(const Start&) {
    if (s_.state == State::kIdle) BeginLife();
  }

  void On(const Adopted& found) {
    if (s_.state != State::kIdle) return;
    s_.current = found.current;
    s_.spare = found.spare;
    s_.next = found.next;
    if (s_.current == 0 && found.denied && s_.spare == 0) {
      s_.state = State::kDenied;
      return;
    }
    if (s_.current == 0) {
      return Replace(s_.policy.OnLoss(now_), absl::ZeroDuration());
    }
    s_.state = State::kLiving;
    s_.policy.OnServing(now_);
    if (!found.outdated) return KeepSpare();
    // The last launcher has died when it had committed to this.
    if (s_.spare != 0) {
      s_.replacing = s_.candidate_ready = true;
      s_.candidate = s_.spare;
    }
    Do(EndLife{s_.current, /*kill=*/true});
  }

  void On(const LifeEnded& event) { Lose(event.life, absl::ZeroDuration()); }
  void On(const StartFailed& event) {
    if (!Knows(event.life)) return;
    Do(Report{"backend-start-failed", event.life, event.reason});
    if (event.life == s_.candidate) return LoseCandidate(event.reason);
    Lose(event.life, s_.options.start_retry);
  }

  void On(const BecameUseless& event) {
    if (!Knows(event.life) || event.life == s_.leaving ||
        s_.state == State::kStopping) {
      return;
    }
    Do(Report{"backend-given-up", event.life, event.why});
    if (event.life == s_.candidate) return Refuse(event.why);
    Do(EndLife{event.life, /*kill=*/true});
  }

  void On(const Finished& event) {
    if (!Knows(event.life) || event.life == s_.leaving ||
        s_.state == State::kStopping || HasFinished(event.life)) {
      return;
    }
    if (event.life == s_.candidate) {
      return Refuse("the VMM has gone meanwhile: say it again");
    }
    Do(Report{"backend-finished", event.life, ""});
    s_.finished.push_back(event.life);
    Do(EndLife{event.life, /*kill=*/true});
  }

  void On(const ReplaceRequested&) {
    if (CanReplace(s_).ok()) BeginReplacement();
  }

  void On(const BecameReady& event) {
    if (event.life == 0 || event.life != s_.candidate) return;
    if (s_.candidate_ready) return;
    s_.candidate_ready = true;
    Do(CommitReplacement{event.life});
    Do(EndLife{s_.current, /*kill=*/true});
  }

  void On(const TimerFired& event) {
    if (event.timer == Timer::kBackOff) {
      if (s_.state == State::kWaiting) BeginLife();
      // A spare that could not be kept is tried again.
      if (s_.state == State::kLiving) KeepSpare();
    } else if (event.timer == Timer::kCandidate) {
      if (s_.replacing && !s_.candidate_ready) {
        Refuse("the keeper has not heard of it in time");
      }
    } else if (s_.state == State::kStopping) {
      EndAll(/*kill=*/true);
    }
  }

  void On(const RestartRequested&) {
    s_.policy.Reset();
    switch (s_.state) {
      case State::kLiving:
        if (CanReplace(s_).ok()) return BeginReplacement();
        return Do(EndLife{s_.current, /*kill=*/true});
      case State::kWaiting:
      case State::kDenied:
        return BeginLife();
      default:
        return;
    }
  }

  void On(const StopRequested&) {
    if (s_.state == State::kStopping) return;
    if (s_.replacing) FinishReplacement("it is being stopped");
    s_.state = State::kStopping;
    EndAll(/*kill=*/false);
    Do(ArmTimer{Timer::kStop, s_.options.stop_deadline});
    FinishStop();
  }

 private:
  template <typename A>
  void Do(A action) {
    actions_.emplace_back(std::move(action));
  }
  bool Knows(LifeNumber life) const {
    return life != 0 &&
           (life == s_.current || life == s_.spare || life == s_.leaving);
  }

  bool HasFinished(LifeNumber life) const {
    return std::find(s_.finished.begin(), s_.finished.end(), life) !=
           s_.finished.end();
  }

  // What the loss of this life costs.
  RestartPolicy::Decision Cost(LifeNumber life) {
    if (!HasFinished(life)) return s_.policy.OnLoss(now_);
    s_.finished.erase(std::find(s_.finished.begin(), s_.finished.end(), life));
    return s_.turnover.OnLoss(now_);
  }

  void BeginLife() {
    s_.due = s_.leaving != 0 && s_.leaving_follows;
    s_.state = s_.due ? State::kWaiting : State::kLiving;
    if (s_.due) return;
    s_.current = s_.next++;
    s_.policy.OnServing(now_);
    Do(SpawnLife{s_.current});
    Do(HandOver{s_.current});
    KeepSpare();
  }

  void KeepSpare() {
    if (!s_.options.want_spare || s_.spare != 0) return;
    if (s_.leaving != 0 || s_.replacing) return;
    s_.spare = s_.next++;
    Do(SpawnLife{s_.spare});
  }

  // The next one is started after `least_delay` at the earliest.
  void Lose(LifeNumber life, absl::Duration least_delay) {
    if (!Knows(life)) return;
    if (life == s_.leaving) return LoseLeaving();
    if (life == s_.candidate) {
      return LoseCandidate("it has ended by itself: see holdfast events");
    }
    if (life == s_.spare) return LoseSpare(Cost(life), least_delay);
    // What the keeper has not looked at does not take over.
    if (s_.replacing && !s_.candidate_ready) {
      Refuse("the program that it was to replace has ended");
    }
    if (s_.replacing) return TakeOver();
    s_.current = 0;
    s_.policy.OnNotServing(now_);
    if (s_.state == State::kStopping) return FinishStop();
    Replace(Cost(life), least_delay);
  }

  // It has cost nobody anything; but one that cannot live is not to be started
  // in a loop.
  void LoseSpare(const RestartPolicy::Decision& decision,
                 absl::Duration least_delay) {
    s_.spare = 0;
    if (s_.state == State::kStopping) return FinishStop();
    if (!decision.allowed) {
      return Do(Report{"backend-degraded", 0, "no spare: its budget is empty"});
    }
    Do(ArmTimer{Timer::kBackOff, std::max(decision.delay, least_delay)});
  }

  // As planned: it is no loss.
  void TakeOver() {
    s_.current = s_.spare;
    s_.spare = 0;
    Do(HandOver{s_.current});
    FinishReplacement("");
    KeepSpare();
  }

  void LoseCandidate(std::string why) {
    s_.spare = 0;
    FinishReplacement(std::move(why));
    LoseLeaving();
  }

  // There is room again.
  void LoseLeaving() {
    s_.leaving = 0;
    if (s_.state == State::kStopping) return FinishStop();
    if (s_.state == State::kWaiting && s_.due) return BeginLife();
    if (s_.state != State::kLiving) return;
    if (s_.replacing) return StartCandidate();
    KeepSpare();
  }

  void BeginReplacement() {
    s_.replacing = true;
    Do(ArmTimer{Timer::kCandidate, s_.options.candidate_deadline});
    if (s_.spare == 0) return StartCandidate();
    s_.leaving_follows = true;
    DropSpare();
  }

  void StartCandidate() {
    s_.candidate = s_.spare = s_.next++;
    Do(SpawnLife{s_.candidate});
  }

  void DropSpare() {
    if (s_.spare == 0) return;
    s_.leaving = s_.spare;
    s_.spare = 0;
    Do(EndLife{s_.leaving, /*kill=*/true});
  }

  void FinishReplacement(std::string why_not) {
    s_.replacing = s_.candidate_ready = false;
    s_.candidate = 0;
    Do(EndReplacement{std::move(why_not)});
  }

  void Refuse(std::string why) {
    FinishReplacement(std::move(why));
    // Of a spare that leaves already it says nothing.
    if (s_.spare != 0) s_.leaving_follows = false;
    DropSpare();
  }

  void Replace(RestartPolicy::Decision decision, absl::Duration least_delay) {
    decision.delay = std::max(decision.delay, least_delay);
    if (s_.spare != 0) {
      s_.current = s_.spare;
      s_.spare = 0;
      s_.state = State::kLiving;
      s_.policy.OnServing(now_);
      Do(HandOver{s_.current});
      if (decision.allowed) {
        Do(ArmTimer{Timer::kBackOff, decision.delay});
      } else {
        Do(Report{"backend-degraded", 0, "no spare: its budget is empty"});
      }
      return;
    }
    if (!decision.allowed) {
      s_.state = State::kDenied;
      return Do(Report{"backend-quarantined", 0,
                       "the restart budget is empty; the guest waits: "
                       "holdfast restart"});
    }
    if (decision.delay == absl::ZeroDuration()) return BeginLife();
    s_.state = State::kWaiting;
    Do(ArmTimer{Timer::kBackOff, decision.delay});
  }

  void EndAll(bool kill) {
    if (s_.current != 0) Do(EndLife{s_.current, kill});
    // Nobody has used it.
    if (s_.spare != 0) Do(EndLife{s_.spare, /*kill=*/true});
    if (s_.leaving != 0) Do(EndLife{s_.leaving, /*kill=*/true});
  }

  void FinishStop() {
    if (s_.current == 0 && s_.spare == 0 && s_.leaving == 0) {
      s_.state = State::kIdle;
    }
  }

  Supervision s_;
  const Uptime now_;
  Actions actions_;
};

}  // namespace

namespace {

RestartLimits WithoutBudget(RestartLimits limits) {
  limits.budget = 0;
  return limits;
}

}  // namespace

Supervision::Supervision(Options options_in)
    : options(std::move(options_in)),
      policy(options.restart, options.seed),
      turnover(WithoutBudget(options.restart), options.seed) {}

absl::Status CanReplace(const Supervision& state) {
  if (state.state != State::kLiving) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no back-end runs at the moment (", StateName(state.state), ")"));
  }
  if (!state.options.want_spare) {
    return absl::FailedPreconditionError(
        "it runs without a standby: both programs would have to have the image "
        "open at the same time");
  }
  if (state.replacing || state.leaving != 0) {
    return absl::UnavailableError(
        "it is being replaced already: say it again in a moment");
  }
  return absl::OkStatus();
}

StepResult Step(Supervision state, const Event& event, Uptime now) {
  Stepper stepper(std::move(state), now);
  std::visit([&](const auto& e) { stepper.On(e); }, event);
  return std::move(stepper).Done();
}

absl::string_view StateName(State state) {
  switch (state) {
    case State::kIdle:
      return "IDLE";
    case State::kLiving:
      return "LIVING";
    case State::kWaiting:
      return "WAITING";
    case State::kDenied:
      return "DENIED";
    case State::kStopping:
      return "STOPPING";
  }
  return "?";
}

}  // namespace holdfast::launcher::backend

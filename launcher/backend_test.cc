#include "launcher/backend.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher::backend {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string TextOf(const Action& action) {
  struct Writer {
    std::string operator()(const SpawnLife& a) const {
      return absl::StrCat("Spawn(", a.life, ")");
    }
    std::string operator()(const HandOver& a) const {
      return absl::StrCat("HandOver(", a.life, ")");
    }
    std::string operator()(const CommitReplacement& a) const {
      return absl::StrCat("Commit(", a.candidate, ")");
    }
    std::string operator()(const EndReplacement& a) const {
      return a.why_not.empty() ? "Replaced" : "Kept: " + a.why_not;
    }
    std::string operator()(const EndLife& a) const {
      return absl::StrCat(a.kill ? "Kill(" : "Ask(", a.life, ")");
    }
    std::string operator()(const ArmTimer& a) const {
      return a.timer == Timer::kStop           ? "Arm(stop)"
             : a.timer == Timer::kCandidate    ? "Arm(candidate)"
             : a.delay == absl::ZeroDuration() ? "Arm(now)"
                                               : "Arm(back-off)";
    }
    std::string operator()(const Report& a) const { return a.type; }
  };
  return std::visit(Writer(), action);
}

// A supervision, and a clock that only moves when told.
class Backend {
 public:
  explicit Backend(Options options = {}) : state_(options) {}

  std::vector<std::string> Feed(const Event& event) {
    StepResult result = Step(std::move(state_), event, now_);
    state_ = std::move(result.next);
    std::vector<std::string> text;
    for (const Action& action : result.actions) text.push_back(TextOf(action));
    return text;
  }
  void Wait(absl::Duration duration) { now_ += duration; }
  const Supervision& state() const { return state_; }

 private:
  Supervision state_;
  Uptime now_ = absl::Seconds(1000);
};

Options WithSpare() {
  Options options;
  options.want_spare = true;
  return options;
}

Options WithBudget(uint32_t budget) {
  Options options;
  options.restart.budget = budget;
  options.restart.backoff_base = absl::ZeroDuration();
  return options;
}

TEST(Backend, ALifeIsStartedAndHandedOver) {
  Backend backend;
  EXPECT_THAT(backend.Feed(Start{}), ElementsAre("Spawn(1)", "HandOver(1)"));
  EXPECT_EQ(backend.state().state, State::kLiving);
  EXPECT_THAT(backend.Feed(Start{}), IsEmpty());
}

TEST(Backend, ASpareIsStartedBesideIt) {
  Backend backend(WithSpare());
  EXPECT_THAT(backend.Feed(Start{}),
              ElementsAre("Spawn(1)", "HandOver(1)", "Spawn(2)"));
}

TEST(Backend, TheFirstLossIsMadeGoodAtOnce) {
  Backend backend;
  backend.Feed(Start{});
  EXPECT_THAT(backend.Feed(LifeEnded{1}),
              ElementsAre("Spawn(2)", "HandOver(2)"));
}

TEST(Backend, TheSpareTakesOverAndTheNextOneFollows) {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  EXPECT_THAT(backend.Feed(LifeEnded{1}),
              ElementsAre("HandOver(2)", "Arm(now)"));
  EXPECT_THAT(backend.Feed(TimerFired{Timer::kBackOff}),
              ElementsAre("Spawn(3)"));
}

TEST(Backend, LossesInARowAreDelayed) {
  Backend backend;
  backend.Feed(Start{});
  backend.Feed(LifeEnded{1});
  EXPECT_THAT(backend.Feed(LifeEnded{2}), ElementsAre("Arm(back-off)"));
  EXPECT_EQ(backend.state().state, State::kWaiting);
  EXPECT_THAT(backend.Feed(TimerFired{Timer::kBackOff}),
              ElementsAre("Spawn(3)", "HandOver(3)"));
}

TEST(Backend, AnEmptyBudgetEndsIt) {
  Backend backend(WithBudget(2));
  backend.Feed(Start{});
  backend.Feed(LifeEnded{1});
  backend.Feed(LifeEnded{2});
  EXPECT_THAT(backend.Feed(LifeEnded{3}), ElementsAre("backend-quarantined"));
  EXPECT_EQ(backend.state().state, State::kDenied);
  EXPECT_THAT(backend.Feed(TimerFired{Timer::kBackOff}), IsEmpty());
  EXPECT_THAT(backend.Feed(RestartRequested{}),
              ElementsAre("Spawn(4)", "HandOver(4)"));
}

TEST(Backend, ASpareThatCannotLiveIsNotStartedForEver) {
  Options options = WithBudget(2);
  options.want_spare = true;
  Backend backend(options);
  backend.Feed(Start{});
  backend.Feed(LifeEnded{2});
  backend.Feed(TimerFired{Timer::kBackOff});
  backend.Feed(LifeEnded{3});
  backend.Feed(TimerFired{Timer::kBackOff});
  EXPECT_THAT(backend.Feed(LifeEnded{4}), ElementsAre("backend-degraded"));
  EXPECT_EQ(backend.state().state, State::kLiving);
}

TEST(Backend, WhatCannotBeStartedIsReportedAndCounts) {
  Backend backend(WithBudget(1));
  backend.Feed(Start{});
  // Never in a loop, whatever the back-off.
  EXPECT_THAT(backend.Feed(StartFailed{1, "no such file"}),
              ElementsAre("backend-start-failed", "Arm(back-off)"));
  EXPECT_THAT(backend.Feed(TimerFired{Timer::kBackOff}),
              ElementsAre("Spawn(2)", "HandOver(2)"));
  EXPECT_THAT(backend.Feed(StartFailed{2, "no such file"}),
              Contains("backend-quarantined"));
}

// Whoever hangs up is given up: the guest's requests would wait for ever.
TEST(Backend, ALifeWithoutItsConnectionIsKilled) {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  EXPECT_THAT(backend.Feed(BecameUseless{1, "it lies"}),
              ElementsAre("backend-given-up", "Kill(1)"));
  EXPECT_THAT(backend.Feed(BecameUseless{2, "it lies"}),
              ElementsAre("backend-given-up", "Kill(2)"));
  // It lives until its end is seen: only then is the next one told to write.
  EXPECT_EQ(backend.state().current, 1u);
}

// VMMs come and go as often as they like.
TEST(Backend, OneThatHasFinishedCostsNothing) {
  Options options = WithBudget(2);
  options.want_spare = true;
  Backend backend(options);
  backend.Feed(Start{});
  for (int i = 0; i < 10; ++i) {
    const LifeNumber one = backend.state().current;
    const LifeNumber other = backend.state().spare;
    EXPECT_THAT(
        backend.Feed(Finished{one}),
        ElementsAre("backend-finished", absl::StrCat("Kill(", one, ")")));
    EXPECT_THAT(backend.Feed(Finished{one}), IsEmpty());
    backend.Feed(Finished{other});
    backend.Feed(LifeEnded{other});
    backend.Feed(LifeEnded{one});
    EXPECT_EQ(backend.state().state, State::kLiving);
    EXPECT_TRUE(backend.state().finished.empty());
    backend.Feed(TimerFired{Timer::kBackOff});
  }
  EXPECT_EQ(backend.state().policy.tokens(), 2u);
  // The control: what ends otherwise does.
  backend.Feed(LifeEnded{backend.state().current});
  EXPECT_EQ(backend.state().policy.tokens(), 1u);
}

// One that closes as soon as it has connected does not have programs started
// in a loop.
TEST(Backend, ThoseThatFinishOneAfterTheOtherAreDelayed) {
  Backend backend;
  backend.Feed(Start{});
  backend.Feed(Finished{1});
  EXPECT_THAT(backend.Feed(LifeEnded{1}),
              ElementsAre("Spawn(2)", "HandOver(2)"));
  backend.Feed(Finished{2});
  EXPECT_THAT(backend.Feed(LifeEnded{2}), ElementsAre("Arm(back-off)"));
}

TEST(Backend, ACandidateOfAVmmThatHasGoneIsNone) {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  backend.Feed(ReplaceRequested{});
  backend.Feed(LifeEnded{2});
  EXPECT_THAT(backend.Feed(Finished{3}),
              ElementsAre(HasSubstr("Kept: the VMM has gone"), "Kill(3)"));
}

TEST(Backend, StopAsksAndThenKills) {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  EXPECT_THAT(backend.Feed(StopRequested{}),
              ElementsAre("Ask(1)", "Kill(2)", "Arm(stop)"));
  EXPECT_THAT(backend.Feed(LifeEnded{2}), IsEmpty());
  EXPECT_THAT(backend.Feed(TimerFired{Timer::kStop}), ElementsAre("Kill(1)"));
  EXPECT_THAT(backend.Feed(LifeEnded{1}), IsEmpty());
  EXPECT_EQ(backend.state().state, State::kIdle);
}

TEST(Backend, StopOfWhatWaitsEndsAtOnce) {
  Backend backend;
  backend.Feed(Start{});
  backend.Feed(LifeEnded{1});
  backend.Feed(LifeEnded{2});
  backend.Feed(StopRequested{});
  EXPECT_EQ(backend.state().state, State::kIdle);
}

TEST(Backend, AnAdoptedLifeGoesOn) {
  Backend backend(WithSpare());
  EXPECT_THAT(backend.Feed(Adopted{7, 0, 9}), ElementsAre("Spawn(9)"));
  EXPECT_THAT(backend.Feed(LifeEnded{7}),
              ElementsAre("HandOver(9)", "Arm(now)"));
}

TEST(Backend, AnAdoptedSpareTakesOver) {
  Backend backend(WithSpare());
  EXPECT_THAT(backend.Feed(Adopted{7, 8, 9}), IsEmpty());
  EXPECT_THAT(backend.Feed(LifeEnded{7}),
              ElementsAre("HandOver(8)", "Arm(now)"));
}

TEST(Backend, AnAdoptedSpareAloneTakesOverAtOnce) {
  Backend backend(WithSpare());
  EXPECT_THAT(backend.Feed(Adopted{0, 8, 9}),
              ElementsAre("HandOver(8)", "Arm(now)"));
}

TEST(Backend, WithoutALifeToAdoptAnotherBegins) {
  Backend backend;
  EXPECT_THAT(backend.Feed(Adopted{0, 0, 5}),
              ElementsAre("Spawn(5)", "HandOver(5)"));
}

TEST(Backend, AnOperatorsRestartEndsTheLife) {
  Backend backend;
  backend.Feed(Start{});
  EXPECT_THAT(backend.Feed(RestartRequested{}), ElementsAre("Kill(1)"));
}

// ---- Another program ----

// Lives 1 and 2 run, and a candidate 3 takes the place of 2.
Backend Replacing() {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  EXPECT_THAT(backend.Feed(ReplaceRequested{}),
              ElementsAre("Arm(candidate)", "Kill(2)"));
  EXPECT_THAT(backend.Feed(LifeEnded{2}), ElementsAre("Spawn(3)"));
  return backend;
}

TEST(Replacement, TheOldOneEndsWhenTheCandidateIsReady) {
  Backend backend = Replacing();
  const uint32_t tokens = backend.state().policy.tokens();
  // Committed before anything ends: a launcher that dies over it goes on.
  EXPECT_THAT(backend.Feed(BecameReady{3}),
              ElementsAre("Commit(3)", "Kill(1)"));
  EXPECT_THAT(backend.Feed(BecameReady{3}), IsEmpty());
  EXPECT_THAT(backend.Feed(LifeEnded{1}),
              ElementsAre("HandOver(3)", "Replaced", "Spawn(4)"));
  // It was no loss.
  EXPECT_EQ(backend.state().policy.tokens(), tokens);
}

TEST(Replacement, ACandidateThatWillNotDoIsAllThatEnds) {
  Backend backend = Replacing();
  EXPECT_THAT(backend.Feed(BecameUseless{3, "the keeper: fewer queues"}),
              ElementsAre("backend-given-up", "Kept: the keeper: fewer queues",
                          "Kill(3)"));
  EXPECT_THAT(backend.Feed(LifeEnded{3}), ElementsAre("Spawn(4)"));
  EXPECT_EQ(backend.state().current, 1u);
}

TEST(Replacement, ACandidateThatEndsOrDoesNotStartIsNone) {
  Backend one = Replacing();
  EXPECT_THAT(one.Feed(LifeEnded{3}),
              ElementsAre(HasSubstr("Kept: it has ended"), "Spawn(4)"));
  Backend other = Replacing();
  EXPECT_THAT(
      other.Feed(StartFailed{3, "no such file"}),
      ElementsAre("backend-start-failed", "Kept: no such file", "Spawn(4)"));
}

TEST(Replacement, ACandidateThatSaysNothingIsNone) {
  Backend backend = Replacing();
  EXPECT_THAT(backend.Feed(TimerFired{Timer::kCandidate}),
              ElementsAre(HasSubstr("Kept: "), "Kill(3)"));
  // One that has come so far is waited for.
  Backend other = Replacing();
  other.Feed(BecameReady{3});
  EXPECT_THAT(other.Feed(TimerFired{Timer::kCandidate}), IsEmpty());
}

// The one before ends all the same, and another one of its program follows.
TEST(Replacement, ACandidateThatFailsLateDoesNotTakeOver) {
  Backend backend = Replacing();
  backend.Feed(BecameReady{3});
  EXPECT_THAT(backend.Feed(LifeEnded{3}),
              ElementsAre(HasSubstr("Kept: it has ended"), "Spawn(4)"));
  EXPECT_THAT(backend.Feed(LifeEnded{1}),
              ElementsAre("HandOver(4)", "Arm(now)"));
}

TEST(Replacement, AnUnknownCandidateDoesNotTakeOver) {
  Backend backend = Replacing();
  EXPECT_THAT(
      backend.Feed(LifeEnded{1}),
      ElementsAre(HasSubstr("Kept: "), "Kill(3)", "Spawn(4)", "HandOver(4)"));
  EXPECT_THAT(backend.Feed(LifeEnded{3}), ElementsAre("Spawn(5)"));
}

// The keeper may have gone on with it.
TEST(Replacement, NobodyBeginsBesideASpareThatLeaves) {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  backend.Feed(ReplaceRequested{});
  EXPECT_THAT(backend.Feed(LifeEnded{1}), ElementsAre(HasSubstr("Kept: ")));
  EXPECT_EQ(backend.state().state, State::kWaiting);
  EXPECT_THAT(backend.Feed(RestartRequested{}), IsEmpty());
  EXPECT_THAT(backend.Feed(LifeEnded{2}),
              ElementsAre("Spawn(3)", "HandOver(3)", "Spawn(4)"));
}

TEST(Replacement, ItNeedsALifeAndRoomForAnotherOne) {
  EXPECT_FALSE(CanReplace(Supervision(WithSpare())).ok());
  Backend alone;
  alone.Feed(Start{});
  EXPECT_THAT(std::string(CanReplace(alone.state()).message()),
              HasSubstr("without a standby"));
  EXPECT_THAT(alone.Feed(ReplaceRequested{}), IsEmpty());
  Backend backend = Replacing();
  EXPECT_THAT(std::string(CanReplace(backend.state()).message()),
              HasSubstr("already"));
}

TEST(Replacement, StopEndsTheOneThatMakesRoomToo) {
  Backend backend(WithSpare());
  backend.Feed(Start{});
  backend.Feed(ReplaceRequested{});
  EXPECT_THAT(backend.Feed(StopRequested{}),
              ElementsAre("Kept: it is being stopped", "Ask(1)", "Kill(2)",
                          "Arm(stop)"));
  backend.Feed(LifeEnded{1});
  EXPECT_EQ(backend.state().state, State::kStopping);
  backend.Feed(LifeEnded{2});
  EXPECT_EQ(backend.state().state, State::kIdle);
}

// It is a replacement by the same program, and forgets losses.
TEST(Replacement, ARestartIsOneWhereThereIsASpare) {
  Options options = WithBudget(2);
  options.want_spare = true;
  Backend backend(options);
  backend.Feed(Start{});
  backend.Feed(LifeEnded{2});
  backend.Feed(TimerFired{Timer::kBackOff});
  const uint32_t tokens = backend.state().policy.tokens();
  EXPECT_THAT(backend.Feed(RestartRequested{}),
              ElementsAre("Arm(candidate)", "Kill(3)"));
  EXPECT_GT(backend.state().policy.tokens(), tokens);
  EXPECT_THAT(backend.Feed(LifeEnded{3}), ElementsAre("Spawn(4)"));
  // While one is going on, it is what it was: an end of what hangs.
  EXPECT_THAT(backend.Feed(RestartRequested{}), ElementsAre("Kill(1)"));
}

TEST(Replacement, ThatWasCommittedIsFinishedByTheNextLauncher) {
  Adopted found{7, 8, 9};
  found.outdated = true;
  Backend backend(WithSpare());
  EXPECT_THAT(backend.Feed(found), ElementsAre("Kill(7)"));
  EXPECT_THAT(backend.Feed(LifeEnded{7}),
              ElementsAre("HandOver(8)", "Replaced", "Spawn(9)"));
  // Its candidate has not survived.
  found.spare = 0;
  Backend other(WithSpare());
  EXPECT_THAT(other.Feed(found), ElementsAre("Kill(7)"));
  EXPECT_THAT(other.Feed(LifeEnded{7}),
              ElementsAre("Spawn(9)", "HandOver(9)", "Spawn(10)"));
}

TEST(Backend, OneThatWasDeniedWaitsForItsOperatorStill) {
  Adopted found{0, 0, 5};
  found.denied = true;
  Backend backend;
  EXPECT_THAT(backend.Feed(found), IsEmpty());
  EXPECT_EQ(backend.state().state, State::kDenied);
  EXPECT_THAT(backend.Feed(RestartRequested{}),
              ElementsAre("Spawn(5)", "HandOver(5)"));
}

// ---- Every event in every state that can be reached ----

std::vector<Event> EventsFor(const Supervision& s) {
  return {Start{},
          Adopted{0, 0, s.next},
          Adopted{s.next, s.next + 1, s.next + 2},
          Adopted{s.next, s.next + 1, s.next + 2, true, false},
          Adopted{s.next, 0, s.next + 1, true, false},
          Adopted{0, 0, s.next, false, true},
          LifeEnded{s.current},
          LifeEnded{s.spare},
          LifeEnded{s.next + 100},
          StartFailed{s.current, "why"},
          StartFailed{s.spare, "why"},
          BecameUseless{s.current, ""},
          BecameUseless{s.spare, ""},
          LifeEnded{s.leaving},
          BecameUseless{s.leaving, ""},
          Finished{s.current},
          Finished{s.spare},
          Finished{s.leaving},
          TimerFired{Timer::kBackOff},
          TimerFired{Timer::kStop},
          TimerFired{Timer::kCandidate},
          RestartRequested{},
          ReplaceRequested{},
          BecameReady{s.spare},
          StopRequested{}};
}

bool HasFinished(const Supervision& s, LifeNumber life) {
  return std::count(s.finished.begin(), s.finished.end(), life) != 0;
}

std::string KeyOf(const Supervision& s) {
  return absl::StrCat(
      StateName(s.state), s.current != 0 ? "+current" : "",
      s.spare != 0 ? "+spare" : "", s.leaving != 0 ? "+leaving" : "",
      s.replacing ? "+replacing" : "", s.candidate != 0 ? "+candidate" : "",
      s.candidate_ready ? "+ready" : "", s.due ? "+due" : "",
      s.leaving_follows ? "+follows" : "",
      HasFinished(s, s.current) ? "+done" : "",
      HasFinished(s, s.spare) ? "+spare done" : "",
      HasFinished(s, s.leaving) ? "+leaving done" : "", " tokens ",
      s.policy.tokens());
}

void CheckAlways(const Supervision& s) {
  switch (s.state) {
    case State::kIdle:
    case State::kWaiting:
    case State::kDenied:
      EXPECT_EQ(s.current, 0u);
      EXPECT_EQ(s.spare, 0u);
      break;
    case State::kLiving:
      EXPECT_NE(s.current, 0u);
      break;
    case State::kStopping:
      EXPECT_TRUE(s.current != 0 || s.spare != 0 || s.leaving != 0);
      EXPECT_FALSE(s.replacing);
      break;
  }
  // The keeper has two seats.
  EXPECT_LE((s.current != 0) + (s.spare != 0) + (s.leaving != 0), 2);
  if (s.candidate != 0) {
    EXPECT_TRUE(s.replacing);
    EXPECT_EQ(s.candidate, s.spare);
  }
  if (s.spare != 0) {
    EXPECT_NE(s.current, s.spare);
  }
  EXPECT_LT(s.current, s.next);
  EXPECT_LT(s.spare, s.next);
}

// A life that is started stands in the state, and only such a one is handed
// over, and never while another may still write.
void CheckActions(const Supervision& before, const StepResult& result,
                  bool ended, LifeNumber found) {
  std::set<LifeNumber> spawned = {found};
  for (const Action& action : result.actions) {
    if (const auto* spawn = std::get_if<SpawnLife>(&action)) {
      EXPECT_TRUE(spawn->life == result.next.current ||
                  spawn->life == result.next.spare);
      spawned.insert(spawn->life);
    }
    if (const auto* over = std::get_if<HandOver>(&action)) {
      EXPECT_EQ(over->life, result.next.current);
      EXPECT_TRUE(spawned.count(over->life) == 1 || over->life == before.spare);
      EXPECT_TRUE(before.current == 0 || ended);
      // The keeper may have gone on with that one.
      EXPECT_FALSE(result.next.leaving != 0 && result.next.leaving_follows);
    }
  }
}

TEST(Backend, WhateverHappensTheRulesHold) {
  for (const bool spare : {false, true}) {
    Options options = WithBudget(2);
    options.want_spare = spare;
    std::map<std::string, Supervision> seen;
    std::deque<Supervision> open = {Supervision(options)};
    while (!open.empty()) {
      const Supervision state = open.front();
      open.pop_front();
      if (!seen.emplace(KeyOf(state), state).second) continue;
      CheckAlways(state);
      for (const Event& event : EventsFor(state)) {
        const auto* end = std::get_if<LifeEnded>(&event);
        const auto* fail = std::get_if<StartFailed>(&event);
        const LifeNumber gone = end ? end->life : fail ? fail->life : 0;
        StepResult result = Step(state, event, absl::Seconds(1000));
        const auto* adopted = std::get_if<Adopted>(&event);
        CheckActions(state, result, gone == state.current,
                     adopted ? adopted->spare : 0);
        open.push_back(std::move(result.next));
      }
    }
    EXPECT_GT(seen.size(), 8u);
  }
}

}  // namespace
}  // namespace holdfast::launcher::backend

#include "launcher/supervisor.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/supervisor_text.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A supervisor and a clock that only moves when told.
class Instance {
 public:
  explicit Instance(SupervisorOptions options = {}) : state_(options) {}

  // Feeds one event; the actions as text, one string each.
  std::vector<std::string> Feed(const Event& event) {
    StepResult result = Step(std::move(state_), event, now_);
    state_ = std::move(result.next);
    std::vector<std::string> text;
    for (const Action& action : result.actions) {
      text.push_back(ActionText(action));
    }
    return text;
  }
  void Wait(absl::Duration duration) { now_ += duration; }
  const Supervision& state() const { return state_; }

  // Active and a ready standby.
  void RunWhole() {
    Feed(SpecAccepted{});
    Feed(ChildReady{1});
    Feed(Promoted{1});
    Feed(ChildReady{2});
  }

 private:
  Supervision state_;
  Uptime now_ = absl::Seconds(1000);
};

SupervisorOptions WithBudget(uint32_t budget) {
  SupervisorOptions options;
  options.restart.budget = budget;
  options.restart.backoff_base = absl::ZeroDuration();
  return options;
}

TEST(Supervisor, FirstChildIsSpawnedAndThenAStandby) {
  Instance instance;
  EXPECT_THAT(instance.Feed(SpecAccepted{}), Contains("SpawnChild(1)"));
  EXPECT_EQ(instance.state().state, State::kStarting);
  instance.Feed(ChildReady{1});
  EXPECT_THAT(instance.Feed(Promoted{1}), Contains("SpawnChild(2)"));
  EXPECT_EQ(instance.state().state, State::kRunning);
}

TEST(Supervisor, NoStandbyWhenNotWanted) {
  SupervisorOptions options;
  options.want_standby = false;
  Instance instance(options);
  instance.Feed(SpecAccepted{});
  EXPECT_THAT(instance.Feed(Promoted{1}), Not(Contains(HasSubstr("Spawn"))));
}

TEST(Supervisor, NextStandbyIsSpawnedOnlyAfterThePromotion) {
  Instance instance;
  instance.RunWhole();
  EXPECT_THAT(instance.Feed(ChildLost{1}), Not(Contains(HasSubstr("Spawn"))));
  EXPECT_EQ(instance.state().state, State::kRecovering);
  EXPECT_THAT(instance.Feed(Promoted{2}), Contains("SpawnChild(3)"));
}

TEST(Supervisor, DyingChildIsDemotedBeforeAnythingElse) {
  Instance instance;
  instance.RunWhole();
  EXPECT_EQ(instance.Feed(ChildLost{1}).front(), "DemoteChild(1)");
}

TEST(Supervisor, SecondNewsOfTheSameDeathIsIgnored) {
  Instance instance;
  instance.RunWhole();
  instance.Feed(ChildLost{1});
  EXPECT_THAT(instance.Feed(ChildLost{1}), IsEmpty());
}

TEST(Supervisor, LossWithoutStandbyIsAColdStartAtOnce) {
  Instance instance;
  instance.Feed(SpecAccepted{});
  EXPECT_THAT(instance.Feed(ChildLost{1}), Contains("SpawnChild(2)"));
  EXPECT_EQ(instance.state().state, State::kStarting);
}

// It fails within the same step, which would never end.
TEST(Supervisor, FailedStartIsNeverRepeatedAtOnce) {
  Instance instance(WithBudget(0));
  instance.Feed(SpecAccepted{});
  for (ChildNumber child = 1; child < 5; ++child) {
    EXPECT_THAT(instance.Feed(StartFailed{child, "no such file"}),
                AllOf(Contains(HasSubstr("start-failed")),
                      Contains(HasSubstr("ArmTimer(")),
                      Not(Contains(HasSubstr("SpawnChild(")))));
    EXPECT_EQ(instance.state().state, State::kBackingOff);
    instance.Wait(absl::Milliseconds(10));
    EXPECT_THAT(instance.Feed(TimerFired{Timer::kBackOff}),
                Contains(absl::StrCat("SpawnChild(", child + 1, ")")));
  }
}

TEST(Supervisor, FailedStartOfAStandbyLeavesTheActiveChildAlone) {
  Instance instance(WithBudget(0));
  instance.Feed(SpecAccepted{});
  instance.Feed(ChildReady{1});
  instance.Feed(Promoted{1});
  EXPECT_THAT(instance.Feed(StartFailed{2, "no such file"}),
              Not(Contains(HasSubstr("SpawnChild("))));
  EXPECT_EQ(instance.state().state, State::kRunning);
  EXPECT_EQ(instance.state().active, 1u);
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kBackOff}),
              Contains("SpawnChild(3)"));
}

TEST(Supervisor, FailedStartsUseTheBudgetUp) {
  Instance instance(WithBudget(3));
  instance.Feed(SpecAccepted{});
  for (ChildNumber child = 1; child <= 3; ++child) {
    instance.Feed(StartFailed{child, "no such file"});
    instance.Feed(TimerFired{Timer::kBackOff});
  }
  EXPECT_THAT(instance.Feed(StartFailed{4, "no such file"}),
              Contains(HasSubstr("quarantined")));
  EXPECT_EQ(instance.state().state, State::kQuarantined);
}

TEST(Supervisor, CrashLoopBacksOffAndThenIsQuarantined) {
  SupervisorOptions options;
  options.restart.budget = 3;
  Instance instance(options);
  instance.Feed(SpecAccepted{});
  instance.Feed(ChildLost{1});
  EXPECT_THAT(instance.Feed(ChildLost{2}), Contains("Emit(backing-off)"));
  EXPECT_EQ(instance.state().state, State::kBackingOff);
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kBackOff}),
              Contains("SpawnChild(3)"));
  instance.Feed(ChildLost{3});
  instance.Feed(TimerFired{Timer::kBackOff});
  EXPECT_THAT(instance.Feed(ChildLost{4}),
              ElementsAre("DemoteChild(4)", "Emit(lost 4 standby)",
                          "HoldPromotion(hold)", "Emit(quarantined)"));
  EXPECT_EQ(instance.state().state, State::kQuarantined);
}

TEST(Supervisor, LastChildServesOnWhenTheBudgetIsEmpty) {
  Instance instance(WithBudget(1));
  instance.RunWhole();
  instance.Feed(ChildLost{1});
  instance.Feed(Promoted{2});
  instance.Feed(ChildLost{2});
  // The token went into child 3, which is on its way.
  EXPECT_EQ(instance.state().state, State::kRecovering);
  instance.Feed(Promoted{3});
  EXPECT_EQ(instance.state().state, State::kRunning);
  EXPECT_EQ(instance.state().spare, 0u);
}

TEST(Supervisor, HealthyTimeBringsTheStandbyBack) {
  Instance instance(WithBudget(1));
  instance.RunWhole();
  instance.Feed(ChildLost{2});
  instance.Feed(ChildLost{3});
  EXPECT_EQ(instance.state().replacement, Replacement::kDenied);
  instance.Wait(absl::Seconds(10));
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kRefill}),
              Contains(HasSubstr("ArmTimer(refill")));
  instance.Wait(absl::Seconds(30));
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kRefill}),
              Contains("SpawnChild(4)"));
}

TEST(Supervisor, OperatorEndsTheQuarantine) {
  Instance instance(WithBudget(1));
  instance.Feed(SpecAccepted{});
  instance.Feed(ChildLost{1});
  instance.Feed(ChildLost{2});
  ASSERT_EQ(instance.state().state, State::kQuarantined);
  EXPECT_THAT(instance.Feed(RestartRequested{}),
              ElementsAre("Emit(restart)", "HoldPromotion(go)", "SpawnChild(3)",
                          HasSubstr("ArmTimer(start")));
}

TEST(Supervisor, RestartOfARunningInstanceCostsNoToken) {
  Instance instance(WithBudget(1));
  instance.RunWhole();
  for (ChildNumber child = 1; child < 20; ++child) {
    ASSERT_THAT(instance.Feed(RestartRequested{}),
                Contains("StopChild(" + std::to_string(child) + ")"));
    ASSERT_THAT(instance.Feed(ChildLost{child}), Contains(HasSubstr("ended")));
    instance.Feed(Promoted{child + 1});
    instance.Feed(ChildReady{child + 2});
  }
  EXPECT_EQ(instance.state().policy.tokens(), 1u);
}

TEST(Supervisor, ChildThatIgnoresARestartIsKilled) {
  Instance instance;
  instance.RunWhole();
  instance.Feed(RestartRequested{});
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kStop}),
              ElementsAre("KillChild(1)"));
}

TEST(Supervisor, ChildThatIsNeverReadyIsKilled) {
  Instance instance;
  instance.Feed(SpecAccepted{});
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kStart}),
              Contains("KillChild(1)"));
}

TEST(Supervisor, StopHoldsPromotionBeforeItAsksTheChildren) {
  Instance instance;
  instance.RunWhole();
  EXPECT_THAT(instance.Feed(StopRequested{}),
              ElementsAre("HoldPromotion(hold)", "StopChild(2)", "StopChild(1)",
                          HasSubstr("ArmTimer(stop")));
  EXPECT_THAT(instance.Feed(StopRequested{}), IsEmpty());
}

TEST(Supervisor, StopEscalatesUntilEverybodyIsGone) {
  Instance instance;
  instance.RunWhole();
  instance.Feed(StopRequested{});
  instance.Feed(ChildLost{2});
  EXPECT_THAT(instance.Feed(TimerFired{Timer::kStop}),
              ElementsAre("KillChild(1)", HasSubstr("ArmTimer(stop")));
  EXPECT_THAT(instance.Feed(ChildLost{1}), Contains("CloseInstance"));
  EXPECT_EQ(instance.state().state, State::kStopped);
}

TEST(Supervisor, StopWithoutChildrenClosesAtOnce) {
  Instance instance(WithBudget(1));
  instance.Feed(SpecAccepted{});
  instance.Feed(ChildLost{1});
  instance.Feed(ChildLost{2});
  EXPECT_THAT(instance.Feed(StopRequested{}),
              ElementsAre("HoldPromotion(hold)", "CloseInstance"));
}

TEST(Supervisor, ChildrenServeOnWithoutAStore) {
  Instance instance;
  instance.RunWhole();
  EXPECT_THAT(instance.Feed(StoreLost{}), IsEmpty());
  EXPECT_EQ(instance.state().state, State::kRunning);
  EXPECT_EQ(instance.Feed(StoreBack{}).front(), "Redeposit");
}

TEST(Supervisor, NobodyIsSpawnedWithoutAStore) {
  Instance instance;
  instance.RunWhole();
  instance.Feed(StoreLost{});
  EXPECT_THAT(instance.Feed(ChildLost{2}), Not(Contains(HasSubstr("Spawn"))));
  EXPECT_THAT(
      instance.Feed(StoreBack{}),
      ElementsAre("Redeposit", "SpawnChild(3)", HasSubstr("ArmTimer(start")));
}

TEST(Supervisor, NewsLostWithTheStoreIsInferredFromThePromotion) {
  Instance instance;
  instance.RunWhole();
  EXPECT_THAT(instance.Feed(Promoted{2}), Contains("Emit(lost 1 active)"));
  EXPECT_EQ(instance.state().active, 2u);
}

TEST(Supervisor, AdoptsWhatAnEarlierLauncherLeft) {
  Instance instance;
  EXPECT_THAT(instance.Feed(Adopted{7, 8, true, 9}),
              ElementsAre("Emit(adopted 7)", "HoldPromotion(go)"));
  EXPECT_EQ(instance.state().state, State::kRunning);
  instance.Feed(ChildLost{7});
  EXPECT_THAT(instance.Feed(Promoted{8}), Contains("SpawnChild(9)"));
}

TEST(Supervisor, AdoptionCompletesWhatIsMissing) {
  Instance only_active;
  EXPECT_THAT(only_active.Feed(Adopted{7, 0, false, 8}),
              Contains("SpawnChild(8)"));
  Instance empty;
  EXPECT_THAT(empty.Feed(Adopted{0, 0, false, 5}), Contains("SpawnChild(5)"));
  // An empty budget stays empty.
  Instance denied;
  EXPECT_THAT(denied.Feed(Adopted{0, 0, false, 5, {}, true}),
              Not(Contains("SpawnChild(5)")));
  EXPECT_EQ(denied.state().state, State::kQuarantined);
}

// The store may not have been able to kill it, and the launcher that was told
// so is dead: it is not waited for as if it started.
TEST(Supervisor, AdoptedChildThatIsDyingIsKilledAtOnce) {
  Instance instance;
  EXPECT_THAT(
      instance.Feed(Adopted{7, 8, false, 9, {}, false, {8}}),
      ElementsAre("Emit(adopted 7)", "KillChild(8)", "HoldPromotion(go)"));
  EXPECT_THAT(instance.Feed(ChildLost{8}), Contains("SpawnChild(9)"));
  Instance of_active;
  EXPECT_THAT(of_active.Feed(Adopted{7, 8, true, 9, {}, false, {7}}),
              Contains("KillChild(7)"));
  EXPECT_THAT(of_active.Feed(ChildLost{7}), Not(Contains("SpawnChild(9)")));
  EXPECT_THAT(of_active.Feed(Promoted{8}), Contains("SpawnChild(9)"));
}

TEST(Supervisor, ConnectionIsKeptWhileAVmmIsThere) {
  Instance instance;
  instance.RunWhole();
  EXPECT_THAT(instance.Feed(VmmConnected{}), Contains("KeepConnection"));
  EXPECT_THAT(instance.Feed(VmmConnected{}), IsEmpty());
  EXPECT_THAT(instance.Feed(VmmGone{}), Contains("DropConnection"));
}

TEST(Supervisor, ResourceFailureLeavesAnActiveChildAlone) {
  Instance instance;
  instance.RunWhole();
  EXPECT_THAT(instance.Feed(ResourceFailure{"store is full"}),
              ElementsAre("Emit(resource-failure store is full)"));
}

}  // namespace
}  // namespace holdfast::launcher

// The whole of Step(): from the first state, every event is tried in every
// state that can be reached; the result is compared with the golden table, and
// every reached state and transition with what must always hold.

#include <cstdlib>
#include <deque>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/supervisor.h"
#include "launcher/supervisor_text.h"

namespace holdfast::launcher {
namespace {

struct Named {
  std::string name;
  Event event;
};

// Every event, with the children that it can speak of.
std::vector<Named> EventsFor(const Supervision& s) {
  const ChildNumber stranger = s.next_child + 100;
  return {
      {"SpecAccepted", SpecAccepted{}},
      {"Adopted(none)", Adopted{0, 0, false, s.next_child}},
      {"Adopted(active)", Adopted{91, 0, false, 93}},
      {"Adopted(active,spare)", Adopted{91, 92, true, 93}},
      {"Adopted(spare)", Adopted{0, 92, false, 93}},
      {"Adopted(dying)", Adopted{91, 92, false, 93, {}, false, {91, 92}}},
      {"ChildReady(spare)", ChildReady{s.spare}},
      {"ChildReady(stranger)", ChildReady{stranger}},
      {"Promoted(spare)", Promoted{s.spare}},
      {"Promoted(stranger)", Promoted{stranger}},
      {"ChildLost(active)", ChildLost{s.active}},
      {"ChildLost(spare)", ChildLost{s.spare}},
      {"ChildLost(stranger)", ChildLost{stranger}},
      {"StartFailed(spare)", StartFailed{s.spare, "why"}},
      {"StopRequested", StopRequested{}},
      {"RestartRequested", RestartRequested{}},
      {"TimerFired(back-off)", TimerFired{Timer::kBackOff}},
      {"TimerFired(start)", TimerFired{Timer::kStart}},
      {"TimerFired(stop)", TimerFired{Timer::kStop}},
      {"TimerFired(refill)", TimerFired{Timer::kRefill}},
      {"StoreLost", StoreLost{}},
      {"StoreBack", StoreBack{}},
      {"VmmConnected", VmmConnected{}},
      {"VmmGone", VmmGone{}},
      {"ResourceFailure", ResourceFailure{"why"}},
  };
}

// Children by role: the numbers differ from path to path.
std::string RoleText(const Action& action, const Supervision& before,
                     const Supervision& after) {
  std::string text = ActionText(action);
  const std::pair<ChildNumber, const char*> roles[] = {
      {before.active, "active"},
      {before.spare, "spare"},
      {after.active, "active"},
      {after.spare, "new"}};
  for (const auto& [child, role] : roles) {
    if (child == 0) continue;
    for (const char* end : {")", " "}) {
      for (const char* begin : {"(", " "}) {
        const std::string number = absl::StrCat(begin, child, end);
        const size_t at = text.find(number);
        if (at == std::string::npos) continue;
        return text.replace(at, number.size(), absl::StrCat(begin, role, end));
      }
    }
  }
  return text;
}

// What the crash budget will say to the next loss: part of the path, not of
// the shape, so each is explored on its own.
enum class Budget { kAtOnce, kDelay, kEmpty };

Supervision WithBudget(Supervision s, Budget budget) {
  RestartLimits limits;
  limits.budget = budget == Budget::kEmpty ? 1 : 0;
  limits.backoff_base = absl::Seconds(1);
  s.policy = RestartPolicy(limits, 3);
  if (budget != Budget::kAtOnce) s.policy.OnLoss(absl::ZeroDuration());
  return s;
}

std::string TransitionText(const Supervision& before,
                           const StepResult& result) {
  std::vector<std::string> actions;
  for (const Action& action : result.actions) {
    std::string text = RoleText(action, before, result.next);
    // The jitter is restart_policy's business.
    if (text.rfind("ArmTimer(back-off", 0) == 0) text = "ArmTimer(back-off)";
    actions.push_back(text);
  }
  return absl::StrCat(ShapeText(result.next), " | ",
                      absl::StrJoin(actions, ", "));
}

class Exploration {
 public:
  Exploration() {
    Visit(Supervision());
    while (!todo_.empty()) {
      const Supervision state = todo_.front();
      todo_.pop_front();
      Expand(state);
    }
  }
  const std::vector<std::string>& lines() const { return lines_; }
  const std::vector<std::pair<Supervision, StepResult>>& transitions() const {
    return transitions_;
  }

 private:
  void Visit(const Supervision& state) {
    if (seen_.emplace(ShapeText(state), 0).second) todo_.push_back(state);
  }

  void Expand(const Supervision& state) {
    lines_.push_back(absl::StrCat("== ", ShapeText(state)));
    std::vector<std::string> ignored;
    for (const Named& named : EventsFor(state)) {
      std::string last;
      for (Budget budget : {Budget::kAtOnce, Budget::kDelay, Budget::kEmpty}) {
        Supervision from = WithBudget(state, budget);
        from.vmm_connected = named.name == "VmmGone";
        const StepResult result =
            Step(from, named.event, absl::Milliseconds(1));
        transitions_.emplace_back(from, result);
        Visit(result.next);
        const std::string text = TransitionText(from, result);
        if (text == last) continue;
        last = text;
        if (result.actions.empty() && text == ShapeText(from) + " | ") {
          ignored.push_back(named.name);
        } else {
          const char* note = budget == Budget::kAtOnce  ? ""
                             : budget == Budget::kDelay ? " [delay]"
                                                        : " [no budget]";
          lines_.push_back(absl::StrCat("  ", named.name, note, " -> ", text));
        }
      }
    }
    lines_.push_back(absl::StrCat("  ignored: ", absl::StrJoin(ignored, " ")));
  }

  std::map<std::string, int> seen_;
  std::deque<Supervision> todo_;
  std::vector<std::string> lines_;
  std::vector<std::pair<Supervision, StepResult>> transitions_;
};

// Explored once; a range-based for needs something that outlives it.
const Exploration& Whole() {
  static const Exploration* const whole = new Exploration;
  return *whole;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// To accept a change: HOLDFAST_UPDATE_GOLDEN=<the file> and run the program.
TEST(SupervisorTable, EqualsTheGoldenTable) {
  const std::string table = absl::StrJoin(Whole().lines(), "\n") + "\n";
  if (const char* path = std::getenv("HOLDFAST_UPDATE_GOLDEN")) {
    std::ofstream(path) << table;
  }
  EXPECT_EQ(table, ReadFile("launcher/golden/supervisor_table.txt"));
}

template <typename T>
int Count(const Actions& actions) {
  int count = 0;
  for (const Action& action : actions) {
    if (std::holds_alternative<T>(action)) ++count;
  }
  return count;
}

bool Ended(const Supervision& s) {
  return s.state == State::kStopping || s.state == State::kStopped;
}

TEST(SupervisorTable, NobodyIsSpawnedAfterAStopOrWithoutAStore) {
  for (const auto& [before, result] : Whole().transitions()) {
    if (!Ended(result.next) && result.next.store_up) continue;
    EXPECT_EQ(Count<SpawnChild>(result.actions), 0) << ShapeText(before);
  }
}

TEST(SupervisorTable, StateAgreesWithTheChildren) {
  for (const auto& [before, result] : Whole().transitions()) {
    const Supervision& s = result.next;
    if (Ended(s)) continue;
    SCOPED_TRACE(absl::StrCat(ShapeText(before), " -> ", ShapeText(s)));
    EXPECT_EQ(s.active != 0, s.state == State::kRunning);
    const bool waits =
        s.state == State::kBackingOff || s.state == State::kQuarantined;
    EXPECT_TRUE(!waits || s.spare == 0);
    EXPECT_TRUE(!s.spare_ready || s.spare != 0);
  }
}

// Nothing waits for ever by mistake: whoever has no child and is not
// quarantined has one due at the store's return, or a timer.
TEST(SupervisorTable, WhoeverLacksAChildHasAWayToIt) {
  for (const auto& [before, result] : Whole().transitions()) {
    const Supervision& s = result.next;
    if (Ended(s) || s.active != 0 || s.spare != 0) continue;
    SCOPED_TRACE(absl::StrCat(ShapeText(before), " -> ", ShapeText(s)));
    EXPECT_TRUE(s.state == State::kQuarantined ||
                s.replacement == Replacement::kDelayed ||
                (s.replacement == Replacement::kDue && !s.store_up));
  }
}

TEST(SupervisorTable, PromotionIsHeldWheneverTheInstanceLeavesService) {
  for (const auto& [before, result] : Whole().transitions()) {
    const State to = result.next.state;
    if (to == before.state) continue;
    if (to != State::kStopping && to != State::kQuarantined) continue;
    EXPECT_GE(Count<HoldPromotion>(result.actions), 1)
        << ShapeText(before) << " -> " << ShapeText(result.next);
  }
}

TEST(SupervisorTable, NothingButItsOwnEventsDependsOnTheVmm) {
  for (auto [before, result] : Whole().transitions()) {
    for (const Named& named : EventsFor(before)) {
      if (named.name.rfind("Vmm", 0) == 0) continue;
      before.vmm_connected = false;
      const StepResult without = Step(before, named.event, absl::Seconds(1));
      before.vmm_connected = true;
      const StepResult with = Step(before, named.event, absl::Seconds(1));
      ASSERT_EQ(TransitionText(before, without), TransitionText(before, with));
    }
  }
}

TEST(SupervisorTable, EveryStopReachesTheEnd) {
  for (const auto& [before, unused] : Whole().transitions()) {
    Supervision s = Step(before, StopRequested{}, absl::Seconds(1)).next;
    for (ChildNumber child : {s.spare, s.active}) {
      s = Step(std::move(s), ChildLost{child}, absl::Seconds(1)).next;
    }
    EXPECT_EQ(s.state, State::kStopped) << ShapeText(before);
  }
}

TEST(SupervisorTable, EveryStateOfTheHeaderIsReached) {
  std::map<State, int> reached;
  for (const auto& [before, result] : Whole().transitions()) {
    ++reached[result.next.state];
  }
  EXPECT_EQ(reached.size(), static_cast<size_t>(kStateCount));
}

}  // namespace
}  // namespace holdfast::launcher

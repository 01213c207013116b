#include "statestore/store/promotion.h"

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

constexpr Member kMembers[] = {Member::kNone,    Member::kStarting,
                               Member::kStandby, Member::kActive,
                               Member::kDying,   Member::kActiveDying};
constexpr const char* kMemberNames[] = {"none",   "starting", "standby",
                                        "active", "dying",    "active-dying"};
constexpr Stimulus kStimuli[] = {Stimulus::kAdded,  Stimulus::kAddedActive,
                                 Stimulus::kReady,  Stimulus::kKilled,
                                 Stimulus::kFenced, Stimulus::kHold,
                                 Stimulus::kRelease};
constexpr const char* kStimulusNames[] = {
    "added", "added-active", "ready", "killed", "fenced", "hold", "release"};

const char* Name(Member member) {
  return kMemberNames[static_cast<size_t>(member)];
}
const char* Name(Stimulus stimulus) {
  return kStimulusNames[static_cast<size_t>(stimulus)];
}

bool IsActive(Member member) {
  return member == Member::kActive || member == Member::kActiveDying;
}

PromotionState Make(Member a, Member b, bool held) {
  PromotionState state;
  state.members[0] = a;
  state.members[1] = b;
  // The second was ready first, so that order and place differ.
  state.ready_order[0] = 2;
  state.ready_order[1] = 1;
  state.next_ready = 3;
  state.held = held;
  return state;
}

std::string Row(Member a, Member b, bool held, Stimulus stimulus) {
  PromotionState state = Make(a, b, held);
  const Decision decision = Step(state, stimulus, 0);
  std::ostringstream row;
  row << Name(a) << ' ' << Name(b) << (held ? " held" : "") << " + "
      << Name(stimulus) << " -> ";
  if (decision.accepted) {
    row << Name(state.members[0]) << ' ' << Name(state.members[1])
        << (state.held ? " held" : "");
  } else {
    row << "refused";
  }
  if (decision.promote >= 0) row << ", promote " << decision.promote;
  row << '\n';
  return row.str();
}

std::string Table() {
  std::string table;
  for (Member a : kMembers) {
    for (Member b : kMembers) {
      if (IsActive(a) && IsActive(b)) continue;  // Cannot be: see below.
      for (bool held : {false, true}) {
        for (Stimulus stimulus : kStimuli) table += Row(a, b, held, stimulus);
      }
    }
  }
  return table;
}

// Every event in every state of two members; the event is about the first. In
// the difference that a failure prints, the lines with '-' are the new file.
TEST(Promotion, TableIsTheGoldenOne) {
  std::ifstream file("statestore/store/golden/promotion.txt");
  const std::string golden((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
  EXPECT_EQ(Table(), golden);
}

TEST(Promotion, RefusalChangesNothing) {
  for (Member a : kMembers) {
    for (Stimulus stimulus : kStimuli) {
      PromotionState state = Make(a, Member::kNone, true);
      const PromotionState before = state;
      if (Step(state, stimulus, 0).accepted) continue;
      EXPECT_EQ(state.members[0], before.members[0]);
      EXPECT_EQ(state.epoch, before.epoch);
      EXPECT_EQ(state.held, before.held);
    }
  }
}

TEST(Promotion, MemberBeyondTheTableIsRefused) {
  PromotionState state;
  EXPECT_FALSE(Step(state, Stimulus::kAdded, kMaxChildrenPerInstance).accepted);
}

// States, as members and hold, that can be reached from an empty instance.
using Reached = std::set<std::pair<std::vector<Member>, bool>>;

void Explore(const PromotionState& state, Reached& reached) {
  const std::vector<Member> members(std::begin(state.members),
                                    std::end(state.members));
  if (!reached.insert({members, state.held}).second) return;
  for (Stimulus stimulus : kStimuli) {
    for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
      PromotionState next = state;
      Step(next, stimulus, i);
      Explore(next, reached);
    }
  }
}

int CountActive(const std::vector<Member>& members) {
  int count = 0;
  for (Member member : members) count += IsActive(member) ? 1 : 0;
  return count;
}

TEST(Promotion, NeverTwoActiveInAnyReachableState) {
  Reached reached;
  Explore(PromotionState(), reached);
  EXPECT_GT(reached.size(), 500u);
  for (const auto& [members, held] : reached) {
    EXPECT_LE(CountActive(members), 1);
  }
}

TEST(Promotion, NeverAReadyStandbyWithoutAnActiveOneUnlessHeld) {
  Reached reached;
  Explore(PromotionState(), reached);
  for (const auto& [members, held] : reached) {
    bool standby = false;
    for (Member member : members) standby |= member == Member::kStandby;
    EXPECT_TRUE(held || !standby || CountActive(members) == 1);
  }
}

// The active one was killed, which proves nothing: the standby must wait.
TEST(Promotion, KillAloneDoesNotPromote) {
  PromotionState state = Make(Member::kActive, Member::kStandby, false);
  EXPECT_EQ(Step(state, Stimulus::kKilled, 0).promote, Decision::kNobody);
  EXPECT_EQ(Step(state, Stimulus::kFenced, 0).promote, 1);
}

TEST(Promotion, EpochCountsPromotionsOnly) {
  PromotionState state;
  Step(state, Stimulus::kAdded, 0);
  EXPECT_EQ(state.epoch, 0u);
  Step(state, Stimulus::kReady, 0);
  EXPECT_EQ(state.epoch, 1u);
  Step(state, Stimulus::kFenced, 0);
  Step(state, Stimulus::kAdded, 0);
  EXPECT_EQ(state.epoch, 1u);
}

TEST(Promotion, ReadyFirstGoesFirst) {
  PromotionState state;
  state.held = true;
  for (size_t i : {0, 1, 2}) Step(state, Stimulus::kAdded, i);
  for (size_t i : {2, 0, 1}) Step(state, Stimulus::kReady, i);
  EXPECT_EQ(Step(state, Stimulus::kRelease, 0).promote, 2);
}

}  // namespace
}  // namespace holdfast::store

#include "statestore/store/promotion.h"

namespace holdfast::store {
namespace {

// The state that `member` takes, or itself when the event makes no sense.
Member Next(const PromotionState& state, Stimulus stimulus, Member member) {
  switch (stimulus) {
    case Stimulus::kAdded:
      return member == Member::kNone ? Member::kStarting : member;
    case Stimulus::kAddedActive:
      return member == Member::kNone && ActiveMember(state) == Decision::kNobody
                 ? Member::kActive
                 : member;
    case Stimulus::kReady:
      return member == Member::kStarting ? Member::kStandby : member;
    case Stimulus::kKilled:
      if (member == Member::kActive) return Member::kActiveDying;
      return member == Member::kStarting || member == Member::kStandby
                 ? Member::kDying
                 : member;
    case Stimulus::kFenced:
      return Member::kNone;
    case Stimulus::kHold:
    case Stimulus::kRelease:
      break;
  }
  return member;
}

int BestReady(const PromotionState& state) {
  int best = Decision::kNobody;
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (state.members[i] != Member::kStandby) continue;
    const bool better = best == Decision::kNobody ||
                        (state.behind[i] == state.behind[best]
                             ? state.ready_order[i] < state.ready_order[best]
                             : state.behind[best]);
    if (better) best = static_cast<int>(i);
  }
  return best;
}

int Promote(PromotionState& state) {
  if (state.held || state.awaited || ActiveMember(state) != Decision::kNobody) {
    return Decision::kNobody;
  }
  const int chosen = BestReady(state);
  if (chosen != Decision::kNobody) {
    state.members[chosen] = Member::kActive;
    ++state.epoch;
  }
  return chosen;
}

}  // namespace

int ActiveMember(const PromotionState& state) {
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (state.members[i] == Member::kActive ||
        state.members[i] == Member::kActiveDying) {
      return static_cast<int>(i);
    }
  }
  return Decision::kNobody;
}

Decision Step(PromotionState& state, Stimulus stimulus, size_t member) {
  Decision decision;
  if (stimulus == Stimulus::kHold || stimulus == Stimulus::kRelease) {
    decision.accepted = true;
    state.held = stimulus == Stimulus::kHold;
  } else {
    if (member >= kMaxChildrenPerInstance) return decision;
    const Member next = Next(state, stimulus, state.members[member]);
    if (next == state.members[member]) return decision;
    decision.accepted = true;
    state.members[member] = next;
    if (next == Member::kStandby) {
      state.ready_order[member] = state.next_ready++;
    }
  }
  decision.promote = Promote(state);
  return decision;
}

}  // namespace holdfast::store

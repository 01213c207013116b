#ifndef HOLDFAST_STATESTORE_STORE_PROMOTION_H_
#define HOLDFAST_STATESTORE_STORE_PROMOTION_H_

// Who of an instance's children is promoted, and when. Pure: Step() decides
// every (state, event) pair; golden/promotion.txt is the complete table.
//
//            kAdded           kReady             (nobody active, not held)
//   kNone ----------> kStarting ----> kStandby ------------------> kActive
//     ^                   |               |                           |
//     |                   | kKilled       | kKilled           kKilled |
//     |       kFenced     v               v                           v
//     +------------------ kDying <--------+                   kActiveDying
//     +-------------------------------------------------------------- +
// kFenced leads back to kNone from every member state.
//
// Two members are never active together: a successor is chosen only while no
// member is kActive or kActiveDying, and only kFenced, the proof of death, ends
// those; and none is chosen while a child of an older store is awaited.

#include <cstddef>
#include <cstdint>

#include "statestore/store/protocol.h"

namespace holdfast::store {

enum class Member : uint8_t {
  kNone,
  kStarting,     // Present, not ready.
  kStandby,      // Parked and complete.
  kActive,       // Serves the VMM.
  kDying,        // SIGKILL was sent to one that is not active; not yet fenced.
  kActiveDying,  // The same for the active one.
};

enum class Stimulus : uint8_t {
  kAdded,
  kAddedActive,  // It was active under an older store.
  kReady,
  kKilled,
  kFenced,
  kHold,     // Of the instance: `member` means nothing.
  kRelease,  // Likewise.
};

struct PromotionState {
  Member members[kMaxChildrenPerInstance] = {};
  uint64_t ready_order[kMaxChildrenPerInstance] = {};
  uint64_t next_ready = 1;
  // It does not know all that it was to be told yet: others are better.
  bool behind[kMaxChildrenPerInstance] = {};
  uint64_t epoch = 0;  // Counts promotions.
  bool held = false;
  // A child of an older store has not said yet what it holds. It may be active
  // without this store's knowledge, or the only one that is complete.
  bool awaited = false;
};

struct Decision {
  static constexpr int kNobody = -1;
  bool accepted = false;  // The event made sense in this state and took effect.
  int promote = kNobody;  // This member is active now, under the new epoch.
};

// Whether the store has not killed or lost it.
constexpr bool IsPresent(Member member) {
  return member == Member::kStarting || member == Member::kStandby ||
         member == Member::kActive;
}

// Index of the member that is kActive or kActiveDying, or Decision::kNobody.
int ActiveMember(const PromotionState& state);

// Applies one event. A promotion takes the standby that was ready first, of
// those that are not behind if there is one. An
// event that makes no sense changes nothing and is not accepted.
Decision Step(PromotionState& state, Stimulus stimulus, size_t member);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_PROMOTION_H_

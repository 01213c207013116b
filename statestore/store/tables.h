#ifndef HOLDFAST_STATESTORE_STORE_TABLES_H_
#define HOLDFAST_STATESTORE_STORE_TABLES_H_

// The store's whole memory: instances, their children and their slots, in
// arrays of fixed size. Pure: descriptors are numbers here.

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>

#include "statestore/store/actions.h"
#include "statestore/store/backlog.h"
#include "statestore/store/promotion.h"
#include "statestore/store/protocol.h"

namespace holdfast::store {

struct Child {
  ChildId id = 0;  // 0: this place is free.
  uint32_t generation = 0;
  uint32_t pid = 0;
  bool depositing = false;     // Re-attached and not yet kReady.
  uint64_t owes = 0;           // arg0 of the kSync that it has to answer.
  Backlog backlog;             // What it has not been sent, if anything.
  Handle channel = kNoHandle;  // Its store channel, our end.
  Handle pidfd = kNoHandle;
  Handle control = kNoHandle;   // Kept for a new launcher, never used.
  Handle listener = kNoHandle;  // Seccomp listener, for its HUP alone.
};

// More are closed at once. As many as keep the descriptors of all instances
// within the 8192 that the launcher allows.
inline constexpr size_t kMaxLingering = 40;

struct Instance {
  InstanceId id = 0;  // 0: this place is free.
  uint32_t generation = 0;
  bool seccomp_fence = false;  // The listener's HUP is the fence; else pidfd.
  bool listening = false;      // `listener` is being watched.
  bool vmm_waits = false;      // A VMM waits for the end of another's session.
  bool vmm_refused = false;    // One waits since accept4() failed; it was told.
  bool paused = false;         // `listener` is not watched because of that.
  char name[kMaxNameSize] = {};
  Handle segment = kNoHandle;
  Handle blob = kNoHandle;
  Handle listener = kNoHandle;
  std::array<Handle, kSlotCount> slots;
  // Slots of which an active child (of the connection also the store itself)
  // has said in this store what they hold: no re-attached standby knows better.
  std::bitset<kSlotCount> spoken;
  uint64_t connection = 0;  // Number of the last connection in slot 0.
  // Closed but for children that may still have it mapped: see kSync.
  std::array<Handle, kMaxLingering> lingering;
  size_t lingering_count = 0;
  uint64_t last_sync = 0;
  uint64_t death_ns = 0;  // Of the last active child, until it has a heir.
  PromotionState promotion;
  std::array<Child, kMaxChildrenPerInstance> children;

  Instance() {
    slots.fill(kNoHandle);
    lingering.fill(kNoHandle);
  }
};

class Tables {
 public:
  // The instance, or nullptr when there is none.
  Instance* Find(InstanceId id);
  // A free place under a new generation, or nullptr: as many are there as may
  // be.
  Instance* Allocate(InstanceId id);
  // At most kMaxInstances, which is the default.
  void LimitInstances(size_t limit) { limit_ = limit; }
  // The instance that `key` was made for, or nullptr.
  Instance* Find(Key key);
  // Likewise its child; for keys of a child's descriptors.
  Child* FindChild(Key key);

  // The place with this number, below kMaxInstances; used or not.
  Instance& At(size_t index) { return instances_[index]; }
  size_t IndexOf(const Instance& instance) const {
    return static_cast<size_t>(&instance - instances_.data());
  }
  Key KeyOf(const Instance& instance) const;
  Key KeyOf(const Instance& instance, size_t child, Watch watch) const;

  uint32_t NextGeneration() { return ++generation_; }
  const std::array<Instance, kMaxInstances>& instances() const {
    return instances_;
  }

 private:
  std::array<Instance, kMaxInstances> instances_;
  uint32_t generation_ = 0;
  size_t limit_ = kMaxInstances;
};

// An event of `instance` for the launcher, to be filled in.
Action& Tell(Type type, const Instance& instance, ActionList& actions);

// Index of the child in `instance`, or Decision::kNobody.
int FindChild(const Instance& instance, ChildId id);

// Index of a free place, or Decision::kNobody.
int FreeChild(const Instance& instance);

// The descriptor of `child` whose event proves its death, and how it is
// watched.
Handle FenceOf(const Instance& instance, const Child& child);
Watch FenceWatch(const Instance& instance);

// Whether a re-attached child may still deposit something.
bool AnyDepositing(const Instance& instance);

// Position of an iteration over everything for kHello.
struct Cursor {
  uint32_t instance = 0;
  uint32_t step = 0;
};

// The next message of the inventory at or after `cursor`, as a kTell action
// whose descriptors are lent; moves `cursor` behind it. False: there is no
// more. Carrying it over several calls while the tables change is safe: what
// changed behind the cursor is told by the events.
bool NextInventory(const Tables& tables, Cursor& cursor, Action& action);

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_TABLES_H_

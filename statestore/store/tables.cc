#include "statestore/store/tables.h"

#include <algorithm>
#include <cstring>

namespace holdfast::store {
namespace {

constexpr uint32_t kFirstSlotStep = 1 + kMaxChildrenPerInstance;
constexpr uint32_t kStepCount = kFirstSlotStep + kSlotEndResource;

ChildState StateOf(Member member) {
  switch (member) {
    case Member::kActive:
    case Member::kActiveDying:
      return ChildState::kActive;
    case Member::kStandby:
      return ChildState::kStandby;
    default:
      return ChildState::kStarting;
  }
}

void DescribeInstance(const Instance& instance, Action& action) {
  Message& m = action.message;
  m.type = Type::kInstanceInfo;
  std::memcpy(m.name, instance.name, sizeof(m.name));
  m.arg0 = instance.promotion.epoch;
  const int active = ActiveMember(instance.promotion);
  m.arg1 = active == Decision::kNobody ? 0 : instance.children[active].id;
  m.arg2 = instance.promotion.held ? 1 : 0;
  action.fds[0] = instance.segment;
  action.fds[1] = instance.blob;
}

void DescribeChild(const Child& child, Member member, Action& action) {
  Message& m = action.message;
  m.type = Type::kChildInfo;
  m.child = child.id;
  m.arg0 = child.pid;
  m.arg1 = static_cast<uint64_t>(StateOf(member));
  m.arg2 = IsPresent(member) ? 0 : 1;
  action.fds[0] = child.control;
  action.fds[1] = child.pidfd;
}

// Whether there is something to say about `instance` at `step`.
bool Describe(const Instance& instance, uint32_t step, Action& action) {
  action = Action();
  action.kind = Action::Kind::kTell;
  action.message.instance = instance.id;
  if (step == 0) {
    DescribeInstance(instance, action);
    return true;
  }
  if (step < kFirstSlotStep) {
    const Child& child = instance.children[step - 1];
    if (child.id == 0) return false;
    DescribeChild(child, instance.promotion.members[step - 1], action);
    return true;
  }
  const Slot slot = static_cast<Slot>(step - kFirstSlotStep);
  if (instance.slots[slot] == kNoHandle) return false;
  action.message.type = Type::kSlotInfo;
  action.message.slot = slot;
  if (slot == kSlotConnection) action.message.arg0 = instance.connection;
  return true;
}

}  // namespace

Instance* Tables::Find(InstanceId id) {
  if (id == 0) return nullptr;
  for (Instance& instance : instances_) {
    if (instance.id == id) return &instance;
  }
  return nullptr;
}

Instance* Tables::Allocate(InstanceId id) {
  for (size_t i = 0; i < std::min(limit_, kMaxInstances); ++i) {
    Instance& instance = instances_[i];
    if (instance.id != 0) continue;
    instance = Instance();
    instance.id = id;
    instance.generation = NextGeneration();
    return &instance;
  }
  return nullptr;
}

Instance* Tables::Find(Key key) {
  if (key.instance >= kMaxInstances) return nullptr;
  Instance& instance = instances_[key.instance];
  if (instance.id == 0) return nullptr;
  if (key.watch == Watch::kVmmListener &&
      instance.generation != key.generation) {
    return nullptr;
  }
  return &instance;
}

Child* Tables::FindChild(Key key) {
  Instance* instance = Find(key);
  if (instance == nullptr || key.child >= kMaxChildrenPerInstance) {
    return nullptr;
  }
  Child& child = instance->children[key.child];
  return child.id != 0 && child.generation == key.generation ? &child : nullptr;
}

Key Tables::KeyOf(const Instance& instance) const {
  return {Watch::kVmmListener, static_cast<uint8_t>(IndexOf(instance)), 0,
          instance.generation};
}

Key Tables::KeyOf(const Instance& instance, size_t child, Watch watch) const {
  return {watch, static_cast<uint8_t>(IndexOf(instance)),
          static_cast<uint8_t>(child), instance.children[child].generation};
}

Action& Tell(Type type, const Instance& instance, ActionList& actions) {
  Action& action = actions.Add(Action::Kind::kTell);
  action.message.type = type;
  action.message.instance = instance.id;
  return action;
}

int FindChild(const Instance& instance, ChildId id) {
  if (id == 0) return Decision::kNobody;
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (instance.children[i].id == id) return static_cast<int>(i);
  }
  return Decision::kNobody;
}

int FreeChild(const Instance& instance) {
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (instance.children[i].id == 0) return static_cast<int>(i);
  }
  return Decision::kNobody;
}

Handle FenceOf(const Instance& instance, const Child& child) {
  return instance.seccomp_fence ? child.listener : child.pidfd;
}

Watch FenceWatch(const Instance& instance) {
  return instance.seccomp_fence ? Watch::kListener : Watch::kPidfd;
}

bool AnyDepositing(const Instance& instance) {
  return std::any_of(instance.children.begin(), instance.children.end(),
                     [](const Child& c) { return c.id != 0 && c.depositing; });
}

bool NextInventory(const Tables& tables, Cursor& cursor, Action& action) {
  while (cursor.instance < kMaxInstances) {
    const Instance& instance = tables.instances()[cursor.instance];
    while (instance.id != 0 && cursor.step < kStepCount) {
      if (Describe(instance, cursor.step++, action)) return true;
    }
    ++cursor.instance;
    cursor.step = 0;
  }
  return false;
}

}  // namespace holdfast::store

// Children that do not read as fast as there is something to tell them.

#include "statestore/store/escrow.h"

namespace holdfast::store {

bool Escrow::IsBehind(Key key) {
  const Child* child = tables_.FindChild(key);
  return child != nullptr && !child->backlog.empty();
}

bool Escrow::Defer(const Action& action, uint64_t now) {
  Child* child = tables_.FindChild(action.key);
  if (child == nullptr) return false;
  const bool was_behind = !child->backlog.empty();
  if (!child->backlog.Add(action.message, now)) return false;
  if (!was_behind) ++behind_;
  return true;
}

bool Escrow::NextFor(Key key, Action& action) {
  if (!IsBehind(key)) return false;
  const Instance& instance = *tables_.Find(key);
  const Child& child = instance.children[key.child];
  const Message next = child.backlog.Next();
  action = Action();
  action.kind = Action::Kind::kSend;
  action.key = tables_.KeyOf(instance, key.child, Watch::kChannel);
  action.handle = child.channel;
  action.message = next;
  if (next.type == Type::kForward) {
    action.fds[0] = instance.slots[next.slot];
    if (next.slot == kSlotConnection) {
      action.message.arg0 = instance.connection;
    }
  } else if (next.type == Type::kSync) {
    // All slots have been told of: it may let go of whatever is empty now.
    for (Slot slot = kSlotFirstSession; slot < kSlotEndSession; ++slot) {
      if (instance.slots[slot] == kNoHandle) continue;
      action.message.bitmap[slot / 64] |= uint64_t{1} << (slot % 64);
    }
    action.message.arg0 = child.owes;
  }
  return true;
}

void Escrow::OnTaken(Key key, const Message& message, uint64_t now) {
  if (!IsBehind(key)) return;
  Backlog& backlog = tables_.FindChild(key)->backlog;
  backlog.Taken(message, now);
  if (backlog.empty()) --behind_;
}

void Escrow::OnSilence(uint64_t now, ActionList& actions) {
  for (size_t i = 0; i < kMaxInstances && anyone_behind(); ++i) {
    Instance& instance = tables_.At(i);
    for (size_t j = 0; j < kMaxChildrenPerInstance; ++j) {
      if (instance.children[j].backlog.Expired(now)) {
        Punish({instance, j}, Error::kLimit, actions);
      }
    }
  }
}

void Escrow::Forget(Child& child) {
  if (!child.backlog.empty()) --behind_;
  child.backlog = Backlog();
}

}  // namespace holdfast::store

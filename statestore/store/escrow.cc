// What requests of the launcher, messages of children and deaths have in
// common; escrow_launcher.cc and escrow_children.cc have those.

#include "statestore/store/escrow.h"

#include <algorithm>
#include <cstring>

namespace holdfast::store {

Action& Escrow::Send(const Instance& instance, size_t index, Type type,
                     ActionList& actions) {
  Action& action = actions.Add(Action::Kind::kSend);
  action.handle = instance.children[index].channel;
  action.key = tables_.KeyOf(instance, index, Watch::kChannel);
  action.message.type = type;
  return action;
}

void Escrow::Forward(const Instance& instance, Slot slot, size_t index,
                     ActionList& actions) {
  Action& action = Send(instance, index, Type::kForward, actions);
  action.message.slot = slot;
  action.fds[0] = instance.slots[slot];
  if (slot == kSlotConnection) action.message.arg0 = instance.connection;
}

void Escrow::Put(Instance& instance, Slot slot, Handle handle, int depositor,
                 ActionList& actions) {
  Handle old = instance.slots[slot];
  instance.slots[slot] = handle;
  const int active = ActiveMember(instance.promotion);
  if (depositor != Decision::kNobody && depositor == active) {
    instance.spoken.set(slot);
  }
  // The active one first: a new connection is waiting for it.
  for (size_t turn = 0; turn <= kMaxChildrenPerInstance; ++turn) {
    const int index = turn == 0 ? active : static_cast<int>(turn) - 1;
    if (index < 0 || index == depositor || (turn != 0 && index == active) ||
        !IsPresent(instance.promotion.members[index])) {
      continue;
    }
    Forward(instance, slot, index, actions);
  }
  if (handle == kNoHandle && old != kNoHandle && IsSession(slot) &&
      instance.lingering_count < kMaxLingering) {
    instance.lingering[instance.lingering_count++] = old;
  } else {
    Close(old, actions, CloserOf(slot));
  }
  if (slot == kSlotConnection) UpdateListening(instance, actions);
}

void Escrow::Fill(Place from, Slot slot, Handle handle, ActionList& actions) {
  Instance& instance = from.instance;
  Handle old = instance.slots[slot];
  instance.slots[slot] = handle;
  const int active = ActiveMember(instance.promotion);
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (i != from.index && static_cast<int>(i) != active &&
        IsPresent(instance.promotion.members[i])) {
      Forward(instance, slot, i, actions);
    }
  }
  Close(old, actions, CloserOf(slot));
}

void Escrow::SyncOthers(Place from, const uint64_t (&bitmap)[kSlotCount / 64],
                        ActionList& actions) {
  Instance& instance = from.instance;
  const bool ask = instance.lingering_count != 0;
  if (ask) ++instance.last_sync;
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (i == from.index || !IsPresent(instance.promotion.members[i])) continue;
    Message& sync = Send(instance, i, Type::kSync, actions).message;
    std::memcpy(sync.bitmap, bitmap, sizeof(sync.bitmap));
    if (!ask) continue;
    sync.arg0 = instance.last_sync;
    instance.children[i].owes = instance.last_sync;
  }
}

void Escrow::Settle(Instance& instance, ActionList& actions) {
  if (instance.lingering_count == 0) return;
  for (const Child& child : instance.children) {
    if (child.owes != 0) return;
  }
  for (size_t i = 0; i < instance.lingering_count; ++i) {
    Close(instance.lingering[i], actions, Closer::kApart);
  }
  instance.lingering_count = 0;
}

Decision Escrow::Apply(Instance& instance, Stimulus stimulus, size_t index,
                       ActionList& actions) {
  instance.promotion.awaited = AnyDepositing(instance);
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    instance.promotion.behind[i] = !instance.children[i].backlog.empty();
  }
  const Decision decision = Step(instance.promotion, stimulus, index);
  if (decision.promote != Decision::kNobody) {
    Action& action = Send(instance, decision.promote, Type::kPromote, actions);
    action.message.arg0 = instance.promotion.epoch;
    action.message.arg1 = instance.death_ns;
  }
  return decision;
}

void Escrow::TellPromoted(Instance& instance, int promoted,
                          ActionList& actions) {
  if (promoted == Decision::kNobody) return;
  Action& action = Tell(Type::kPromoted, instance, actions);
  action.stamp = Action::Stamp::kPromotedAt;
  action.message.child = instance.children[promoted].id;
  action.message.arg0 = instance.promotion.epoch;
  action.message.arg2 = instance.death_ns;
  instance.death_ns = 0;
}

void Escrow::Kill(Place victim, ActionList& actions) {
  actions.Add(Action::Kind::kKill).handle = victim.child().pidfd;
  Unwatch(victim.child().channel,
          tables_.KeyOf(victim.instance, victim.index, Watch::kChannel),
          actions);
  Forget(victim.child());
  Apply(victim.instance, Stimulus::kKilled, victim.index, actions);
}

void Escrow::Punish(Place culprit, Error error, ActionList& actions) {
  Kill(culprit, actions);
  Action& event = Tell(Type::kChildMisbehaved, culprit.instance, actions);
  event.stamp = error == Error::kNone ? Action::Stamp::kIfKillFailed
                                      : Action::Stamp::kKillErrno;
  event.message.child = culprit.child().id;
  event.message.arg0 = static_cast<uint64_t>(error);
}

void Escrow::UpdateListening(Instance& instance, ActionList& actions) {
  const bool taken = instance.slots[kSlotConnection] != kNoHandle;
  instance.vmm_waits = instance.vmm_waits && taken;
  // While a re-attached child may still deposit the connection, nobody else
  // may take its place.
  const bool wanted = instance.listener != kNoHandle && !instance.vmm_waits &&
                      !instance.paused && !AnyDepositing(instance);
  if (wanted == instance.listening) return;
  instance.listening = wanted;
  const Key key = tables_.KeyOf(instance);
  wanted ? WatchHandle(instance.listener, key, actions)
         : Unwatch(instance.listener, key, actions);
}

void Escrow::SetPaused(Instance& instance, bool paused) {
  if (instance.paused != paused) paused ? ++paused_ : --paused_;
  instance.paused = paused;
}

void Escrow::SetConnection(Instance& instance, Handle vmm, uint64_t now,
                           ActionList& actions) {
  instance.connection = std::max(now, instance.connection + 1);
  instance.spoken.set(kSlotConnection);
  Put(instance, kSlotConnection, vmm, Decision::kNobody, actions);
}

Handle Escrow::ChannelOf(Key key) {
  const Child* child = tables_.FindChild(key);
  return child == nullptr ? kNoHandle : child->channel;
}

}  // namespace holdfast::store

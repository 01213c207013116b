#include "statestore/store/escrow.h"

#include <algorithm>
#include <cstring>

namespace holdfast::store {
namespace {

bool IsPresent(Member member) {
  return member == Member::kStarting || member == Member::kStandby ||
         member == Member::kActive;
}

Action& Tell(Type type, const Instance& instance, ActionList& actions) {
  Action& action = actions.Add(Action::Kind::kTell);
  action.message.type = type;
  action.message.instance = instance.id;
  return action;
}

bool InBitmap(const Message& message, Slot slot) {
  return (message.bitmap[slot / 64] >> (slot % 64) & 1) != 0;
}

}  // namespace

// ---- what both sides use ----

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
  // The active one first: a new connection is waiting for it.
  for (size_t turn = 0; turn <= kMaxChildrenPerInstance; ++turn) {
    const int index = turn == 0 ? active : static_cast<int>(turn) - 1;
    if (index < 0 || index == depositor || (turn != 0 && index == active) ||
        !IsPresent(instance.promotion.members[index])) {
      continue;
    }
    Forward(instance, slot, index, actions);
  }
  Close(old, actions);
}

Decision Escrow::Apply(Instance& instance, Stimulus stimulus, size_t index,
                       ActionList& actions) {
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
  // While a re-attached child may still deposit the connection, nobody else
  // may take its place.
  const bool wanted =
      instance.listener != kNoHandle && !AnyDepositing(instance);
  if (wanted == instance.listening) return;
  instance.listening = wanted;
  const Key key = tables_.KeyOf(instance);
  wanted ? WatchHandle(instance.listener, key, actions)
         : Unwatch(instance.listener, key, actions);
}

void Escrow::SetConnection(Instance& instance, Handle vmm, uint64_t now,
                           ActionList& actions) {
  instance.connection = std::max(now, instance.connection + 1);
  Put(instance, kSlotConnection, vmm, Decision::kNobody, actions);
}

Handle Escrow::ChannelOf(Key key) {
  const Child* child = tables_.FindChild(key);
  return child == nullptr ? kNoHandle : child->channel;
}

Handle Escrow::ListenerOf(Key key) {
  const Instance* instance = tables_.Find(key);
  return instance == nullptr ? kNoHandle : instance->listener;
}

// ---- the launcher ----

void Escrow::OnLauncher(Incoming incoming, uint64_t now, ActionList& actions) {
  Request request{incoming, incoming.message, now, actions};
  Error error = Check(incoming, Sender::kLauncher);
  // The place of the answer: before the closing of what it may still lend.
  if (error == Error::kNone) error = Dispatch(request);
  const Type type = request.message.type;
  if (error != Error::kNone ||
      (type != Type::kHello && type != Type::kGetDescriptor)) {
    Action& answer = actions.Add(Action::Kind::kTell);
    answer.message.type = error == Error::kNone ? Type::kOk : Type::kError;
    answer.message.tag = request.message.tag;
    answer.message.arg0 = static_cast<uint64_t>(error);
    if (type == Type::kKillChild && error == Error::kNone) {
      answer.stamp = Action::Stamp::kKillErrno;
    }
  }
  CloseRest(incoming, actions);
}

Error Escrow::Dispatch(Request& request) {
  const Message& message = request.message;
  if (message.type == Type::kHello) {
    request.actions.Add(Action::Kind::kInventory).message.arg0 = message.arg0;
    return Error::kNone;
  }
  if (message.type == Type::kCreateInstance) return CreateInstance(request);
  Instance* instance = tables_.Find(message.instance);
  if (instance == nullptr) return Error::kUnknown;
  switch (message.type) {
    case Type::kSetListener:
      return SetListener(*instance, request);
    case Type::kSetConnection:
      SetConnection(*instance, Take(request.incoming, 0), request.now,
                    request.actions);
      return Error::kNone;
    case Type::kSetResource:
      if (!IsResource(message.slot)) return Error::kBadMessage;
      Put(*instance, message.slot, Take(request.incoming, 0), Decision::kNobody,
          request.actions);
      return Error::kNone;
    case Type::kAddChild:
      return AddChild(*instance, request);
    case Type::kKillChild:
      return KillChild(*instance, request);
    case Type::kRemoveInstance:
      return RemoveInstance(*instance, request);
    case Type::kGetDescriptor:
      return GetDescriptor(*instance, request);
    case Type::kHoldPromotion:
      return Hold(*instance, request);
    case Type::kPutBlob:
      return PutBlob(*instance, request);
    default:
      return Error::kBadMessage;
  }
}

Error Escrow::CreateInstance(Request& request) {
  const Message& message = request.message;
  if (message.instance == 0) return Error::kBadMessage;
  if (tables_.Find(message.instance) != nullptr) return Error::kExists;
  Instance* instance = tables_.Allocate(message.instance);
  if (instance == nullptr) return Error::kLimit;
  instance->seccomp_fence = (message.arg0 & 1) != 0;
  std::memcpy(instance->name, message.name, sizeof(instance->name));
  instance->segment = Take(request.incoming, 0);
  return Error::kNone;
}

Error Escrow::SetListener(Instance& instance, Request& request) {
  if (instance.listening) {
    Unwatch(instance.listener, tables_.KeyOf(instance), request.actions);
    instance.listening = false;
  }
  Close(instance.listener, request.actions);
  instance.listener = Take(request.incoming, 0);
  UpdateListening(instance, request.actions);
  return Error::kNone;
}

Error Escrow::AddChild(Instance& instance, Request& request) {
  const Message& message = request.message;
  const bool active = (message.arg1 & kAddActive) != 0;
  if (message.child == 0) return Error::kBadMessage;
  if (FindChild(instance, message.child) != Decision::kNobody) {
    return Error::kExists;
  }
  if (active && ActiveMember(instance.promotion) != Decision::kNobody) {
    return Error::kExists;
  }
  const int index = FreeChild(instance);
  if (index == Decision::kNobody) return Error::kLimit;
  Child& child = instance.children[index];
  child = Child();
  child.id = message.child;
  child.generation = tables_.NextGeneration();
  child.pid = static_cast<uint32_t>(message.arg0);
  child.depositing = (message.arg1 & kAddReattached) != 0;
  child.channel = Take(request.incoming, 0);
  child.pidfd = Take(request.incoming, 1);
  child.control = Take(request.incoming, 2);
  child.listener = Take(request.incoming, 3);
  instance.promotion.epoch = std::max(instance.promotion.epoch, message.arg2);
  Apply(instance, active ? Stimulus::kAddedActive : Stimulus::kAdded, index,
        request.actions);
  WatchHandle(FenceOf(instance, child),
              tables_.KeyOf(instance, index, FenceWatch(instance)),
              request.actions);
  WatchHandle(child.channel, tables_.KeyOf(instance, index, Watch::kChannel),
              request.actions);
  UpdateListening(instance, request.actions);
  if (active) return Error::kNone;  // It knows more than this store does.
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    if (instance.slots[slot] == kNoHandle) continue;
    Forward(instance, slot, index, request.actions);
  }
  Send(instance, index, Type::kForwardDone, request.actions);
  return Error::kNone;
}

Error Escrow::KillChild(Instance& instance, Request& request) {
  const int index = FindChild(instance, request.message.child);
  if (index == Decision::kNobody) return Error::kUnknown;
  if (IsPresent(instance.promotion.members[index])) {
    Kill({instance, static_cast<size_t>(index)}, request.actions);
  } else {
    request.actions.Add(Action::Kind::kKill).handle =
        instance.children[index].pidfd;
  }
  return Error::kNone;
}

Error Escrow::RemoveInstance(Instance& instance, Request& request) {
  for (const Child& child : instance.children) {
    if (child.id != 0) return Error::kExists;
  }
  if (instance.listening) {
    Unwatch(instance.listener, tables_.KeyOf(instance), request.actions);
  }
  Close(instance.listener, request.actions);
  Close(instance.segment, request.actions);
  Close(instance.blob, request.actions);
  for (Handle& handle : instance.slots) Close(handle, request.actions);
  instance = Instance();
  return Error::kNone;
}

Error Escrow::GetDescriptor(Instance& instance, Request& request) {
  const Message& message = request.message;
  Handle found = kNoHandle;
  if (message.child != 0) {
    const int index = FindChild(instance, message.child);
    if (index == Decision::kNobody) return Error::kUnknown;
    if (message.arg0 > 2) return Error::kBadMessage;
    const Child& child = instance.children[index];
    const Handle choice[] = {child.control, child.pidfd, child.listener};
    found = choice[message.arg0];
  } else {
    found = instance.slots[message.slot];
  }
  if (found == kNoHandle) return Error::kUnknown;
  Action& answer = Tell(Type::kDescriptor, instance, request.actions);
  answer.message.tag = message.tag;
  answer.message.slot = message.slot;
  answer.message.child = message.child;
  answer.fds[0] = found;
  return Error::kNone;
}

Error Escrow::PutBlob(Instance& instance, Request& request) {
  Close(instance.blob, request.actions);
  instance.blob = Take(request.incoming, 0);
  return Error::kNone;
}

Error Escrow::Hold(Instance& instance, Request& request) {
  if (request.message.arg0 > 1) return Error::kBadMessage;
  const Decision decision =
      Apply(instance,
            request.message.arg0 == 1 ? Stimulus::kHold : Stimulus::kRelease, 0,
            request.actions);
  TellPromoted(instance, decision.promote, request.actions);
  return Error::kNone;
}

// ---- children ----

void Escrow::OnChild(Key key, Incoming incoming, uint64_t now,
                     ActionList& actions) {
  if (tables_.FindChild(key) == nullptr ||
      !IsPresent(tables_.Find(key)->promotion.members[key.child])) {
    CloseRest(incoming, actions);
    return;
  }
  const Place from{*tables_.Find(key), key.child};
  if (incoming.size == 0) {
    // A crash ends the stream too, so this alone is no misbehaviour to report.
    Punish(from, Error::kNone, actions);
    CloseRest(incoming, actions);
    return;
  }
  Request request{incoming, incoming.message, now, actions};
  Error error = Check(incoming, Sender::kChild);
  if (error == Error::kNone) error = DispatchChild(from, request);
  if (error != Error::kNone) Punish(from, error, actions);
  CloseRest(incoming, actions);
}

Error Escrow::DispatchChild(Place from, Request& request) {
  switch (request.message.type) {
    case Type::kEscrow:
      return Deposit(from, request);
    case Type::kRetain:
      return Retain(from, request);
    case Type::kReady:
      return Ready(from, request);
    case Type::kVmmClosed:
      return VmmClosed(from, request);
    default:
      return Error::kBadMessage;
  }
}

Error Escrow::Deposit(Place from, Request& request) {
  Instance& instance = from.instance;
  const Message& message = request.message;
  const int active = ActiveMember(instance.promotion);
  const bool owner =
      active == static_cast<int>(from.index) || active == Decision::kNobody;
  if (!from.child().depositing) {
    if (!IsSession(message.slot) && !IsDevice(message.slot)) {
      return Error::kBadMessage;
    }
    if (active != static_cast<int>(from.index) &&
        !(active == Decision::kNobody && IsDevice(message.slot))) {
      return Error::kNotActive;
    }
  }
  // Of two re-attached children the active one knows better. But it may die
  // before it has said what it knows: until then the other's word stands.
  const bool fills = !owner && from.child().depositing &&
                     instance.children[active].depositing &&
                     instance.slots[message.slot] == kNoHandle;
  if (owner || fills) {
    if (message.slot == kSlotConnection) instance.connection = message.arg0;
    Put(instance, message.slot, Take(request.incoming, 0),
        static_cast<int>(from.index), request.actions);
  }
  Send(instance, from.index, Type::kAck, request.actions).message.tag =
      message.tag;
  return Error::kNone;
}

Error Escrow::Retain(Place from, Request& request) {
  Instance& instance = from.instance;
  if (ActiveMember(instance.promotion) != static_cast<int>(from.index)) {
    return Error::kNotActive;
  }
  for (Slot s = kSlotFirstSession; s < kSlotEndSession; ++s) {
    if (InBitmap(request.message, s) || instance.slots[s] == kNoHandle) {
      continue;
    }
    Put(instance, s, kNoHandle, static_cast<int>(from.index), request.actions);
  }
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    if (i == from.index || !IsPresent(instance.promotion.members[i])) continue;
    Action& sync = Send(instance, i, Type::kSync, request.actions);
    std::memcpy(sync.message.bitmap, request.message.bitmap,
                sizeof(sync.message.bitmap));
  }
  return Error::kNone;
}

Error Escrow::VmmClosed(Place from, Request& request) {
  Instance& instance = from.instance;
  const Message& message = request.message;
  const int index = static_cast<int>(from.index);
  if (ActiveMember(instance.promotion) != index) return Error::kNotActive;
  const bool present =
      instance.slots[kSlotConnection] != kNoHandle &&
      (message.arg0 == 0 || message.arg0 == instance.connection);
  if (present) {
    Put(instance, kSlotConnection, kNoHandle, index, request.actions);
    for (Slot s = kSlotFirstSession; s < kSlotEndSession; ++s) {
      if (instance.slots[s] == kNoHandle) continue;
      Put(instance, s, kNoHandle, index, request.actions);
    }
  }
  Send(instance, from.index, Type::kAck, request.actions).message.tag =
      message.tag;
  if (present) Tell(Type::kVmmGone, instance, request.actions);
  return Error::kNone;
}

Error Escrow::Ready(Place from, Request& request) {
  Instance& instance = from.instance;
  const Decision decision =
      Apply(instance, Stimulus::kReady, from.index, request.actions);
  const bool deposited = from.child().depositing;
  from.child().depositing = false;
  if (deposited || decision.accepted) {
    Tell(Type::kChildReady, instance, request.actions).message.child =
        from.child().id;
  }
  TellPromoted(instance, decision.promote, request.actions);
  UpdateListening(instance, request.actions);
  return Error::kNone;
}

void Escrow::OnSendFailed(Key key, bool gone, ActionList& actions) {
  if (tables_.FindChild(key) == nullptr) return;
  Instance& instance = *tables_.Find(key);
  if (!IsPresent(instance.promotion.members[key.child])) return;
  Punish({instance, key.child}, gone ? Error::kNone : Error::kLimit, actions);
}

// ---- deaths and connections ----

void Escrow::OnFence(Key key, uint64_t now, ActionList& actions) {
  Child* child = tables_.FindChild(key);
  if (child == nullptr) return;
  Instance& instance = *tables_.Find(key);
  const Place place{instance, key.child};
  const bool by_listener = key.watch == Watch::kListener;
  if (by_listener != instance.seccomp_fence) return;  // Not the fence.
  if (ActiveMember(instance.promotion) == static_cast<int>(key.child)) {
    instance.death_ns = now;
  }
  const Decision decision =
      Apply(instance, Stimulus::kFenced, key.child, actions);
  Action& lost = Tell(Type::kChildLost, instance, actions);
  lost.message.child = child->id;
  lost.message.arg0 = now;
  lost.message.arg1 = static_cast<uint64_t>(
      by_listener ? Fence::kSeccompListener : Fence::kPidfd);
  TellPromoted(instance, decision.promote, actions);
  Remove(place, actions);
  UpdateListening(instance, actions);
}

void Escrow::Remove(Place place, ActionList& actions) {
  Child& child = place.child();
  const Instance& instance = place.instance;
  Unwatch(FenceOf(instance, child),
          tables_.KeyOf(instance, place.index, FenceWatch(instance)), actions);
  Unwatch(child.channel, tables_.KeyOf(instance, place.index, Watch::kChannel),
          actions);
  Close(child.channel, actions);
  Close(child.pidfd, actions);
  Close(child.control, actions);
  Close(child.listener, actions);
  child = Child();
}

void Escrow::OnAccepted(Key key, Handle vmm, uint64_t now,
                        ActionList& actions) {
  Instance* instance = tables_.Find(key);
  if (instance == nullptr || !instance->listening) {
    Close(vmm, actions);
    return;
  }
  if (instance->slots[kSlotConnection] != kNoHandle) {
    Close(vmm, actions);
    Tell(Type::kVmmRefused, *instance, actions);
    return;
  }
  SetConnection(*instance, vmm, now, actions);
  Tell(Type::kVmmConnected, *instance, actions).message.arg0 =
      instance->connection;
}

}  // namespace holdfast::store

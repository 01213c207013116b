// Messages of children, their deaths, and VMMs that connect.

#include <cstring>
#include <utility>

#include "statestore/store/escrow.h"

namespace holdfast::store {
namespace {

bool InBitmap(const Message& message, Slot slot) {
  return (message.bitmap[slot / 64] >> (slot % 64) & 1) != 0;
}

}  // namespace

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
  Settle(from.instance, actions);
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
    case Type::kSettled:
      return Settled(from, request);
    default:
      return Error::kBadMessage;
  }
}

Error Escrow::Deposit(Place from, Request& request) {
  Instance& instance = from.instance;
  const Slot slot = request.message.slot;
  const bool known = from.child().depositing;  // It lived under another store.
  const int active = ActiveMember(instance.promotion);
  const bool is_active = active == static_cast<int>(from.index);
  if (!known) {
    if (!IsSession(slot) && !IsDevice(slot)) return Error::kBadMessage;
    const bool first = active == Decision::kNobody && IsDevice(slot);
    if (!is_active && !first) return Error::kNotActive;
  }
  // What a standby was forwarded may be older than what the active child has
  // deposited since: its word stands only where no active child has spoken,
  // and not when one that lives has said all.
  const bool stands = is_active || !known || !instance.spoken[slot];
  if (stands && slot == kSlotConnection) {
    instance.connection = request.message.arg0;
  }
  if (is_active || !known) {
    Put(instance, slot, Take(request.incoming, 0), static_cast<int>(from.index),
        request.actions);
  } else if (stands) {
    Fill(from, slot, Take(request.incoming, 0), request.actions);
  }
  Send(instance, from.index, Type::kAck, request.actions).message.tag =
      request.message.tag;
  if (!stands) Forward(instance, slot, from.index, request.actions);
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
  SyncOthers(from, request.message.bitmap, request.actions);
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
    SyncOthers(from, {}, request.actions);
  }
  Send(instance, from.index, Type::kAck, request.actions).message.tag =
      message.tag;
  if (present) Tell(Type::kVmmGone, instance, request.actions);
  return Error::kNone;
}

Error Escrow::Ready(Place from, Request& request) {
  Instance& instance = from.instance;
  // Before it may be promoted by this: only an active child's deposits are all
  // that counts.
  const bool was_active =
      ActiveMember(instance.promotion) == static_cast<int>(from.index);
  const bool deposited = std::exchange(from.child().depositing, false);
  const Decision decision =
      Apply(instance, Stimulus::kReady, from.index, request.actions);
  if (deposited && was_active) DropUnspoken(from, request.actions);
  if (deposited || decision.accepted) {
    Tell(Type::kChildReady, instance, request.actions).message.child =
        from.child().id;
  }
  TellPromoted(instance, decision.promote, request.actions);
  UpdateListening(instance, request.actions);
  return Error::kNone;
}

Error Escrow::Settled(Place from, Request& request) {
  if (from.child().owes == request.message.arg0) from.child().owes = 0;
  return Error::kNone;
}

void Escrow::DropUnspoken(Place active, ActionList& actions) {
  Instance& instance = active.instance;
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    const bool of_session = slot == kSlotConnection || IsSession(slot);
    if (of_session && !instance.spoken[slot] &&
        instance.slots[slot] != kNoHandle) {
      Put(instance, slot, kNoHandle, static_cast<int>(active.index), actions);
    }
  }
  instance.spoken.set();
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
  child->depositing = false;
  const Decision decision =
      Apply(instance, Stimulus::kFenced, key.child, actions);
  Action& lost = Tell(Type::kChildLost, instance, actions);
  lost.message.child = child->id;
  lost.message.arg0 = now;
  lost.message.arg1 = static_cast<uint64_t>(
      by_listener ? Fence::kSeccompListener : Fence::kPidfd);
  TellPromoted(instance, decision.promote, actions);
  Remove(place, actions);
  Settle(instance, actions);
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
  Forget(child);
  child = Child();
}

Handle Escrow::OnKnock(Key key, ActionList& actions) {
  Instance* instance = tables_.Find(key);
  if (instance == nullptr || !instance->listening) return kNoHandle;
  if (instance->slots[kSlotConnection] == kNoHandle) return instance->listener;
  instance->vmm_waits = true;
  UpdateListening(*instance, actions);
  Tell(Type::kVmmWaiting, *instance, actions);
  return kNoHandle;
}

void Escrow::OnAccepted(Key key, Handle vmm, uint64_t now,
                        ActionList& actions) {
  Instance* instance = tables_.Find(key);
  if (instance == nullptr || !instance->listening ||
      instance->slots[kSlotConnection] != kNoHandle) {
    Close(vmm, actions, CloserOf(kSlotConnection));
    return;
  }
  instance->vmm_refused = false;
  SetConnection(*instance, vmm, now, actions);
  Tell(Type::kVmmConnected, *instance, actions).message.arg0 =
      instance->connection;
}

void Escrow::OnAcceptFailed(Key key, int error, ActionList& actions) {
  Instance* instance = tables_.Find(key);
  if (instance == nullptr || !instance->listening) return;
  SetPaused(*instance, true);
  UpdateListening(*instance, actions);
  if (std::exchange(instance->vmm_refused, true)) return;
  Tell(Type::kVmmWaiting, *instance, actions).message.arg0 =
      static_cast<uint64_t>(error);
}

void Escrow::OnRetry(ActionList& actions) {
  for (size_t i = 0; i < kMaxInstances && paused(); ++i) {
    Instance& instance = tables_.At(i);
    if (!instance.paused) continue;
    SetPaused(instance, false);
    UpdateListening(instance, actions);
  }
}

}  // namespace holdfast::store

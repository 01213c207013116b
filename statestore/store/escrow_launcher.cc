// Requests of the launcher.

#include <algorithm>
#include <cstring>

#include "statestore/store/escrow.h"

namespace holdfast::store {

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
  instance.vmm_waits = instance.vmm_refused = false;
  SetPaused(instance, false);
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
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    Close(instance.slots[slot], request.actions, CloserOf(slot));
  }
  Settle(instance, request.actions);
  SetPaused(instance, false);
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

}  // namespace holdfast::store

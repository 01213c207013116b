#include "statestore/store/testing/escrow_scene.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace holdfast::store::testing {
namespace {

Incoming Whole(const Message& message) {
  Incoming incoming;
  incoming.message = message;
  incoming.size = sizeof(Message);
  return incoming;
}

void CollectHandles(const Instance& instance, std::vector<Handle>& held) {
  const auto add = [&held](Handle handle) {
    if (handle != kNoHandle) held.push_back(handle);
  };
  add(instance.segment);
  add(instance.blob);
  add(instance.listener);
  for (Handle handle : instance.slots) add(handle);
  for (Handle handle : instance.lingering) add(handle);
  for (const Child& child : instance.children) {
    add(child.channel);
    add(child.pidfd);
    add(child.control);
    add(child.listener);
  }
}

}  // namespace

Handle Scene::NewHandle() {
  open_.insert(next_);
  return next_++;
}

void Scene::Begin() {
  actions_.Clear();
  told_.clear();
  sent_.clear();
  now_ += 10;
}

void Scene::Finish() {
  bool first = true;
  for (const Action& action : actions_) {
    Perform(action, first);
    first = false;
  }
  if (actions_.overflowed()) Problem("the action list overflowed");
  for (const Key key : std::exchange(unsendable_, {})) {
    actions_.Clear();
    escrow_.OnSendFailed(key, false, actions_);
    for (const Action& action : actions_) {
      if (action.kind == Action::Kind::kSend) Problem("sent on a failure");
      Perform(action, false);
    }
  }
  CheckTables();
}

void Scene::CheckOpen(Handle handle, const char* what) {
  if (open_.count(handle) == 0) {
    Problem(std::string(what) + " of a closed descriptor");
  }
}

void Scene::Perform(const Action& action, bool first) {
  switch (action.kind) {
    case Action::Kind::kSend:
      PerformSend(action, first);
      break;
    case Action::Kind::kTell: {
      if (action.stamp == Action::Stamp::kIfKillFailed) break;
      Told told{action.message, {}};
      for (Handle fd : action.fds) {
        if (fd == kNoHandle) continue;
        CheckOpen(fd, "telling");
        told.fds.push_back(fd);
      }
      told_.push_back(told);
      break;
    }
    case Action::Kind::kKill:
      CheckOpen(action.handle, "kill");
      killed_.insert(action.handle);
      break;
    case Action::Kind::kWatch:
      CheckOpen(action.handle, "watch");
      if (!watched_.insert(action.handle).second) Problem("watched twice");
      break;
    case Action::Kind::kUnwatch:
      CheckOpen(action.handle, "unwatch");
      watched_.erase(action.handle);
      break;
    case Action::Kind::kClose:
      CheckOpen(action.handle, "close");
      if (watched_.count(action.handle) != 0) Problem("closed while watched");
      open_.erase(action.handle);
      break;
    case Action::Kind::kInventory:
      break;
  }
}

void Scene::PerformSend(const Action& action, bool first) {
  const Message& message = action.message;
  CheckOpen(action.handle, "send");
  if (action.fds[0] != kNoHandle) CheckOpen(action.fds[0], "forward");
  if (message.type == Type::kPromote) {
    if (!first) Problem("a promotion was not the first action");
    if (active_.count(action.key.instance) != 0) {
      Problem("a second child was promoted before the fence of the first");
    }
    active_[action.key.instance] = action.handle;
  }
  if (message.type == Type::kAck && deposit_.message.type == Type::kEscrow) {
    // A depositor knows what it has; views are about the others.
    View(action.handle, deposit_.message.slot, deposit_.fds[0]);
  }
  if (full_.count(action.handle) == 0 && !escrow_.IsBehind(action.key)) {
    Arrive(action);
  } else if (!escrow_.Defer(action, now_)) {
    unsendable_.push_back(action.key);
  }
}

void Scene::Arrive(const Action& action) {
  sent_.push_back({action.handle, action.message, action.fds[0]});
  if (action.message.type == Type::kForward) {
    View(action.handle, action.message.slot, action.fds[0]);
  }
}

void Scene::View(Handle channel, Slot slot, Handle fd) {
  if (fd == kNoHandle) {
    views_[channel].erase(slot);
  } else {
    views_[channel][slot] = fd;
  }
}

void Scene::CheckTables() {
  std::vector<Handle> held;
  for (const Instance& instance : escrow_.tables().instances()) {
    if (instance.id == 0) continue;
    CollectHandles(instance, held);
    if (instance.listening != (watched_.count(instance.listener) != 0)) {
      Problem("a listening socket is watched when it is not meant to be");
    }
    CheckViews(instance);
  }
  std::sort(held.begin(), held.end());
  if (held != std::vector<Handle>(open_.begin(), open_.end())) {
    Problem("the tables do not hold exactly what is open: " +
            std::to_string(held.size()) + " held, " +
            std::to_string(open_.size()) + " open");
  }
}

void Scene::CheckViews(const Instance& instance) {
  std::map<Slot, Handle> slots;
  for (Slot slot = 0; slot < kSlotCount; ++slot) {
    if (instance.slots[slot] != kNoHandle) slots[slot] = instance.slots[slot];
  }
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    const Member member = instance.promotion.members[i];
    const Child& child = instance.children[i];
    if ((member == Member::kNone) != (child.id == 0)) {
      Problem("child table and promotion state differ");
    }
    // An active child has what it deposited itself.
    if (member != Member::kStarting && member != Member::kStandby) continue;
    // One that deposits has more until it has said all.
    if (child.depositing) continue;
    // One that is behind is told later.
    if (!child.backlog.empty()) continue;
    if (views_[child.channel] != slots) {
      Problem("a standby was not sent what the store holds");
    }
  }
}

Message Scene::Request(Message message, size_t fd_count) {
  static uint64_t tag = 500;
  Incoming incoming = Whole(message);
  incoming.message.tag = ++tag;
  incoming.fd_count = fd_count;
  for (size_t i = 0; i < fd_count; ++i) incoming.fds[i] = NewHandle();
  Launcher(incoming);
  for (const Told& told : told_) {
    if (told.message.tag == tag) return told.message;
  }
  return Message();
}

Message Scene::Create(InstanceId instance, uint64_t flags) {
  Message message;
  message.type = Type::kCreateInstance;
  message.instance = instance;
  message.arg0 = flags;
  std::strcpy(message.name, "disk");
  return Request(message, 1);
}

Scene::ChildHandles Scene::Add(InstanceId instance, ChildId id, uint64_t flags,
                               uint64_t epoch) {
  Message message;
  message.type = Type::kAddChild;
  message.instance = instance;
  message.child = id;
  message.arg1 = flags;
  message.arg2 = epoch;
  const Message answer = Request(message, 4);
  ChildHandles handles;
  if (answer.type != Type::kOk) return handles;
  const Instance& place = this->instance(instance);
  for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
    const Child& child = place.children[i];
    if (child.id != id) continue;
    handles = {child.channel, child.pidfd, child.control, child.listener,
               escrow_.tables().KeyOf(place, i, Watch::kChannel)};
    if ((flags & kAddActive) != 0) {
      active_[handles.key.instance] = handles.channel;
    }
  }
  return handles;
}

void Scene::Say(const ChildHandles& child, Message message, size_t fd_count) {
  Incoming incoming = Whole(message);
  incoming.fd_count = fd_count;
  for (size_t i = 0; i < fd_count; ++i) incoming.fds[i] = NewHandle();
  ChildSays(child.key, incoming);
}

void Scene::Say(const ChildHandles& child, Type type, Slot slot,
                size_t fd_count) {
  Message message;
  message.type = type;
  message.slot = slot;
  message.tag = 77;
  Say(child, message, fd_count);
}

void Scene::Hangup(const ChildHandles& child) {
  ChildSays(child.key, Incoming());
}

void Scene::Fence(const ChildHandles& child, Watch watch) {
  Key key = child.key;
  key.watch = watch;
  FenceKey(key);
}

Handle Scene::Connect(InstanceId id) {
  return Accept(escrow_.tables().KeyOf(instance(id)));
}

void Scene::FailAccept(InstanceId id, int error) {
  AcceptFailed(escrow_.tables().KeyOf(instance(id)), error);
}

void Scene::Retry() {
  Begin();
  escrow_.OnRetry(actions_);
  Finish();
}

void Scene::FailSend(const ChildHandles& child, bool gone) {
  SendFailed(child.key, gone);
}

void Scene::Launcher(Incoming incoming) {
  Begin();
  escrow_.OnLauncher(incoming, now_, actions_);
  Finish();
}

void Scene::ChildSays(Key key, Incoming incoming) {
  Begin();
  deposit_ = incoming;
  escrow_.OnChild(key, incoming, now_, actions_);
  Finish();
}

void Scene::FenceKey(Key key) {
  Begin();
  const auto active = active_.find(key.instance);
  Key channel = key;
  channel.watch = Watch::kChannel;
  if (active != active_.end() && escrow_.ChannelOf(channel) == active->second) {
    const bool listener =
        escrow_.tables().instances()[key.instance].seccomp_fence;
    if (listener == (key.watch == Watch::kListener)) active_.erase(active);
  }
  escrow_.OnFence(key, now_, actions_);
  Finish();
}

Handle Scene::Accept(Key key) {
  Begin();
  const Handle listener = escrow_.OnKnock(key, actions_);
  Finish();
  if (listener == kNoHandle) return kNoHandle;
  if (watched_.count(listener) == 0) Problem("accepted without being asked");
  return AcceptUnasked(key);
}

Handle Scene::AcceptUnasked(Key key) {
  Begin();
  const Handle vmm = NewHandle();
  escrow_.OnAccepted(key, vmm, now_, actions_);
  Finish();
  return vmm;
}

void Scene::AcceptFailed(Key key, int error) {
  Begin();
  escrow_.OnAcceptFailed(key, error, actions_);
  Finish();
}

void Scene::SendFailed(Key key, bool gone) {
  Begin();
  escrow_.OnSendFailed(key, gone, actions_);
  Finish();
}

void Scene::StuffKey(Key key) {
  const Handle channel = escrow_.ChannelOf(key);
  if (channel != kNoHandle) full_.insert(channel);
}

void Scene::DrainKey(Key key, size_t count) {
  Begin();
  Action action;
  while (count-- != 0 && escrow_.NextFor(key, action)) {
    CheckOpen(action.handle, "late send");
    if (action.fds[0] != kNoHandle) CheckOpen(action.fds[0], "late forward");
    Arrive(action);
    escrow_.OnTaken(key, action.message, now_);
  }
  if (!escrow_.IsBehind(key)) full_.erase(escrow_.ChannelOf(key));
  Finish();
}

void Scene::Silence(uint64_t ns) {
  Begin();
  now_ += ns;
  escrow_.OnSilence(now_, actions_);
  Finish();
}

const Instance& Scene::instance(InstanceId id) const {
  static const Instance* const kNone = new Instance();
  for (const Instance& instance : escrow_.tables().instances()) {
    if (instance.id == id) return instance;
  }
  return *kNone;
}

std::vector<Type> Scene::ToldTypes() const {
  std::vector<Type> types;
  for (const Told& told : told_) types.push_back(told.message.type);
  return types;
}

std::vector<Type> Scene::SentTypes(const ChildHandles& child) const {
  std::vector<Type> types;
  for (const Sent& sent : sent_) {
    if (sent.channel == child.channel) types.push_back(sent.message.type);
  }
  return types;
}

}  // namespace holdfast::store::testing

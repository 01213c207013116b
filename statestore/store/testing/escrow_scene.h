#ifndef HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_SCENE_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_SCENE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "statestore/store/actions.h"
#include "statestore/store/escrow.h"
#include "statestore/store/protocol.h"

namespace holdfast::store::testing {

// The world around an Escrow, without processes: carries out its actions on
// sets of numbers and notes every broken rule in problems(). Rules:
//   - each descriptor that went in is in a table or was closed, exactly once;
//   - nothing is lent, watched or killed that is not open; nothing is closed
//     while it is watched;
//   - kPromote is the first action of its list, and goes to one child of an
//     instance whose former active child has been fenced;
//   - what every child deposited and was sent adds up to exactly what the
//     tables hold;
//   - a VMM is accepted only from a socket that is watched.
class Scene {
 public:
  struct Told {
    Message message;
    std::vector<Handle> fds;
  };
  struct Sent {
    Handle channel = kNoHandle;
    Message message;
    Handle fd = kNoHandle;
  };
  // The descriptors of a child that was added.
  struct ChildHandles {
    Handle channel = kNoHandle;
    Handle pidfd = kNoHandle;
    Handle control = kNoHandle;
    Handle listener = kNoHandle;
    Key key;  // Of its channel.
  };

  // A new open descriptor.
  Handle NewHandle();

  // A request of the launcher with this many new descriptors; its answer.
  Message Request(Message message, size_t fd_count = 0);
  // Shorthands for the requests that most tests begin with; flags as in
  // kCreateInstance and kAddChild.
  Message Create(InstanceId instance, uint64_t flags = 1);
  ChildHandles Add(InstanceId instance, ChildId child, uint64_t flags = 0,
                   uint64_t epoch = 0);
  // A message of a child with this many new descriptors.
  void Say(const ChildHandles& child, Message message, size_t fd_count = 0);
  void Say(const ChildHandles& child, Type type, Slot slot = 0,
           size_t fd_count = 0);
  void Hangup(const ChildHandles& child);
  void Fence(const ChildHandles& child, Watch watch = Watch::kListener);
  // What was accepted; kNoHandle: the VMM waits.
  Handle Connect(InstanceId instance);
  // The system has no descriptor for a VMM that connects; a later attempt.
  void FailAccept(InstanceId instance, int error);
  void Retry();
  void FailSend(const ChildHandles& child, bool gone);
  // The child's channel is full from now on; or takes `count` messages more.
  void Stuff(const ChildHandles& child) { StuffKey(child.key); }
  void Drain(const ChildHandles& child, size_t count = ~size_t{0}) {
    DrainKey(child.key, count);
  }
  // `ns` pass, and the store looks who is still silent.
  void Silence(uint64_t ns);
  // Anything, for the fuzzer.
  void Launcher(Incoming incoming);
  void ChildSays(Key key, Incoming incoming);
  void FenceKey(Key key);
  Handle Accept(Key key);
  Handle AcceptUnasked(Key key);
  void AcceptFailed(Key key, int error);
  void SendFailed(Key key, bool gone);
  void StuffKey(Key key);
  void DrainKey(Key key, size_t count);

  const Instance& instance(InstanceId id) const;
  bool IsOpen(Handle handle) const { return open_.count(handle) != 0; }
  bool IsWatched(Handle handle) const { return watched_.count(handle) != 0; }
  bool WasKilled(Handle pidfd) const { return killed_.count(pidfd) != 0; }
  // What was told and sent in the last step.
  const std::vector<Told>& told() const { return told_; }
  const std::vector<Sent>& sent() const { return sent_; }
  std::vector<Type> ToldTypes() const;
  std::vector<Type> SentTypes(const ChildHandles& child) const;
  const ActionList& actions() const { return actions_; }
  const Escrow& escrow() const { return escrow_; }

  const std::vector<std::string>& problems() const { return problems_; }

 private:
  void Begin();
  void Finish();
  void Perform(const Action& action, bool first);
  void PerformSend(const Action& action, bool first);
  void Arrive(const Action& action);
  void View(Handle channel, Slot slot, Handle fd);
  void CheckOpen(Handle handle, const char* what);
  void CheckTables();
  void CheckViews(const Instance& instance);
  void Problem(const std::string& text) { problems_.push_back(text); }

  Escrow escrow_;
  ActionList actions_;
  Handle next_ = 1000;
  uint64_t now_ = 1;
  Incoming deposit_;  // The last thing that a child said.
  std::set<Handle> open_;
  std::set<Handle> watched_;
  std::set<Handle> killed_;
  std::set<Handle> full_;  // Channels that take nothing.
  std::vector<Key> unsendable_;
  std::vector<Told> told_;
  std::vector<Sent> sent_;
  // Channels of active children that no fence has been seen of.
  std::map<uint8_t, Handle> active_;
  // By channel: what the child was forwarded.
  std::map<Handle, std::map<Slot, Handle>> views_;
  std::vector<std::string> problems_;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_ESCROW_SCENE_H_

#ifndef HOLDFAST_STATESTORE_STORE_ESCROW_H_
#define HOLDFAST_STATESTORE_STORE_ESCROW_H_

#include <cstdint>

#include "statestore/store/actions.h"
#include "statestore/store/incoming.h"
#include "statestore/store/protocol.h"
#include "statestore/store/tables.h"

namespace holdfast::store {

// The store without its system calls: what a message, a death or a connection
// does to the tables, and what must be done about it. protocol.h says what each
// message means; promotion.h who is promoted.
//
// Every call appends to `actions` what the caller must carry out in that order,
// before the next call. Descriptors that come with a message or a connection
// belong to the Escrow from then on; it gives each back by exactly one kClose.
// `now` is CLOCK_MONOTONIC in ns. A promotion is always the first action of its
// list. Not thread-safe. Allocates nothing. Any input is safe.
class Escrow {
 public:
  // A message of the launcher, which is trusted but may be wrong: an invalid
  // request is answered with kError and changes nothing.
  void OnLauncher(Incoming incoming, uint64_t now, ActionList& actions);

  // A message of a child, which is not trusted: a wrong one is its death. A
  // size of 0 is the end of the stream: the child is killed, but only the
  // fence lets another take over.
  void OnChild(Key key, Incoming incoming, uint64_t now, ActionList& actions);

  // The child cannot be sent to: Defer() had no place, or (`gone`) it has
  // closed.
  void OnSendFailed(Key key, bool gone, ActionList& actions);

  // What `action` (a kSend) says does not fit into the child's channel: it is
  // told later, and so is everything that comes after (see backlog.h). False:
  // OnSendFailed(). May be called while a list is being carried out.
  bool Defer(const Action& action, uint64_t now);
  // Whether the child has something deferred: nothing may overtake it.
  bool IsBehind(Key key);
  bool anyone_behind() const { return behind_ != 0; }
  // The next kSend for a child that is behind. False: it is not.
  bool NextFor(Key key, Action& action);
  // The child's channel took what NextFor() said.
  void OnTaken(Key key, const Message& message, uint64_t now);
  // Gives up children that are behind and have read nothing for too long.
  void OnSilence(uint64_t now, ActionList& actions);

  // HUP of a child's seccomp listener (Watch::kListener) or its pidfd is
  // readable (Watch::kPidfd).
  void OnFence(Key key, uint64_t now, ActionList& actions);

  // A VMM connects to an instance's listening socket. Returns the socket to
  // accept it from; kNoHandle: it waits in the backlog until the session of the
  // VMM before it has ended, for one that closes and comes back at once must
  // not be refused. The launcher is told once a session.
  Handle OnKnock(Key key, ActionList& actions);

  // `vmm` was accepted from the socket that OnKnock returned.
  void OnAccepted(Key key, Handle vmm, uint64_t now, ActionList& actions);

  // Nothing could be accepted from it, for want of descriptors or memory. The
  // socket is not looked at until OnRetry(), or it would be reported for ever.
  // The launcher is told `error` (errno) once, until a VMM is accepted again.
  void OnAcceptFailed(Key key, int error, ActionList& actions);
  // Whether there is something to do for OnRetry(), which looks at those
  // sockets again.
  bool paused() const { return paused_ != 0; }
  void OnRetry(ActionList& actions);

  // No more instances than this many from now on; kMaxInstances at first.
  void LimitInstances(size_t limit) { tables_.LimitInstances(limit); }

  // A child's store channel; kNoHandle when `key` is of one that is gone.
  Handle ChannelOf(Key key);

  const Tables& tables() const { return tables_; }

 private:
  struct Request {
    Incoming& incoming;
    const Message& message;
    uint64_t now;
    ActionList& actions;
  };
  // Places within an instance that something is about.
  struct Place {
    Instance& instance;
    size_t index;
    Child& child() const { return instance.children[index]; }
  };

  Error Dispatch(Request& request);
  Error CreateInstance(Request& request);
  Error SetListener(Instance& instance, Request& request);
  Error AddChild(Instance& instance, Request& request);
  Error KillChild(Instance& instance, Request& request);
  Error RemoveInstance(Instance& instance, Request& request);
  Error GetDescriptor(Instance& instance, Request& request);
  Error PutBlob(Instance& instance, Request& request);
  Error Hold(Instance& instance, Request& request);

  Error DispatchChild(Place from, Request& request);
  Error Deposit(Place from, Request& request);
  Error Retain(Place from, Request& request);
  Error VmmClosed(Place from, Request& request);
  Error Ready(Place from, Request& request);
  Error Settled(Place from, Request& request);

  // Applies an event of the promotion machine; sends kPromote at once. The
  // caller then reports with TellPromoted(promoted).
  Decision Apply(Instance& instance, Stimulus stimulus, size_t index,
                 ActionList& actions);
  void TellPromoted(Instance& instance, int promoted, ActionList& actions);
  void Kill(Place victim, ActionList& actions);
  // The same, and tells the launcher why; kNone: only if the kill fails.
  void Punish(Place culprit, Error error, ActionList& actions);
  void Remove(Place place, ActionList& actions);
  // Drops what the child has not been sent.
  void Forget(Child& child);
  // Puts `handle` (or kNoHandle) into the slot and forwards it to every child
  // but `depositor`.
  void Put(Instance& instance, Slot slot, Handle handle, int depositor,
           ActionList& actions);
  // What a re-attached standby deposits where nobody who knows better has
  // spoken. It stands until then, so that nothing is lost when the active child
  // dies first; to that one it is not sent.
  void Fill(Place from, Slot slot, Handle handle, ActionList& actions);
  // The active child has deposited all that it holds: what standbys filled
  // besides is of the past.
  void DropUnspoken(Place active, ActionList& actions);
  // Tells all children but `from` to keep no other session slots than those of
  // `bitmap`.
  void SyncOthers(Place from, const uint64_t (&bitmap)[kSlotCount / 64],
                  ActionList& actions);
  // Closes what lingers once no child has to let go of it any more.
  void Settle(Instance& instance, ActionList& actions);
  void Forward(const Instance& instance, Slot slot, size_t index,
               ActionList& actions);
  Action& Send(const Instance& instance, size_t index, Type type,
               ActionList& actions);
  void UpdateListening(Instance& instance, ActionList& actions);
  void SetPaused(Instance& instance, bool paused);
  void SetConnection(Instance& instance, Handle vmm, uint64_t now,
                     ActionList& actions);

  Tables tables_;
  size_t paused_ = 0;  // Instances that are.
  size_t behind_ = 0;  // Children that are.
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_ESCROW_H_

#ifndef HOLDFAST_STATESTORE_STORE_ACTIONS_H_
#define HOLDFAST_STATESTORE_STORE_ACTIONS_H_

// What the store's pure part decides, as data; store_sys carries it out in
// order. Nothing here makes a system call or allocates.

#include <array>
#include <cstddef>
#include <cstdint>

#include "statestore/store/protocol.h"

namespace holdfast::store {

// A descriptor as the pure part knows it: a number without behaviour. Whoever
// holds it in a table owns it; the only way out is Action::Kind::kClose.
using Handle = int;
inline constexpr Handle kNoHandle = -1;

// Most descriptors in one message, those of kAddChild.
inline constexpr size_t kMaxFds = 4;

// One message as it came in, not validated. Whoever has an Incoming owns its
// descriptors.
struct Incoming {
  Message message;
  size_t size = 0;         // Bytes; 0 is the end of the stream.
  bool truncated = false;  // It was larger or had more descriptors.
  size_t fd_count = 0;
  Handle fds[kMaxFds] = {kNoHandle, kNoHandle, kNoHandle, kNoHandle};
};

// What epoll watches.
enum class Watch : uint8_t {
  kLauncher,
  kVmmListener,
  kChannel,   // A child's store channel.
  kListener,  // A child's seccomp listener.
  kPidfd,
};

// Names a table entry in an epoll event. The generation makes an event of an
// entry that is gone, or whose place was taken, recognisable.
struct Key {
  Watch watch = Watch::kLauncher;
  uint8_t instance = 0;
  uint8_t child = 0;
  uint32_t generation = 0;
};
constexpr uint64_t Pack(Key key) {
  return static_cast<uint64_t>(key.watch) << 56 |
         static_cast<uint64_t>(key.instance) << 48 |
         static_cast<uint64_t>(key.child) << 40 | key.generation;
}
constexpr Key Unpack(uint64_t packed) {
  return {static_cast<Watch>(packed >> 56), static_cast<uint8_t>(packed >> 48),
          static_cast<uint8_t>(packed >> 40), static_cast<uint32_t>(packed)};
}

// Who closes a descriptor.
enum class Closer : uint8_t {
  kHere,      // The deciding thread: it is known to be quick.
  kApart,     // A thread that may take as long as it takes.
  kPromptly,  // Another one, for what a peer waits to see closed.
};

struct Action {
  enum class Kind : uint8_t {
    kSend,       // message, fds to the child behind `handle` (`key`). When its
                 // channel is full, or it is behind: Escrow::Defer(). When that
                 // or sending fails: Escrow::OnSendFailed(key).
    kTell,       // message, fds to the launcher, now or when it reads again.
    kKill,       // SIGKILL through the pidfd `handle`.
    kWatch,      // Start to watch `handle` under `key`.
    kUnwatch,    // Stop.
    kClose,      // Have `handle` closed by `closer`.
    kInventory,  // Answer kHello, nonce `message.arg0`, from Escrow::Inventory.
  };
  // A field of a kTell message that is known only when it is carried out.
  enum class Stamp : uint8_t {
    kNone,
    kPromotedAt,    // arg1 = ns when the last kPromote was sent.
    kKillErrno,     // arg1 = errno of the last kKill; a kOk becomes kError.
    kIfKillFailed,  // The same, and not told at all when that is 0.
  };
  Kind kind{};
  Stamp stamp = Stamp::kNone;
  Closer closer = Closer::kHere;
  Key key;
  Handle handle = kNoHandle;
  Handle fds[2] = {kNoHandle, kNoHandle};  // Lent: the table keeps them.
  Message message;
};

// The actions of one event. Fixed memory.
class ActionList {
 public:
  // The largest list there can be: kRetain or kVmmClosed of an instance with
  // all slots taken closes each and tells each other child.
  static constexpr size_t kCapacity = kSlotCount * kMaxChildrenPerInstance + 64;

  // The next entry, blank. Beyond the capacity (a bug that escrow_fuzz looks
  // for) the last entry is used again and overflowed() says so.
  Action& Add(Action::Kind kind);

  void Clear() { size_ = 0; }
  const Action* begin() const { return actions_.data(); }
  const Action* end() const { return actions_.data() + size_; }
  size_t size() const { return size_; }
  bool overflowed() const { return overflowed_; }

 private:
  std::array<Action, kCapacity> actions_;
  size_t size_ = 0;
  bool overflowed_ = false;
};

inline Action& ActionList::Add(Action::Kind kind) {
  if (size_ == kCapacity) {
    overflowed_ = true;
    --size_;
  }
  Action& action = actions_[size_++];
  action = Action();
  action.kind = kind;
  return action;
}

// For what a slot held: it may be the last reference to a file of any size,
// which the kernel frees before close() returns. A connection may be that, too,
// by what its VMM sent and nobody read; but its VMM sees the end before that is
// freed, and only other connections wait behind it.
constexpr Closer CloserOf(Slot slot) {
  return slot == kSlotConnection ? Closer::kPromptly : Closer::kApart;
}

// Closes `handle` if there is one, and forgets it.
inline void Close(Handle& handle, ActionList& actions,
                  Closer closer = Closer::kHere) {
  if (handle == kNoHandle) return;
  Action& action = actions.Add(Action::Kind::kClose);
  action.handle = handle;
  action.closer = closer;
  handle = kNoHandle;
}

inline void WatchHandle(Handle handle, Key key, ActionList& actions) {
  Action& action = actions.Add(Action::Kind::kWatch);
  action.handle = handle;
  action.key = key;
}

inline void Unwatch(Handle handle, Key key, ActionList& actions) {
  Action& action = actions.Add(Action::Kind::kUnwatch);
  action.handle = handle;
  action.key = key;
}

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_ACTIONS_H_

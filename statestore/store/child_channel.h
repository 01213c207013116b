#ifndef HOLDFAST_STATESTORE_STORE_CHILD_CHANNEL_H_
#define HOLDFAST_STATESTORE_STORE_CHILD_CHANNEL_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"

namespace holdfast::store {

// Slots as a bit set: kRetain and kSync.
struct SlotSet {
  uint64_t words[kSlotCount / 64] = {};
  void Add(Slot slot) { words[slot / 64] |= uint64_t{1} << (slot % 64); }
  bool Contains(Slot slot) const {
    return slot < kSlotCount && (words[slot / 64] >> (slot % 64) & 1) != 0;
  }
};

// What the store says to a child.
struct ChildEvent {
  enum class Kind : uint8_t {
    kForward,      // `slot` holds `fd` now; `fd` not valid: it is empty.
    kForwardDone,  // All slots that were occupied at the start have come.
    kPromote,      // This child is active now, under `epoch`.
    kSync,         // The active child retains `slots`: a moment to catch up,
                   // and to let go of the others; then Settled(sync).
  };
  Kind kind{};
  Slot slot = 0;
  UniqueFd fd;
  uint64_t connection = 0;  // kForward of kSlotConnection: its number.
  uint64_t epoch = 0;
  uint64_t death_ns = 0;  // kPromote: when the death was seen; 0: first start.
  SlotSet slots;
  uint64_t sync = 0;  // kSync: its number; 0: no answer is wanted.
};

// A descriptor that a child holds, for Reattach().
struct Deposit {
  Slot slot = 0;
  BorrowedFd fd = BorrowedFd(-1);
  uint64_t connection = 0;  // Of kSlotConnection.
};

// A device child's end of its store channel. One thread at a time. Nothing is
// allocated unless an error is returned, and of system calls there are only
// sendmmsg, recvmmsg, ppoll and close, so it runs under the steady-state
// filter.
//
// When the store dies, every call that needs it returns kUnavailable and
// gone() is true from then on. Nothing that a child holds is lost by that: it
// waits for a new channel (kStoreChannel on its control channel), calls
// Reattach() with all it holds and goes on.
class ChildChannel {
 public:
  // Events that may come while a request waits for its answer; beyond,
  // kResourceExhausted: the caller has to Receive() more often. All slots come
  // three times at most while Reattach() deposits as many: as the store holds
  // them, as the active child deposits them, and in answer to ours.
  static constexpr size_t kMaxQueued = 4 * kSlotCount;

  explicit ChildChannel(UniqueFd channel);

  // For ppoll: readable means that Receive() has something, but it may have
  // something (queued before) while this is not readable, so call Receive()
  // until kNothing first.
  BorrowedFd fd() const { return channel_; }

  bool gone() const { return gone_; }

  // Whether Receive() has something that does not make fd() readable.
  bool queued() const { return queued_ != 0; }

  enum class Received : uint8_t { kNothing, kEvent, kGone };
  // The next event, without blocking. kGone once everything that the store had
  // sent has been given out.
  Received Receive(ChildEvent& event);

  // Deposits `fd` (not valid: clears the slot) and waits until the store holds
  // it and the standby has been sent it. On return the child may die at any
  // moment without losing it. The caller keeps `fd` open. Errors: kUnavailable,
  // the store is gone (the deposit may or may not be part of a new store: it
  // belongs in the Deposits of Reattach()).
  absl::Status Escrow(Slot slot, BorrowedFd fd);

  // The session slots in `slots` are all that is needed: the store closes the
  // others. Does not wait.
  absl::Status Retain(const SlotSet& slots);

  // This standby is parked, or this re-attached child has deposited all.
  absl::Status Ready();

  // Everything that a kSync told to let go of is let go of: unmapped, too. Does
  // not wait. Nothing for 0.
  absl::Status Settled(uint64_t sync);

  // The end of the connection's stream was consumed. Waits until the store has
  // dropped the connection and all session slots. May be repeated by a
  // successor: `connection` says which one is meant.
  absl::Status VmmClosed(uint64_t connection);

  // Goes on with the channel to a new store: deposits everything in `deposits`
  // and says Ready(). Events of the old channel are dropped, with their
  // descriptors. To a store that knows this child as active, or as one of an
  // instance without an active one, the deposits are the truth.
  absl::Status Reattach(UniqueFd channel, absl::Span<const Deposit> deposits);

 private:
  absl::Status Request(Message& message, BorrowedFd fd);
  absl::Status Deliver(const Message& message, BorrowedFd fd);
  absl::Status AwaitAck(uint64_t tag);
  // Reads one message. kAgain: nothing there; kDone: `message` (an answer) or
  // a queued event.
  enum class Step : uint8_t { kNothing, kAck, kQueued, kGone, kOverflow };
  Step ReadOne(uint64_t& acked);
  absl::Status Gone();

  UniqueFd channel_;
  bool gone_ = false;   // Nothing reaches the store any more.
  bool ended_ = false;  // Nothing more comes from it either.
  uint64_t last_tag_ = 0;
  std::array<ChildEvent, kMaxQueued> queue_;
  size_t first_ = 0;
  size_t queued_ = 0;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_CHILD_CHANNEL_H_

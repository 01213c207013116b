#ifndef HOLDFAST_STATESTORE_STORE_BACKLOG_H_
#define HOLDFAST_STATESTORE_STORE_BACKLOG_H_

#include <bitset>
#include <cstdint>

#include "statestore/store/protocol.h"

namespace holdfast::store {

// A child that takes nothing although its channel is full is given up after
// this long without reading a single message. Long, since a standby may free or
// map all of a guest's memory in between; and short for one that was promoted,
// for a guest waits for it.
inline constexpr uint64_t kPatienceNs = 30'000'000'000;
inline constexpr uint64_t kHeirPatienceNs = 2'000'000'000;

// What a child has not been sent because its channel was full. Not a queue:
// what matters to a child is what the slots hold now, so a slot that changes
// again, or a session that comes and goes, takes no more room, whatever a VMM
// does meanwhile. Pure; fixed size.
class Backlog {
 public:
  // `message` is to be sent later: in the order answer, slots, end of the first
  // slots, the last kSync, promotion. False: there is no place for it, a second
  // answer; a child that asks again before it has read one misbehaves.
  bool Add(const Message& message, uint64_t now);

  bool empty() const {
    return !answers_ && slots_.none() && !forward_done_ && !syncs_ &&
           !promotes_;
  }
  bool promotes() const { return promotes_; }

  // The message to send next, without what only the tables know: descriptor
  // and connection number of kForward, bitmap and number of kSync.
  // Precondition: not empty.
  Message Next() const;

  // The child's channel took `message`, which came from Next().
  void Taken(const Message& message, uint64_t now);

  // Whether the child is to be given up: it has read nothing for too long.
  // `now` may be from before it took something.
  bool Expired(uint64_t now) const {
    return !empty() &&
           now > since_ + (promotes_ ? kHeirPatienceNs : kPatienceNs);
  }

 private:
  std::bitset<kSlotCount> slots_;
  bool answers_ = false;
  bool forward_done_ = false;
  bool syncs_ = false;
  bool promotes_ = false;
  Message answer_;
  Message promotion_;
  // When it last took anything, could not at first, or was promoted.
  uint64_t since_ = 0;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_BACKLOG_H_

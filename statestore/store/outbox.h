#ifndef HOLDFAST_STATESTORE_STORE_OUTBOX_H_
#define HOLDFAST_STATESTORE_STORE_OUTBOX_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "statestore/store/actions.h"
#include "statestore/store/protocol.h"

namespace holdfast::store {

// What the launcher has not read yet, because it is slow, stopped or dead: a
// ring of fixed size, oldest first. While it holds anything the store reads no
// request, so at most the answer to one request is in it.
class Outbox {
 public:
  // Far more than the events of a launcher's restart. When it is full, events
  // are counted instead of kept, and kEventsLost tells the launcher to ask for
  // the inventory.
  static constexpr size_t kCapacity = 512;

  struct Entry {
    Message message;
    Handle fds[2] = {kNoHandle, kNoHandle};  // Owned by the entry.
  };

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  // False: full, counted; the caller still owns the descriptors. Events that a
  // stranger can cause at will (kVmmWaiting) may only fill half of it. One
  // place is kept for answers.
  bool Push(const Entry& entry);

  // Precondition of both: not empty.
  const Entry& front() const { return entries_[first_]; }
  // After the last one a kEventsLost takes its place if events were lost.
  void Pop();

 private:
  void Append(const Entry& entry);

  std::array<Entry, kCapacity> entries_;
  size_t first_ = 0;
  size_t size_ = 0;
  uint64_t lost_ = 0;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_OUTBOX_H_

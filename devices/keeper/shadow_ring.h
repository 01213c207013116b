#ifndef HOLDFAST_DEVICES_KEEPER_SHADOW_RING_H_
#define HOLDFAST_DEVICES_KEEPER_SHADOW_RING_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::keeper {

// The driver's side of a split virtqueue (VIRTIO 1.2, 2.7) whose descriptor
// table is another ring's: a request is a head of that table, passed on under
// its own number. Made for one life of a back-end, which writes to the memory
// whenever it likes: every value is read once, and a back-end that answers what
// it does not have is found out.
//
// Does not own the memory. Threads: none of its own. Nothing allocates after
// the constructor, except for the message of an error.
class ShadowRing {
 public:
  // `size`: a power of two, at most vring::kMaxSize. `available` and `used` lie
  // as vring_layout.h says; both are cleared. `event_idx`:
  // VIRTIO_F_EVENT_IDX.
  ShadowRing(uint8_t* available, uint8_t* used, uint16_t size, bool event_idx);

  // Adds a request that is not in the ring: `head` < size. Not seen before
  // Expose.
  void Push(uint16_t head);
  // What was pushed can be taken from now on. True: a kick is wanted for it.
  bool Expose();

  // What was answered since the last call, in the back-end's order; valid until
  // the next one. kDataLoss: it answers what it was not given, or twice: then
  // nothing of the ring is to be believed any more.
  absl::StatusOr<absl::Span<const Completion>> Take();

  // Whether Take would find an answer.
  bool HasAnswer() const;

  // Asks the back-end not to call: somebody is going to look anyway.
  void DisableCalls();
  // Asks for a call with the next answer. True: there is one already, and the
  // call for it may never come.
  bool EnableCalls();

  // Requests that were pushed and not taken back.
  uint16_t outstanding() const { return outstanding_; }

 private:
  vring::Available* available() const {
    return reinterpret_cast<vring::Available*>(available_);
  }
  vring::Used* used() const { return reinterpret_cast<vring::Used*>(used_); }
  uint16_t* available_slot(uint16_t i) const {
    return reinterpret_cast<uint16_t*>(available() + 1) + i;
  }
  vring::UsedElement* used_slot(uint16_t i) const {
    return reinterpret_cast<vring::UsedElement*>(used() + 1) + i;
  }

  uint8_t* available_;
  uint8_t* used_;
  uint16_t size_;
  bool event_idx_;
  std::vector<uint8_t> given_;  // By head: 1 while the back-end has it.
  std::vector<Completion> answers_;
  uint16_t outstanding_ = 0;
  uint16_t next_available_ = 0;
  uint16_t exposed_ = 0;    // next_available_ at the last Expose.
  uint16_t next_used_ = 0;  // To be taken.
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_SHADOW_RING_H_

#ifndef HOLDFAST_DEVICES_KEEPER_TESTING_SHADOW_WORKER_H_
#define HOLDFAST_DEVICES_KEEPER_TESTING_SHADOW_WORKER_H_

#include <cstdint>
#include <vector>

#include "base/shared_access.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::keeper::testing {

// A back-end's side of a ring that it shares with the keeper: takes requests,
// and answers what it is told to, right or wrong. Does not own the memory.
class ShadowWorker {
 public:
  ShadowWorker(uint8_t* available, uint8_t* used, uint16_t size)
      : available_(available), used_(used), size_(size) {}

  // All that is new, in the ring's order.
  std::vector<uint16_t> Take() {
    std::vector<uint16_t> heads;
    const uint16_t end = SharedAccess::LoadAcquire(&available()->idx);
    for (; taken_ != end; ++taken_) {
      heads.push_back(SharedAccess::Load(slot(taken_ & (size_ - 1))));
    }
    return heads;
  }
  void Answer(uint32_t id, uint32_t written) {
    vring::UsedElement* const element =
        reinterpret_cast<vring::UsedElement*>(used() + 1) +
        (used_index_ & (size_ - 1));
    SharedAccess::Store(&element->id, id);
    SharedAccess::Store(&element->size, written);
    MoveUsed(1);
  }
  // As if it had answered so many.
  void MoveUsed(uint16_t by) {
    used_index_ += by;
    SharedAccess::StoreRelease(&used()->idx, used_index_);
  }
  // Wants no kick; or one with what comes after the request `after`.
  void DisableKicks() { SharedAccess::Store(&used()->flags, vring::kNoNotify); }
  void KickAfter(uint16_t after) {
    SharedAccess::Store(
        reinterpret_cast<uint16_t*>(
            reinterpret_cast<vring::UsedElement*>(used() + 1) + size_),
        after);
  }
  bool WantsCall() {
    return (SharedAccess::Load(&available()->flags) & vring::kNoInterrupt) == 0;
  }
  uint16_t used_event() { return SharedAccess::Load(slot(size_)); }

 private:
  vring::Available* available() {
    return reinterpret_cast<vring::Available*>(available_);
  }
  vring::Used* used() { return reinterpret_cast<vring::Used*>(used_); }
  uint16_t* slot(uint16_t i) {
    return reinterpret_cast<uint16_t*>(available() + 1) + i;
  }

  uint8_t* available_;
  uint8_t* used_;
  uint16_t size_;
  uint16_t taken_ = 0;
  uint16_t used_index_ = 0;
};

}  // namespace holdfast::keeper::testing

#endif  // HOLDFAST_DEVICES_KEEPER_TESTING_SHADOW_WORKER_H_

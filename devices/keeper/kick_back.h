#ifndef HOLDFAST_DEVICES_KEEPER_KICK_BACK_H_
#define HOLDFAST_DEVICES_KEEPER_KICK_BACK_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/split_ring.h"

namespace holdfast::keeper {

// What is done with a request that ends every life that executes it.
enum class KickBack : uint8_t {
  kNever,    // Nothing: it ends them all.
  kBlock,    // Answered as virtio-blk answers: VIRTIO_BLK_S_IOERR.
  kScsi,     // As virtio-scsi: VIRTIO_SCSI_S_FAILURE.
  kNothing,  // Answered with nothing.
};

// Writes the error that `kind` has, not kNever, into the buffers of `chain`,
// which is the guest's and may be too short for one. What to say in the ring.
Completion AnswerWithError(KickBack kind, const Chain& chain);

// A request that a life had to itself.
struct Suspect {
  uint16_t queue;
  uint16_t head;
  uint64_t counter;  // Of the table of requests in flight: its name.
};

// Finds out which request ends its lives. Only an end by a fault of its own
// counts, which somebody has to say; of any other, and of one that nobody knows
// of, no request is to blame. Pure.
class Blame {
 public:
  // The life has ended. `alone`: all that it had in hand.
  void Ended(uint64_t life, const std::optional<Suspect>& alone) {
    life_ = life;
    alone_ = alone;
    fault_ = false;
  }
  // It ended by its own fault. Of another one than the last: nothing.
  void Fault(uint64_t life) {
    if (life != 0 && life == life_) fault_ = true;
  }
  // Once for each life: whether what it had in flight is to be counted.
  // `convicted`: what it had to itself.
  bool TakeFault(std::optional<Suspect>& convicted) {
    if (fault_) convicted = alone_;
    alone_.reset();
    life_ = 0;
    return std::exchange(fault_, false);
  }

 private:
  uint64_t life_ = 0;
  bool fault_ = false;
  std::optional<Suspect> alone_;
};

// In flight when so many lives ended by their own fault, a request is suspect.
inline constexpr uint16_t kSuspectDeaths = 2;

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_KICK_BACK_H_

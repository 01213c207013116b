#ifndef HOLDFAST_DEVICES_KEEPER_SHADOW_QUEUE_H_
#define HOLDFAST_DEVICES_KEEPER_SHADOW_QUEUE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/keeper/kick_back.h"
#include "devices/keeper/shadow_ring.h"
#include "devices/virtqueue/split_ring.h"
#include "statestore/inflight.h"

namespace holdfast::keeper {

// A guest's ring whose requests a back-end answers in any order and by a ring
// of its own. Towards the guest this is a device that is exact by its table of
// requests in flight, whenever it is killed; what the back-end of before had
// not answered is given to the next one, first and in order.
//
// Pure over memory that guest and back-end write at any time. Threads: none of
// its own. Nothing allocates after Begin, except for the message of an error.
class ShadowQueue {
 public:
  // Goes on with the queue's life, for a new life of a back-end. `base` as in
  // SplitRing::Recover. Then Give; then both sides are to be signalled once.
  // Errors: those of SplitRing::Recover.
  static absl::StatusOr<ShadowQueue> Begin(SplitRing guest, ShadowRing shadow,
                                           uint16_t base);

  // What was in flight and is not given yet, in the order of fetching.
  const std::vector<InflightRequest>& left() const { return left_; }
  // Answers one of those with an error, and takes it out.
  // kNotFound: it is none of them.
  absl::Status Refuse(const Suspect& suspect, KickBack kind);
  bool HasSuspect() const;
  // Gives all that is left to the back-end, before anything new: at once, or,
  // on trial, one at a time, and those first that are suspect.
  void Give(bool on_trial);
  // As long as not all of that is answered.
  bool on_trial() const { return on_trial_; }
  // What the back-end has, on trial.
  std::optional<InflightRequest> alone() const;

  // Whom to signal after a Turn.
  struct Outcome {
    bool moved = false;  // Anything.
    bool call = false;   // The guest.
    bool kick = false;   // The back-end.
  };
  // Passes on what there is, in both directions: at most as many answers and as
  // many requests as the ring has entries. Requests only when it `takes` them.
  // kDataLoss: the back-end lies; it is not believed in anything any more.
  absl::StatusOr<Outcome> Turn(bool takes);

  // Asks both sides for a signal with the next thing to do. True: there is
  // something already, so go on with Turn.
  bool Rest(bool takes);

  // After the guest's memory has moved, when nothing runs: as
  // SplitRing::SetMemory.
  absl::Status SetMemory(const GuestMemory* memory,
                         const SplitRingConfig& config) {
    return guest_.SetMemory(memory, config);
  }

  uint16_t in_flight() const { return guest_.in_flight(); }
  // The first index that was not fetched from the guest's ring.
  uint16_t next_available() const { return guest_.next_avail(); }
  // Which rule the guest's driver broke, else nullptr: nothing is taken then.
  const char* broken() const { return guest_.broken(); }

 private:
  ShadowQueue(SplitRing guest, ShadowRing shadow);

  // On trial. False: nothing is left.
  bool GiveNext();

  SplitRing guest_;
  ShadowRing shadow_;
  std::vector<InflightRequest> left_;
  bool on_trial_ = false;
  bool shown_ = false;          // On trial: the back-end can see it.
  InflightRequest tried_ = {};  // Of those that were left, the last given.
  bool rests_ = false;
  bool lied_ = false;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_SHADOW_QUEUE_H_

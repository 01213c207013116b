#include "devices/keeper/shadow_queue.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/status_macros.h"

namespace holdfast::keeper {

ShadowQueue::ShadowQueue(SplitRing guest, ShadowRing shadow)
    : guest_(std::move(guest)), shadow_(std::move(shadow)) {}

absl::StatusOr<ShadowQueue> ShadowQueue::Begin(SplitRing guest,
                                               ShadowRing shadow,
                                               uint16_t base) {
  ShadowQueue queue(std::move(guest), std::move(shadow));
  ASSIGN_OR_RETURN(const absl::Span<const InflightRequest> left,
                   queue.guest_.Recover(base));
  for (const InflightRequest& request : left) queue.shadow_.Push(request.head);
  queue.shadow_.Expose();
  queue.shadow_.DisableCalls();
  return queue;
}

absl::StatusOr<ShadowQueue::Outcome> ShadowQueue::Turn(bool takes) {
  if (lied_) return absl::DataLossError("it has lied before");
  if (std::exchange(rests_, false)) {
    guest_.DisableKicks();
    shadow_.DisableCalls();
  }
  const auto answers = shadow_.Take();
  lied_ = !answers.ok();
  RETURN_IF_ERROR(answers.status());
  Outcome outcome;
  if (!answers->empty()) {
    // What is in the shadow is in flight.
    RETURN_IF_ERROR(guest_.Publish(*answers));
    outcome.moved = true;
    outcome.call = guest_.NeedsInterrupt();
  }
  if (!takes) return outcome;
  for (Popped popped = guest_.Pop(); popped.result == PopResult::kRequest;
       popped = guest_.Pop()) {
    shadow_.Push(popped.head);
    outcome.moved = true;
  }
  outcome.kick = shadow_.Expose();
  return outcome;
}

bool ShadowQueue::Rest(bool takes) {
  rests_ = true;
  const bool requests = takes && guest_.EnableKicks();
  return shadow_.EnableCalls() || requests;
}

}  // namespace holdfast::keeper

#include "devices/keeper/shadow_queue.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "devices/virtqueue/chain.h"

namespace holdfast::keeper {
namespace {

bool IsSuspect(const InflightRequest& request) {
  return request.deaths >= kSuspectDeaths;
}

}  // namespace

ShadowQueue::ShadowQueue(SplitRing guest, ShadowRing shadow)
    : guest_(std::move(guest)), shadow_(std::move(shadow)) {}

absl::StatusOr<ShadowQueue> ShadowQueue::Begin(SplitRing guest,
                                               ShadowRing shadow,
                                               uint16_t base) {
  ShadowQueue queue(std::move(guest), std::move(shadow));
  ASSIGN_OR_RETURN(const absl::Span<const InflightRequest> left,
                   queue.guest_.Recover(base));
  queue.left_.assign(left.begin(), left.end());
  queue.shadow_.DisableCalls();
  return queue;
}

bool ShadowQueue::HasSuspect() const {
  return std::any_of(left_.begin(), left_.end(), IsSuspect);
}

absl::Status ShadowQueue::Refuse(const Suspect& suspect, KickBack kind) {
  const auto found =
      std::find_if(left_.begin(), left_.end(), [&](const auto& request) {
        return request.head == suspect.head &&
               request.counter == suspect.counter;
      });
  if (found == left_.end()) return absl::NotFoundError("it is not in flight");
  left_.erase(found);
  const auto chain = std::make_unique<Chain>();
  Completion answer = {suspect.head, 0};
  // One that the driver has built badly has no place for an error.
  if (guest_.ReadChain(suspect.head, *chain).ok()) {
    answer = AnswerWithError(kind, *chain);
  }
  return guest_.Publish({&answer, 1});
}

void ShadowQueue::Give(bool on_trial) {
  on_trial_ = on_trial;
  if (on_trial) {
    std::stable_partition(left_.begin(), left_.end(), IsSuspect);
    on_trial_ = GiveNext();
    return;
  }
  for (const InflightRequest& request : left_) shadow_.Push(request.head);
  left_.clear();
  shadow_.Expose();
}

bool ShadowQueue::GiveNext() {
  if (left_.empty()) return false;
  tried_ = left_.front();
  left_.erase(left_.begin());
  shadow_.Push(tried_.head);
  return true;
}

std::optional<InflightRequest> ShadowQueue::alone() const {
  if (!shown_ || shadow_.outstanding() != 1 || shadow_.HasAnswer()) {
    return std::nullopt;
  }
  return tried_;
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
  if (on_trial_) {
    if (shadow_.outstanding() == 0) {
      on_trial_ = GiveNext();
      outcome.moved = true;
    }
    outcome.kick = shadow_.Expose();
    shown_ = on_trial_;
    return outcome;
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
  const bool requests = takes && !on_trial_ && guest_.EnableKicks();
  return shadow_.EnableCalls() || requests;
}

}  // namespace holdfast::keeper

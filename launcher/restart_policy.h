#ifndef HOLDFAST_LAUNCHER_RESTART_POLICY_H_
#define HOLDFAST_LAUNCHER_RESTART_POLICY_H_

#include <cstdint>

#include "absl/time/time.h"

namespace holdfast::launcher {

// A point of the monotonic clock, as the time since an arbitrary start. Never
// the wall clock, which jumps.
using Uptime = absl::Duration;

// How a lost child is replaced. Part of the launch spec.
struct RestartLimits {
  // Tokens of the crash budget: that many children may be lost in a burst
  // before replacing them ends. 0: no budget, replace for ever.
  uint32_t budget = 10;
  // Serving this long earns one token back.
  absl::Duration refill_every = absl::Seconds(30);
  // Upper bound of the delay before the second replacement in a row; doubles
  // with each further one up to `backoff_max`. Zero: never delay.
  absl::Duration backoff_base = absl::Milliseconds(10);
  absl::Duration backoff_max = absl::Seconds(5);
  // Losses further apart than this are not "in a row".
  absl::Duration healthy_after = absl::Seconds(10);
};

// Decides when a lost child is replaced: the first time at once, then after an
// exponential back-off with full jitter (uniform between zero and the bound,
// so that many devices that fell together do not rise together), and no more
// when the budget, a token bucket refilled by healthy time alone, is empty.
//
// Pure and deterministic: time comes in, the jitter from `seed`. Copyable, so
// that a state machine can hold it by value.
class RestartPolicy {
 public:
  RestartPolicy() : RestartPolicy(RestartLimits{}, 0) {}
  RestartPolicy(const RestartLimits& limits, uint64_t seed);

  struct Decision {
    bool allowed = false;  // False: the budget is empty.
    absl::Duration delay;  // Wait this long before the replacement starts.
  };

  // A child was lost, or could not be started, at `now`.
  Decision OnLoss(Uptime now);

  // Somebody serves from `now` on; nobody does. Idempotent.
  void OnServing(Uptime now);
  void OnNotServing(Uptime now);

  // Credits healthy time up to `now`, then takes one token if there is one:
  // for a replacement that was denied earlier.
  bool TryTakeToken(Uptime now);

  // Forgets all losses: an operator has asked for a restart.
  void Reset();

  // What outlives a restart of the launcher. The clock is the machine's, so its
  // points still mean the same.
  struct Saved {
    double tokens = 0;
    uint32_t in_a_row = 0;
    Uptime last_loss = -absl::InfiniteDuration();
    bool serving = false;
    Uptime credited_until;
  };
  Saved Save() const;
  // `saved` may be anything: what is impossible is brought into range.
  void Restore(const Saved& saved);

  // Whole tokens left; the bucket's size when there is no budget.
  uint32_t tokens() const { return static_cast<uint32_t>(tokens_); }
  const RestartLimits& limits() const { return limits_; }

 private:
  void Credit(Uptime now);
  absl::Duration Jitter(absl::Duration bound);

  RestartLimits limits_;
  double tokens_ = 0;
  uint32_t in_a_row_ = 0;
  Uptime last_loss_ = -absl::InfiniteDuration();
  bool serving_ = false;
  Uptime credited_until_;
  uint64_t random_ = 0;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_RESTART_POLICY_H_

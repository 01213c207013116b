#ifndef HOLDFAST_DEVICES_KEEPER_RING_WATCH_H_
#define HOLDFAST_DEVICES_KEEPER_RING_WATCH_H_

#include <array>
#include <chrono>
#include <cstdint>

#include "devices/vhost_user/session_state.h"

namespace holdfast::keeper {

// Tells a back-end that hangs from one that has nothing to do, by what it takes
// and answers: a ring that has requests, and whose used index has not moved for
// a time, is stuck. A device whose rings wait for what comes from outside
// (a network's receive ring) always looks so, and cannot be watched.
//
// Pure; knows no clock. The indices come from a guest's memory, and are only
// compared.
class RingWatch {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `limit` of 0: nothing is ever stuck.
  explicit RingWatch(std::chrono::milliseconds limit) : limit_(limit) {}

  bool watches() const { return limit_.count() != 0; }
  std::chrono::milliseconds limit() const { return limit_; }
  // Look this often: then a ring is found stuck at most a quarter later than it
  // is.
  std::chrono::milliseconds period() const { return limit_ / 4; }

  // Whether ring `queue`, a valid number, has been stuck for the limit at
  // `now`, when its indices are these.
  bool IsStuck(uint16_t queue, uint16_t available, uint16_t used, Time now) {
    Seen& seen = rings_[queue];
    const bool moved = !seen.waits || seen.used != used;
    seen.waits = available != used;
    seen.used = used;
    if (moved) seen.since = now;
    return watches() && seen.waits && now - seen.since >= limit_;
  }
  // Another process works on the rings from now on.
  void Forget() { rings_ = {}; }

 private:
  struct Seen {
    bool waits = false;  // Had requests, with `used`, since `since`.
    uint16_t used = 0;
    Time since;
  };

  const std::chrono::milliseconds limit_;
  std::array<Seen, vhost_user::kMaxQueues> rings_;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_RING_WATCH_H_

#ifndef HOLDFAST_DEVICES_KEEPER_SHADOW_PUMP_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_SHADOW_PUMP_SYS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "devices/keeper/kick_back.h"
#include "devices/keeper/shadow_queue.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/store/protocol.h"

namespace holdfast::keeper {

// Moves requests and answers between a guest's rings and those of a back-end,
// on a thread of its own: a control thread that waits for a back-end's word
// does not hold the requests up.
//
// All calls from the control thread; those marked (held) only while it has what
// Hold returned, and then the thread touches neither rings nor memory. The
// constructor makes the thread and all descriptors.
class ShadowPump {
 public:
  // Of a ring, as long as it runs; the descriptors stay open as long.
  struct Ends {
    BorrowedFd kick{-1};  // The guest's.
    BorrowedFd call{-1};  // May be invalid: the driver polls.
    bool takes = false;   // Requests are taken from it.
  };

  ShadowPump();
  ShadowPump(const ShadowPump&) = delete;
  ShadowPump& operator=(const ShadowPump&) = delete;
  // Never runs in production: the process ends with its threads. For tests.
  ~ShadowPump();

  // The back-end's kicks and calls, by ShadowKickSlot and ShadowCallSlot; of
  // any other slot none.
  BorrowedFd Get(store::Slot slot) const;

  std::unique_lock<std::mutex> Hold();

  // The ring does not run, and becomes this one. (held)
  void Set(uint16_t queue, ShadowQueue ring);
  // Goes on with it, or from the start: both sides are signalled. (held)
  void Run(uint16_t queue, const Ends& ends);
  // Other descriptors, or another wish; while it runs. (held)
  void Change(uint16_t queue, const Ends& ends);
  // It is not touched any more, and forgotten; without one a no-op. (held)
  void Drop(uint16_t queue);
  // nullptr: there is none. (held)
  ShadowQueue* ring(uint16_t queue);

  // The one request that the back-end has, if it is on trial. (held)
  std::optional<Suspect> Alone();

  // Becomes readable when the back-end has lied.
  BorrowedFd news() const { return news_; }
  // How it has, since the last call; OK: it has not. (held)
  absl::Status TakeNews();

 private:
  struct Own {
    UniqueFd kick;
    UniqueFd call;
  };
  struct Ring {
    std::optional<ShadowQueue> queue;
    Ends ends;
    bool runs = false;
  };

  void Loop();
  Ring* OnTrial();
  bool TurnAll();
  bool RestAll();
  void Wait(std::unique_lock<std::mutex>& lock);

  std::array<Own, vhost_user::kMaxQueues> own_;
  const UniqueFd wake_;
  const UniqueFd news_;

  std::mutex mutex_;
  std::atomic<bool> wanted_{false};  // The control thread waits for mutex_.
  std::array<Ring, vhost_user::kMaxQueues> rings_;
  uint64_t changes_ = 0;  // Of descriptors.
  absl::Status lie_;
  bool end_ = false;
  std::thread thread_;  // Last: it uses the others.
};

// For back-ends that work behind shadow rings.
struct ShadowParts {
  ShadowPump* pump = nullptr;  // Null: they work on the guest's rings.
  store::Slot memory = 0;      // Of kShadowBytes.
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_SHADOW_PUMP_SYS_H_

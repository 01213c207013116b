#ifndef HOLDFAST_STATESTORE_STORE_STORE_SYS_H_
#define HOLDFAST_STATESTORE_STORE_STORE_SYS_H_

#include <array>
#include <bitset>
#include <cstdint>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "statestore/store/actions.h"
#include "statestore/store/escrow.h"
#include "statestore/store/message_io_sys.h"
#include "statestore/store/outbox.h"
#include "statestore/store/undertaker_sys.h"

struct epoll_event;

namespace holdfast::store {

// holdfast-store's event loop around Escrow. About 0.5 MB of fixed memory, so
// make it static; after Start() it allocates nothing (store_alloc_test). One
// thread, and another that only closes. Descriptors that it holds are closed by
// the process's end, not by a destructor.
class Store {
 public:
  // Messages taken from one child before all others have had their turn, so
  // that a child cannot starve the rest by flooding.
  static constexpr int kMessagesPerTurn = 4;

  // Time until a VMM that could not be accepted is tried again, and until a
  // child that is behind is looked at again, unless its channel says earlier
  // that there is room.
  static constexpr int kRetryMs = 100;

  // `launcher`: SEQPACKET to the launcher. `max_instances`: at most
  // kMaxInstances; all that there are descriptors for. Before the steady-state
  // filter: a thread is started.
  absl::Status Start(UniqueFd launcher, size_t max_instances = kMaxInstances);

  // Waits up to `timeout_ms` (-1: for ever) for something to happen and
  // handles it. False: the launcher's end is closed for good.
  bool RunOnce(int timeout_ms);

 private:
  // Events taken from the kernel at once.
  static constexpr int kBatch = 32;

  // Deaths have an epoll set of their own, which is looked at before every
  // single other event: no child's traffic delays another's promotion.
  void HandleFences();
  void HandleChannel(Key key, uint32_t events);
  void HandleVmm(Key key);
  void Retry();
  // Sends a child that is behind what it has not been sent, until it is full.
  void CatchUp(Key key);
  // Whether the loop hears of room in the channel of `to`.
  void WatchForRoom(const Action& to, bool wanted);
  bool HandleLauncher(uint32_t events);

  void Perform();
  void PerformSend(const Action& action);
  void PerformKill(const Action& action);
  void PerformTell(const Action& action);
  void PerformWatch(const Action& action);

  // Sends what waits for the launcher until it would block.
  void Flush();
  bool FlushOutbox();
  bool FlushInventory();
  void Enqueue(const Message& message, const Handle (&fds)[2]);
  void UpdateLauncherEvents();
  bool waiting() const { return !outbox_.empty() || inventory_; }

  Undertaker undertaker_;
  UniqueFd launcher_;
  UniqueFd epoll_;
  UniqueFd fences_;
  Escrow escrow_;
  ActionList actions_;
  Outbox outbox_;
  bool inventory_ = false;  // An answer to kHello is under way.
  Cursor cursor_;
  uint64_t nonce_ = 0;
  bool launcher_blocked_ = false;
  // While escrow_.paused() or anyone_behind().
  uint64_t retry_at_ = 0;
  uint64_t promoted_at_ = 0;
  int kill_errno_ = 0;
  // Children whose last send failed in the list being carried out.
  struct Failure {
    bool failed = false;
    bool gone = false;
    Key key;
  };
  Failure failures_[kMaxInstances][kMaxChildrenPerInstance] = {};
  bool any_failure_ = false;
};

}  // namespace holdfast::store

#endif  // HOLDFAST_STATESTORE_STORE_STORE_SYS_H_

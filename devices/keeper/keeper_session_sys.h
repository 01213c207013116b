#ifndef HOLDFAST_DEVICES_KEEPER_KEEPER_SESSION_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_KEEPER_SESSION_SYS_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/keeper/backend_link_sys.h"
#include "devices/keeper/backend_plan.h"
#include "devices/keeper/handshake.h"
#include "devices/keeper/inflight_region.h"
#include "devices/keeper/keeper_state.h"
#include "devices/runtime/descriptors.h"
#include "devices/runtime/file_range_sys.h"
#include "devices/runtime/memory_map_sys.h"
#include "devices/runtime/session_host_sys.h"
#include "statestore/inflight.h"
#include "statestore/lane.h"
#include "statestore/store/backend_resources.h"
#include "statestore/transaction.h"

namespace holdfast::keeper {

// By store::BackendResource.
using BackendSlots = std::array<store::Slot, store::kBackendResourceCount>;

// The session of a VMM with a device that a foreign process emulates. The VMM
// talks to this; the process, which may die and be replaced, is told what the
// VMM has said, and works on the guest's rings by itself.
//
// What was said to the back-end stands in the segment, so a successor goes on
// with the same life of it. A keeper that dies while it speaks leaves a
// back-end that may have understood any part: that life is given up.
//
// A life that is of no use any more is told of to the launcher and not spoken
// to again; its connection stays as it is until it is dead.
//
// Control thread only. References outlive the session.
class KeeperSession final : public SessionHost {
 public:
  // How long a ring that the VMM stops may wait for the next life of the
  // back-end, which is to finish what is in flight. Then the VMM hears what it
  // would find out by itself.
  static constexpr std::chrono::seconds kLifePatience{20};

  KeeperSession(const BackendTraits& traits, const KeeperState& cells,
                const BackendSlots& slots, store::Slot inflight_slot,
                DescriptorSlots& descriptors, DescriptorKeeper& keeper);

  // Maps what the committed session of another process names.
  void MapAhead(const vhost_user::SessionState& session) {
    memory_.UpdateAhead(session, descriptors_);
  }
  bool TouchSome() { return memory_.TouchSome(descriptors_); }

  absl::Status Resume(Lane& lane, StateBank& state);

  // One of the back-end's slots holds another descriptor, or its connection has
  // something.
  void OnBackend();
  // Readable when OnBackend has something to do.
  BorrowedFd backend() const;

  // A request of the back-end's, if there is one.
  void OnBackendRequest();
  // Readable when there is one.
  BorrowedFd backend_requests() const;

  // Whether what the VMM says can be answered: not before the back-end has said
  // what it is.
  bool CanServe() const { return offer_.known != 0; }

 private:
  using SessionState = vhost_user::SessionState;

  // SessionHost.
  absl::Status Apply(const SessionState& session) override;
  void Forget() override;
  void OnChannel() override {}

  // SessionEnvironment.
  absl::Status PrepareQueue(const SessionState& next, uint16_t queue,
                            vhost_user::QueueStart how) override;
  // The back-end itself copes with changes of a ring that runs.
  uint32_t QuiesceQueue(uint16_t) override { return 0; }
  void QuiesceAll() override {}
  absl::StatusOr<uint32_t> StopQueue(uint16_t queue) override;
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> bytes) override;
  absl::Status WriteConfig(uint32_t offset, bool migration,
                           absl::Span<const uint8_t> bytes) override;
  void ResetDevice() override {}

  // A conversation with the life in the slot begins.
  void Greet();
  absl::Status Meet();
  absl::Status WriteConfigAgain();
  // Brings the back-end to `session`; `anew`: it knows nothing.
  absl::Status Tell(const SessionState& session, bool anew);
  absl::Status Say(const Step& step);
  absl::StatusOr<uint16_t> UsedIndex(const SessionState& session,
                                     uint16_t queue) const;
  // Makes the in-flight region one for the rings of `session`.
  absl::Status FitRegion(const SessionState& session);
  // Where ring `queue` begins, after its in-flight record was made ready.
  absl::StatusOr<uint16_t> BaseOf(const SessionState& session, uint16_t queue);
  void SignalAll(const SessionState& session);
  absl::Status ApplyInflight(const SessionState& session);
  bool UsesTheirs(const SessionState& session, uint16_t queue) const;
  absl::StatusOr<InflightTable> TableOf(const SessionState& session,
                                        uint16_t queue);

  // Asks the life that runs `queue` to stop it.
  absl::StatusOr<uint16_t> AskBase(uint16_t queue);
  BorrowedFd Get(store::BackendResource resource) const {
    return descriptors_.Get(slots_[resource]);
  }
  absl::Status Handle(const vhost_user::BackendRequest& request);
  // Its configuration space has changed.
  absl::Status ReadConfigAgain();

  // This life of the back-end is of no use any more.
  void GiveUp(const absl::Status& why);
  void SendVerdict();

  template <typename Change>
  void Commit(Change change);
  template <typename T>
  T Get(const Cell<T>& cell);

  const BackendTraits traits_;
  const KeeperState cells_;
  const BackendSlots slots_;

  StateBank* state_ = nullptr;  // Since Resume.
  Offer offer_ = {};
  Agreement agreement_;
  std::optional<BackendLink> link_;  // While its life is spoken to.
  uint64_t life_ = 0;                // The last one that was looked at.
  std::string why_;                  // It was given up, if it was.
  // Since when the VMM waits for a ring to be stopped.
  std::optional<std::chrono::steady_clock::time_point> stop_asked_;
  SessionState done_ = {};
  MemoryMap memory_;
  UnalignedMapping own_memory_;
  InflightRegion own_region_;
  UnalignedMapping their_region_;
  LogLimiter log_;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_KEEPER_SESSION_SYS_H_

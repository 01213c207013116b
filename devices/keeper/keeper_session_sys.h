#ifndef HOLDFAST_DEVICES_KEEPER_KEEPER_SESSION_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_KEEPER_SESSION_SYS_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "devices/keeper/backend_life_sys.h"
#include "devices/keeper/backend_plan.h"
#include "devices/keeper/handshake.h"
#include "devices/keeper/inflight_region.h"
#include "devices/keeper/keeper_state.h"
#include "devices/keeper/kick_back.h"
#include "devices/keeper/ring_watch.h"
#include "devices/keeper/shadow_pump_sys.h"
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

// What is remembered: see keeper_state.h.
struct KeeperCells {
  KeeperState own;
  SecondSeatState second;  // Perhaps not bound.
};

// The session of a VMM with a device that a foreign process emulates. The VMM
// talks to this; the process, which may die and be replaced, is told what the
// VMM has said, and works on the guest's rings by itself.
//
// Of two lives one is current. The other one is told everything but the rings,
// as soon as it answers and whenever the VMM says more: when it becomes
// current, only the rings are left.
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

  KeeperSession(const BackendTraits& traits, const KeeperCells& cells,
                const BackendSlots& slots, store::Slot inflight_slot,
                const ShadowParts& shadow, DescriptorSlots& descriptors,
                DescriptorKeeper& keeper);

  // Maps what the committed session of another process names.
  void MapAhead(const vhost_user::SessionState& session) {
    memory_.UpdateAhead(session, descriptors_);
  }
  bool TouchSome() { return memory_.TouchSome(descriptors_); }

  absl::Status Resume(Lane& lane, StateBank& state);

  // One of the back-end's slots holds another descriptor, or a connection with
  // it has something.
  void OnBackend();
  // Readable when OnBackend has something to do.
  BorrowedFd backend() const;
  // Hangs up when it has, for then no thread of the current life runs any more.
  // Invalid: nothing tells of that, or has told, or this is not Resumed.
  BorrowedFd fence() const;

  // A request of the back-end's, if there is one.
  void OnBackendRequest();
  // Readable when there is one.
  BorrowedFd backend_requests() const;

  // Readable when OnBackend has something to do with shadow rings.
  BorrowedFd shadow_news() const {
    return shadowed() ? shadow_.pump->news() : BorrowedFd(-1);
  }

  // Looks whether the current life hangs. Call it as often as PauseMs() says;
  // -1: there is nothing to look at.
  void CheckProgress();
  int PauseMs() const;

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

  BackendLife& current() { return lives_[current_]; }
  const BackendLife& current() const { return lives_[current_]; }
  BackendLife& spare() { return lives_[1 - current_]; }
  const BackendLife& spare() const { return lives_[1 - current_]; }
  bool IsCurrent(const BackendLife& life) const { return &life == &current(); }

  // Which seat is current; the same as before when that is unclear.
  size_t CurrentSeat() const;
  // Which one the launcher says is.
  size_t NamedSeat() const;
  // Whether no thread of the life in this seat runs any more. False when
  // nothing tells so early.
  bool HasFallen(size_t seat) const;
  // Says to the life in this seat what there is to say.
  void Attend(BackendLife& life);
  absl::Status Converse(BackendLife& life);
  // A conversation from its beginning to where the VMM's session is.
  absl::Status Greet(BackendLife& life);
  // Brings a life to `session`, or to what a spare is told of it.
  absl::Status Tell(BackendLife& life, const SessionState& session);
  absl::Status TellAll(BackendLife& life, const SessionState& session);
  // Of the guest's memory, for comparing.
  absl::StatusOr<uint16_t> AvailableIndex(const SessionState& session,
                                          uint16_t queue) const;
  absl::StatusOr<uint16_t> UsedIndex(const SessionState& session,
                                     uint16_t queue) const;
  absl::StatusOr<uint16_t> IndexAt(uint16_t queue, uint64_t address) const;
  absl::Status ProgressOf(uint16_t queue, RingWatch::Time now);
  // Makes the in-flight region one for the rings of `session`.
  absl::Status FitRegion(BackendLife& life, const SessionState& session);

  // ---- Shadow rings: keeper_shadow_sys.cc ----
  bool shadowed() const { return shadow_.pump != nullptr; }
  absl::StatusOr<SessionState> ToldOf(const SessionState& session) const;
  absl::Status TellShadowed(BackendLife& life, const SessionState& session);
  absl::Status ResumeShadow();
  absl::Status ApplyShadow(const SessionState& session);
  void AttendShadow();
  void DropShadow();
  // A ring for a life. `fault`: the last one ended by its own. (pump held)
  absl::Status BeginShadow(const SessionState& session, uint16_t queue,
                           bool fault);
  // Gives it rings that have begun, but for what has ended others. (pump held)
  void GiveShadow(absl::Span<const uint16_t> begun,
                  const std::optional<Suspect>& convicted);
  // How lives have ended, as the launcher says.
  void TakeWords();
  // After a change of memory or descriptors. False: a ring is gone whose
  // requests a back-end has. With the pump held.
  bool FollowShadow(const SessionState& session);
  ShadowPump::Ends EndsOf(const SessionState& session, uint16_t queue) const;
  absl::StatusOr<uint32_t> StopShadow(uint16_t queue);
  // Whether the VMM can wait on for a ring to be stopped.
  bool IsPatient();

  struct Beginning {
    uint16_t base = 0;
    bool again = false;  // It ran in a life before.
  };
  // Tells the guest that its connections are over. How many requests of the
  // ring for that are answered now.
  uint16_t TellOfReset(const SessionState& session);
  // Where ring `queue` begins, after its in-flight record was made ready.
  absl::StatusOr<Beginning> BeginningOf(const SessionState& session,
                                        uint16_t queue);
  void RaiseKick(const vhost_user::QueueState& queue);
  void SignalBoth(const vhost_user::QueueState& queue);
  absl::Status ApplyMemory(const SessionState& session);
  absl::Status ApplyInflight(const SessionState& session);
  bool UsesTheirs(const SessionState& session, uint16_t queue) const;
  absl::StatusOr<InflightTable> TableOf(const SessionState& session,
                                        uint16_t queue);

  BorrowedFd Get(store::BackendResource resource) const {
    return descriptors_.Get(slots_[resource]);
  }
  absl::Status Handle(BorrowedFd channel,
                      const vhost_user::BackendRequest& request);
  // Its configuration space has changed.
  absl::Status ReadConfigAgain();

  // This life of the back-end is of no use any more.
  void GiveUp(BackendLife& life, const absl::Status& why);
  // What is to be known of one that is not spoken to.
  void SendVerdict(const BackendLife& life);
  void SendReady(const BackendLife& life);
  void Send(uint64_t life, uint32_t kind, absl::string_view why);
  template <typename T>
  void Save(const Cell<T>& cell, const T& value) {
    StateTxn txn = state_->Begin();
    txn.Set(cell, value);
    LogUnsaved(state_->Commit(txn));
  }
  void LogUnsaved(const absl::Status& committed);

  const BackendTraits traits_;
  const Cell<Offer> offer_cell_;
  const Cell<RegionLayout> region_cell_;
  const BackendSlots slots_;

  StateBank* state_ = nullptr;  // Since Resume.
  Offer offer_ = {};
  Agreement agreement_;
  std::array<BackendLife, store::kBackendSeats> lives_;
  size_t current_ = 0;
  bool fallen_ = false;  // The current one has, and nobody may follow yet.
  RingWatch watch_;
  uint64_t watched_ = 0;  // The life that it has looked at.
  // By seat: who was last said to be ready, and on which channel.
  std::array<std::array<uint64_t, 2>, store::kBackendSeats> ready_said_ = {};
  // Since when the VMM waits for a ring to be stopped.
  std::optional<std::chrono::steady_clock::time_point> stop_asked_;
  MemoryMap memory_;
  const ShadowParts shadow_;
  UnalignedMapping shadow_memory_;
  Blame blame_;
  uint64_t shadow_life_ = 0;   // The one that has the rings.
  uint32_t shadow_stops_ = 0;  // Bits of rings that take nothing more.
  UnalignedMapping own_memory_;
  InflightRegion own_region_;
  UnalignedMapping their_region_;
  LogLimiter log_;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_KEEPER_SESSION_SYS_H_

#ifndef HOLDFAST_DEVICES_KEEPER_BACKEND_LIFE_SYS_H_
#define HOLDFAST_DEVICES_KEEPER_BACKEND_LIFE_SYS_H_

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
#include "devices/keeper/keeper_state.h"
#include "devices/keeper/shadow_pump_sys.h"
#include "devices/runtime/descriptors.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/store/protocol.h"
#include "statestore/transaction.h"

namespace holdfast::keeper {

// A seat for lives of the back-end (statestore/store/backend_resources.h), and
// what was said to the one that sits there. That stands in the segment, so a
// successor of the keeper goes on with it. A keeper that dies while it speaks
// leaves a life that may have understood any part: it is given up.
//
// Threads: one. Every error of a conversation means that this life is of no use
// any more, but for kAborted of WriteConfig.
class BackendLife {
 public:
  // One that waits for its turn may keep the others waiting for so long.
  static constexpr int kSparePatienceMs = 3000;

  struct Slots {
    store::Slot requests = 0;
    store::Slot requests_peer = 0;
    store::Slot connection = 0;
    store::Slot inflight = 0;  // The region that lives are given.
  };

  // `descriptors` and `shadow`, which has those of shadow rings, if there are
  // any, outlive the seat. Cells that are not bound remember nothing.
  BackendLife(const LifeCells& cells, const Slots& slots,
              const DescriptorSlots& descriptors,
              const ShadowPump* shadow = nullptr)
      : cells_(cells),
        slots_(slots),
        descriptors_(descriptors),
        shadow_(shadow) {}

  // Takes over what another process of the keeper has said; `state` outlives
  // the last call. kAborted: it has died over it.
  absl::Status Resume(StateBank& state, const Agreement& agreement);

  // Whether somebody else sits here than was seen last; then see Begin.
  bool HasChanged() const { return SocketNumber() != number_; }
  // A conversation with whoever sits here begins. False: nobody does.
  bool Begin();
  // Of whom was seen last: the cookie of its socket. 0: nobody.
  uint64_t number() const { return number_; }

  // Whether it is spoken to: somebody sits here, and was not given up.
  bool speaks() const { return link_.has_value(); }
  // It has been asked something, so that its answer shows that it has started.
  bool is_starting() const { return starting_; }
  // `speaks()`: it has said something, or is over.
  bool HasWord() const { return link_->IsOver(); }
  // Both are invalid without a conversation.
  BorrowedFd connection() const;
  BorrowedFd requests() const;
  // A store that was started again gives the same connection once more.
  void Refresh();

  // The guest waits for this one: it gets all the time that there is.
  void BecomeCurrent();

  // Asks for something, and does not wait: it may not have started yet.
  absl::Status Knock();
  // From the beginning, over the answer to Knock, to where PlanSteps begins.
  absl::StatusOr<Offer> Meet(const BackendTraits& traits,
                             uint32_t expected_config);
  // What it has told of itself is another one: asked again.
  absl::StatusOr<Offer> AskConfig(const Offer& offer);

  // What it was told of the session.
  const vhost_user::SessionState& done() const { return done_; }
  // Brings it to `session`.
  absl::Status Tell(const vhost_user::SessionState& session,
                    const Agreement& agreement, const RingBases& bases);
  absl::StatusOr<uint16_t> StopRing(uint16_t queue);
  // What the VMM has written, to one that does not know of it.
  absl::Status WriteConfigAgain(const Offer& offer);
  // kAborted: it does not take that, and lives on.
  absl::Status WriteConfig(uint32_t offset, uint32_t flags,
                           absl::Span<const uint8_t> bytes);

  // Around a conversation that the keeper may die over.
  void SetTalking(bool talking);

  // It is not to be spoken to any more, by a successor either. kCancelled: it
  // has finished, and done nothing wrong.
  void GiveUp(const absl::Status& why);
  const std::string& why() const { return why_; }
  bool finished() const { return finished_; }

 private:
  uint64_t SocketNumber() const;
  BorrowedFd Get(store::Slot slot) const {
    const bool own = shadow_ != nullptr && slot >= store::kSlotCount;
    return own ? shadow_->Get(slot) : descriptors_.Get(slot);
  }
  absl::Status Say(const Step& step);
  template <typename Change>
  void Commit(Change change);

  const LifeCells cells_;
  const Slots slots_;
  const DescriptorSlots& descriptors_;
  const ShadowPump* const shadow_;

  StateBank* state_ = nullptr;  // Since Resume.
  std::optional<BackendLink> link_;
  uint64_t number_ = 0;
  bool starting_ = false;
  bool talking_ = false;
  vhost_user::SessionState done_ = {};
  std::string why_;        // It was given up, if it was.
  bool finished_ = false;  // Likewise.
  LogLimiter log_;
};

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_BACKEND_LIFE_SYS_H_

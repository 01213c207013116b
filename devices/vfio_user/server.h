#ifndef HOLDFAST_DEVICES_VFIO_USER_SERVER_H_
#define HOLDFAST_DEVICES_VFIO_USER_SERVER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "devices/bus/region_device.h"
#include "devices/vfio_user/session.h"
#include "statestore/lane.h"
#include "statestore/store/protocol.h"

namespace holdfast::vfio_user {

// What a server needs of its process. Beside the effects of SessionEnvironment:
class ServerEnvironment : public SessionEnvironment {
 public:
  // Puts a descriptor where it outlives this process, and where the calls of
  // SessionEnvironment find it. Replaces what was in the slot.
  virtual absl::Status Escrow(store::Slot slot, UniqueFd descriptor) = 0;

  // Brings mappings and interrupts in line with the committed state; slots that
  // it does not refer to may be closed once the reply is sent. Idempotent. What
  // cannot be applied is the client's doing: the connection goes on without it.
  virtual void Apply(const SessionState& state, ConstWindowTable table) = 0;

  // Everything that came before the message that is decided next is answered.
  virtual void Answered() {}

  // As in Afterwards; the state is applied.
  virtual void Do(const Afterwards& afterwards) = 0;

  // An answer to a request of ours, perhaps again when a predecessor died while
  // it took it. Its data are gone when this returns. False: nobody waits for
  // it.
  virtual bool Take(const Answer& answer) = 0;

  // The client's end of what OfferTwin has made.
  virtual BorrowedFd TwinOfClient() { return BorrowedFd(-1); }

  // A client was told no, or would have been.
  virtual void Refused(const absl::Status& refusal) = 0;
};

// An answer has come: whoever waits for it has it now, or the client is
// refused.
void TakeAnswer(const Answer& answer, ServerEnvironment& environment);

// Serves a RegionDevice over a lane: the session as a lane's handler. Makes no
// system call itself. One thread; all references outlive it.
class Server final : public LaneHandler {
 public:
  // Of the lane that such a server runs on.
  static constexpr LaneSizes Sizes(uint32_t max_transfer) {
    return {sizeof(SessionState),
            static_cast<uint32_t>(max_transfer + kReplyOverhead),
            static_cast<uint32_t>(max_transfer + kReplyOverhead)};
  }

  // `memory` lies in the segment, beside the lane.
  Server(const Serving& serving, SessionMemory& memory, RegionDevice& device,
         ServerEnvironment& environment)
      : serving_(serving),
        memory_(memory),
        device_(device),
        environment_(environment) {}

  // Takes over what the lane has committed: applies it. kDataLoss:
  // CheckInvariants.
  absl::Status Resume(absl::Span<const uint8_t> bank);

  const SessionState& state() const { return state_; }

  // LaneHandler.
  size_t header_size() const override { return sizeof(MessageHeader); }
  absl::StatusOr<size_t> MessageSize(
      absl::Span<const uint8_t> header) const override;
  absl::Status Escrow(absl::Span<const uint8_t> message,
                      absl::Span<UniqueFd> fds) override;
  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override;
  void Committed(absl::Span<const uint8_t> bank) override;
  absl::Span<const int> ReplyFds(absl::Span<const uint8_t> bank) override;

 private:
  void TakeState(absl::Span<const uint8_t> bank);

  const Serving serving_;
  SessionMemory& memory_;
  RegionDevice& device_;
  ServerEnvironment& environment_;
  SessionState state_{};             // Committed.
  absl::Span<const uint8_t> which_;  // Of the message that is being answered.
  int reply_fd_ = -1;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_SERVER_H_

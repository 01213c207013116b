#ifndef HOLDFAST_DEVICES_VFIO_USER_SESSION_H_
#define HOLDFAST_DEVICES_VFIO_USER_SESSION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/bus/region_device.h"
#include "devices/vfio_user/ask_journal.h"
#include "devices/vfio_user/codec.h"
#include "devices/vfio_user/session_state.h"
#include "statestore/store/protocol.h"

namespace holdfast::vfio_user {

// The protocol of a server as a pure function: (state, request) -> (new state,
// reply). The caller keeps the state in the connection's lane and runs, for
// each message,
//
//   peek -> Parse -> SlotsFor -> escrow the descriptors in these slots ->
//   consume -> Decide -> commit {next state, reply} -> apply the committed
//   state, then the decision's Afterwards -> send the reply -> tell the store
//   which slots to retain
//
// and a successor goes on at the first step that was not done. "Apply" brings
// the process (mappings, descriptors) in line with the state and nothing else;
// it is also how a successor begins. What Afterwards asks for stands in the
// state until the next message: a successor that finds the reply unsent does it
// again.

// What is constant for the life of an instance, and of a connection.
struct Serving {
  // Data in one message, either way, in bytes; at most kMaxTransfer. The reply
  // buffer has kReplyOverhead bytes more.
  uint32_t max_transfer = kMaxTransfer;
  // Ascending from one connection to the next, at least 1: it is part of the
  // names of accesses, which a device sees only once.
  uint32_t connection = 1;
  bool write_multiple = true;  // REGION_WRITE_MULTI is offered.
};

// Bytes of a reply beside its data.
inline constexpr size_t kReplyOverhead = 256;

// Whether this device can be served: kInvalidArgument, with the reason, when it
// has more than kMaxVectors vectors, 32 kinds of them, or 32 regions, or a
// region with windows but without memory, or more than 8 of them.
absl::Status CheckDevice(const RegionDevice& device);

// Effects that must have happened before the new state is committed. All may be
// repeated: a successor does, when its predecessor died in between.
class SessionEnvironment {
 public:
  virtual ~SessionEnvironment() = default;

  // Tells the file behind an escrowed descriptor apart from others.
  virtual absl::StatusOr<FileId> IdentifyFile(store::Slot slot) = 0;

  // Whether that file can be mapped shared with this access (kDmaReadable,
  // kDmaWriteable) from `offset` for `size` bytes: opened for it, and large
  // enough. `offset` + `size` does not wrap.
  virtual absl::Status CheckFile(store::Slot slot, uint32_t access,
                                 uint64_t offset, uint64_t size) = 0;

  // No transfer touches the window any more, and none begins. Its mapping may
  // stay until the state is applied.
  virtual absl::Status ReleaseWindow(const WindowState& window) = 0;

  // RegionDevice::Reset(), after whatever work was being done.
  virtual absl::Status ResetDevice() = 0;

  // Makes the second socket of this connection and keeps its ends in kTwinSlot
  // and kTwinClientSlot. False: there is none, and the client's is served on
  // the one socket.
  virtual bool OfferTwin() { return false; }

  // Whether this access has killed who made it, again and again: it is refused
  // as a mistake of the guest's.
  virtual bool IsPoison(AccessId) { return false; }

  // What follows is called only if the device can be migrated. When a request
  // is refused in the end, applying the old state takes back what was done.
  virtual bool CanMigrate() const { return false; }

  // One arc of the state machine (migration.h). From kResuming to kStop: all
  // data are there; an error, and nothing changed, if they make no sense.
  virtual absl::Status EnterState(MigrationState, MigrationState) {
    return absl::UnimplementedError("migration");
  }
  // Bytes of the device's state from `offset` on; fewer than fit: the end.
  virtual absl::StatusOr<size_t> ReadMigrationData(uint64_t /*offset*/,
                                                   absl::Span<uint8_t>) {
    return absl::UnimplementedError("migration");
  }
  virtual absl::Status WriteMigrationData(uint64_t /*offset*/,
                                          absl::Span<const uint8_t>) {
    return absl::UnimplementedError("migration");
  }

  // From here on until the applied state says otherwise the device's writes to
  // windows are noted by pages of this size; no ranges: all of them.
  virtual absl::Status StartLogging(uint64_t /*page_size*/,
                                    absl::Span<const LoggingRange>) {
    return absl::UnimplementedError("logging");
  }
  // Sets bit n of `bitmap`, which is zeros, for the n-th page of this size if
  // it was written since the last report that was committed.
  virtual absl::Status ReportDirty(uint64_t /*address*/, uint64_t /*size*/,
                                   uint64_t /*page_size*/,
                                   absl::Span<uint8_t> /*bitmap*/) {
    return absl::UnimplementedError("logging");
  }
};

// Slots for the descriptors of one message, in their order.
struct SlotList {
  store::Slot slots[kMaxMessageFds] = {};
  size_t count = 0;
};

// Where the descriptors of `request` go: the lowest session slots that the
// state does not refer to. Deterministic, so that a successor that repeats the
// escrow overwrites the same ones. None for a malformed request, whose
// descriptors are closed unused. When slots run out the list is too short, and
// Decide() will say so.
SlotList SlotsFor(const SessionState& state, ConstWindowTable table,
                  const Request& request);

// What is to be done once the state is committed; repeating it is harmless.
struct Afterwards {
  enum class Kind { kNothing, kSignal, kUnmask };
  Kind kind = Kind::kNothing;
  uint32_t irq = 0;
  uint32_t start = 0;
  uint32_t count = 0;
  // Empty: all of the range. Else one for each; those with 0 are left out.
  // Points into the message, so a successor does not have it.
  absl::Span<const uint8_t> which;
};

// As the state has it.
Afterwards AfterwardsOf(const SessionState& state);

// The outcome of one message.
struct Decision {
  Decision() = default;
  explicit Decision(const SessionState& state) : next(state) {}

  SessionState next{};
  // Bytes of `reply` to be sent; 0: none. With descriptors if
  // next.reply_region is not 0.
  size_t reply_size = 0;
  Afterwards afterwards;
  // It is an answer to a request of ours, if anybody waits for it.
  bool answered = false;
  Answer answer;
  // Why the request was refused, for the log. The client is told, unless it
  // wants no reply.
  absl::Status refusal;
};

// Decides one message. `slots` is what SlotsFor returned, with the descriptors
// in place. Of the windows in `memory` those that count in `state` are
// read, others are written. `reply` has serving.max_transfer + kReplyOverhead
// bytes; when a predecessor died while it decided the same message, they are
// what it has left in them.
//
// An error ends the service of this connection, and nothing may be sent:
// kAborted and kDataLoss as RegionDevice has them, or kInvalidArgument: the
// message before this one had no end.
// Precondition: CheckInvariants(state) and CheckDevice(device) are OK.
absl::StatusOr<Decision> Decide(const SessionState& state,
                                SessionMemory& memory, const Request& request,
                                const SlotList& slots, const Serving& serving,
                                RegionDevice& device,
                                SessionEnvironment& environment,
                                absl::Span<uint8_t> reply);

// An answer that a client gave, or would have given: what is malformed is an
// error, whatever it says. Precondition: request.is_reply.
Answer AnswerIn(const Request& request);

// Index in SessionState::vectors of a kind's first vector.
size_t FirstVector(const RegionDevice& device, uint32_t irq);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_SESSION_H_

#ifndef HOLDFAST_DEVICES_VHOST_USER_SESSION_H_
#define HOLDFAST_DEVICES_VHOST_USER_SESSION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/store/protocol.h"

namespace holdfast::vhost_user {

// The protocol of a back-end as a pure function: (state, request) -> (new
// state, reply). The caller keeps the state in the connection's lane and runs,
// for each message,
//
//   peek -> Parse -> SlotsFor -> escrow the descriptors in these slots ->
//   consume -> Decide -> commit {next state, reply} -> apply the committed
//   state -> send the reply -> tell the store which slots to retain
//
// and a successor goes on at the first step that was not done. "Apply" brings
// the process (mappings, descriptors, running queues) in line with the state
// and nothing else; it is also how a successor begins. Since a request may be
// decided again by a successor, a decision depends on nothing but its arguments
// and every effect of SessionEnvironment is idempotent.

// What the device offers, constant for the life of an instance.
struct BackendInfo {
  uint64_t features = 0;                 // VIRTIO feature bits of the device.
  uint64_t protocol_features = 0;        // kProtocol... bits.
  uint16_t queue_count = 1;              // At most kMaxQueues.
  uint16_t max_queue_size = 256;         // Power of two.
  uint32_t config_size = 0;              // Bytes of configuration space.
  uint32_t max_mem_slots = kMaxRegions;  // At most kMaxRegions.
  // The in-flight region that GET_INFLIGHT_FD hands out: a device slot and the
  // size of the memory behind it. 0: there is none.
  store::Slot inflight_slot = 0;
  uint64_t inflight_size = 0;
};

// The bits of GET_FEATURES: the device's, and those of vhost itself that follow
// from what the back-end can do.
uint64_t OfferedFeatures(const BackendInfo& info);

// How a ring that starts finds its in-flight record.
enum class QueueStart {
  kFresh,  // Nothing is in flight: mark the record unused (version 0), whatever
           // it holds, so that recovery begins it from the used index in the
           // ring. (A zeroed record that counts as used would lose a request:
           // spdk/spdk issue 3766.)
  kAdopt,  // The front-end handed the region over (state.inflight): a record
           // of version 0 is treated as kFresh, any other is recovered.
};

// Effects that must have happened before the new state is committed. All are
// idempotent: a successor repeats them when its predecessor died in between.
// After Decide() the caller applies the committed state, also when the request
// was refused: that makes queues that were quiesced here go on.
class SessionEnvironment {
 public:
  virtual ~SessionEnvironment() = default;

  // Initialises the in-flight record of a ring that starts with this decision.
  // Nothing has been taken from the ring, and nothing will be before the state
  // is committed and applied. `next` is the state to be committed; its memory
  // table and slots may be newer than what is applied. An error refuses the
  // request.
  virtual absl::Status PrepareQueue(const SessionState& next, uint16_t queue,
                                    QueueStart how) = 0;
  // Stops taking requests from `queue` and waits until none is in flight.
  // Returns the next available index. Called only for started rings.
  virtual uint32_t QuiesceQueue(uint16_t queue) = 0;
  // The same for a ring that the front-end stops (GET_VRING_BASE).
  // kUnavailable: it cannot be stopped yet.
  virtual absl::StatusOr<uint32_t> StopQueue(uint16_t queue) {
    return QuiesceQueue(queue);
  }
  // As QuiesceQueue, for every queue. The rings stay started in the state.
  virtual void QuiesceAll() = 0;
  // Forgets what is recorded in the region that GET_INFLIGHT_FD hands out.
  // Called only when no ring is started.
  virtual void ClearInflight() = 0;

  // Reads configuration space; `offset` + size is at most config_size.
  virtual absl::Status ReadConfig(uint32_t offset,
                                  absl::Span<uint8_t> bytes) = 0;
  // Writes it; the same range. `migration`: read-only fields are meant, too.
  virtual absl::Status WriteConfig(uint32_t offset, bool migration,
                                   absl::Span<const uint8_t> bytes) = 0;

  // Whether the descriptor escrowed in `slot` can be mapped shared from
  // `offset` for `size` bytes, i.e. whether its file is large enough.
  // `offset` + `size` does not wrap; neither need be a multiple of a page.
  virtual absl::Status CheckRegion(store::Slot slot, uint64_t offset,
                                   uint64_t size) = 0;

  // Brings the device's own state back to what it was at the beginning.
  virtual void ResetDevice() = 0;
};

// Slots for the descriptors of one message, in their order. A message may bring
// more descriptors than this: those are closed unused.
struct SlotList {
  store::Slot slots[kMaxMessageFds] = {};
  size_t count = 0;
};

// Where the `fd_count` descriptors of `request` go: the lowest session slots
// that `state` does not refer to. Deterministic, so that a successor that
// repeats the escrow overwrites the same ones. kInvalidArgument: not the number
// of descriptors that the message must have.
absl::StatusOr<SlotList> SlotsFor(const SessionState& state,
                                  const Request& request, size_t fd_count);

// The outcome of one request.
struct Decision {
  SessionState next{};
  // Bytes of `reply` to be sent; 0: this message has no reply.
  size_t reply_size = 0;
  // Descriptor that goes with the reply, a device slot; 0: none.
  store::Slot reply_slot = 0;
  // Why the request was refused; `next` is then the old state and the reply
  // tells the front-end. For the log.
  absl::Status refusal;
};

// Decides `request`. `slots` is what SlotsFor returned, with the descriptors in
// place; `reply` holds at least kMaxReplySize bytes. An error means that the
// connection must be given up: the request is refused and the protocol leaves
// no way to say so. A front-end that negotiated REPLY_ACK and asks for a reply
// is told, and the session goes on. kUnavailable: nothing was decided, the
// request is to be decided later.
// Precondition: CheckInvariants(state) is OK.
absl::StatusOr<Decision> Decide(const SessionState& state,
                                const Request& request, const SlotList& slots,
                                const BackendInfo& info,
                                SessionEnvironment& environment,
                                absl::Span<uint8_t> reply);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_SESSION_H_

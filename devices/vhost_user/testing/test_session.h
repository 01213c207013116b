#ifndef HOLDFAST_DEVICES_VHOST_USER_TESTING_TEST_SESSION_H_
#define HOLDFAST_DEVICES_VHOST_USER_TESTING_TEST_SESSION_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/session.h"
#include "devices/vhost_user/testing/fake_environment.h"
#include "devices/vhost_user/testing/message_builder.h"

namespace holdfast::vhost_user {

// What came of one message.
struct Outcome {
  std::vector<uint8_t> reply;  // Empty: none.
  store::Slot reply_slot = 0;
  absl::Status refusal;

  // The payload of the reply as a number; ~0 when it is not one.
  uint64_t Number() const {
    uint64_t value = ~0ull;
    if (reply.size() == sizeof(MessageHeader) + sizeof(value)) {
      std::memcpy(&value, reply.data() + sizeof(MessageHeader), sizeof(value));
    }
    return value;
  }
};

// A device with everything on offer and two queues.
inline BackendInfo EverythingOffered() {
  BackendInfo info;
  info.features = (1ull << 32) | (1ull << 29) | 0xff;
  info.protocol_features = kProtocolMq | kProtocolLogShmfd | kProtocolReplyAck |
                           kProtocolBackendReq | kProtocolConfig |
                           kProtocolInflightShmfd | kProtocolResetDevice |
                           kProtocolConfigureMemSlots | kProtocolStatus;
  info.queue_count = 2;
  info.max_queue_size = 256;
  info.config_size = 60;
  info.inflight_slot = store::kSlotFirstDevice;
  info.inflight_size = 64 * 1024;
  return info;
}

// The loop around Decide() without its lane, store and socket. Every message is
// decided twice, as after a crash before the commit, and the second outcome
// must be the first; every state must satisfy its invariants. A breach of these
// is kInternal, which Decide() itself never returns.
class TestSession {
 public:
  BackendInfo info = EverythingOffered();
  FakeEnvironment environment;
  SessionState state{};

  absl::StatusOr<Outcome> Deliver(absl::Span<const uint8_t> message,
                                  size_t fd_count) {
    ASSIGN_OR_RETURN(const Request request, Parse(message));
    ASSIGN_OR_RETURN(const SlotList slots, SlotsFor(state, request, fd_count));
    uint8_t reply[kMaxReplySize];
    uint8_t again[kMaxReplySize];
    const absl::StatusOr<Decision> decision =
        Decide(state, request, slots, info, environment, reply);
    const std::vector<std::string> effects = environment.effects;
    const absl::StatusOr<Decision> second =
        Decide(state, request, slots, info, environment, again);
    environment.effects = effects;
    if (decision.ok() != second.ok()) {
      return absl::InternalError("decided differently the second time");
    }
    if (!decision.ok()) return decision.status();
    if (std::memcmp(&decision->next, &second->next, sizeof(SessionState)) !=
            0 ||
        decision->reply_size != second->reply_size ||
        decision->reply_slot != second->reply_slot ||
        decision->refusal != second->refusal ||
        std::memcmp(reply, again, decision->reply_size) != 0) {
      return absl::InternalError("decided differently the second time");
    }
    if (const absl::Status broken = CheckInvariants(decision->next);
        !broken.ok()) {
      return absl::InternalError(broken.message());
    }
    if (!decision->refusal.ok() &&
        std::memcmp(&decision->next, &state, sizeof(state)) != 0) {
      return absl::InternalError("a refused request changed the state");
    }
    state = decision->next;
    return Outcome{{reply, reply + decision->reply_size},
                   decision->reply_slot,
                   decision->refusal};
  }

  absl::StatusOr<Outcome> Send(RequestType type,
                               const std::vector<uint8_t>& payload = {},
                               size_t fd_count = 0, bool need_reply = false) {
    return Deliver(Message(type, payload, need_reply), fd_count);
  }
  absl::StatusOr<Outcome> SendNumber(RequestType type, uint64_t value,
                                     size_t fd_count = 0,
                                     bool need_reply = false) {
    return Send(type, BytesOf(value), fd_count, need_reply);
  }
  absl::StatusOr<Outcome> SendVring(RequestType type, uint32_t index,
                                    uint32_t num, bool need_reply = false) {
    return Send(type, BytesOf(VringState{index, num}), 0, need_reply);
  }

  // The effects since the last call.
  std::vector<std::string> TakeEffects() {
    return std::exchange(environment.effects, {});
  }
};

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_TESTING_TEST_SESSION_H_

#include "devices/vhost_user/session.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/turn.h"

namespace holdfast::vhost_user {
namespace {

// Body of a u64 reply that says no. Any number but 0 would do.
constexpr uint64_t kRefused = 1;

// The protocol feature that a back-end must offer to be sent this request;
// 0: none. That the front-end acknowledged it is not asked for: the known
// back-ends do not, either.
uint64_t NeededProtocolFeature(RequestType type) {
  switch (type) {
    case RequestType::kSetLogBase:
    case RequestType::kSetLogFd:
      return kProtocolLogShmfd;
    case RequestType::kSetBackendReqFd:
      return kProtocolBackendReq;
    case RequestType::kGetConfig:
    case RequestType::kSetConfig:
      return kProtocolConfig;
    case RequestType::kGetInflightFd:
    case RequestType::kSetInflightFd:
      return kProtocolInflightShmfd;
    case RequestType::kResetDevice:
      return kProtocolResetDevice;
    case RequestType::kGetMaxMemSlots:
    case RequestType::kAddMemReg:
    case RequestType::kRemMemReg:
      return kProtocolConfigureMemSlots;
    case RequestType::kSetStatus:
    case RequestType::kGetStatus:
      return kProtocolStatus;
    default:
      return 0;
  }
}

// How many descriptors come with a request, and how many of them are of use.
struct FdRule {
  size_t least;
  size_t most;
  size_t kept;
};

FdRule FdRuleOf(const Request& request) {
  if (!request.supported) return {0, kMaxMessageFds, 0};
  switch (request.type) {
    case RequestType::kSetMemTable:
      return {request.region_count, request.region_count, request.region_count};
    case RequestType::kSetVringKick:
    case RequestType::kSetVringCall:
    case RequestType::kSetVringErr:
      return request.vring_has_fd() ? FdRule{1, 1, 1} : FdRule{0, 0, 0};
    case RequestType::kSetLogBase:
    case RequestType::kSetLogFd:
    case RequestType::kSetBackendReqFd:
    case RequestType::kSetInflightFd:
    case RequestType::kAddMemReg:
      return {1, 1, 1};
    case RequestType::kRemMemReg:
      // "For compatibility with existing incorrect implementations."
      return {0, 1, 0};
    default:
      return {0, 0, 0};
  }
}

// "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts
// directly in the enabled state."
bool RingsBeginEnabled(const SessionState& state) {
  return state.features_acked != 0 &&
         (state.features & kFeatureProtocolFeatures) == 0;
}

absl::Status SetFeatures(Turn& turn) {
  const uint64_t features = turn.request.value;
  const uint64_t extra = features & ~OfferedFeatures(turn.info);
  if (extra != 0) {
    return turn.Invalid("bits 0x", absl::Hex(extra), " were not offered");
  }
  if (turn.next.features != features) turn.QuiesceIfRunning();
  turn.next.features = features;
  turn.next.features_acked = 1;
  RETURN_IF_ERROR(CheckLogCoverage(turn));
  if (RingsBeginEnabled(turn.next)) {
    for (size_t i = 0; i < turn.info.queue_count && i < kMaxQueues; ++i) {
      turn.next.queues[i].enabled = 1;
    }
  }
  return absl::OkStatus();
}

absl::Status SetProtocolFeatures(Turn& turn) {
  const uint64_t extra = turn.request.value & ~turn.info.protocol_features;
  if (extra != 0) {
    return turn.Invalid("bits 0x", absl::Hex(extra), " were not offered");
  }
  turn.next.protocol_features = turn.request.value;
  return absl::OkStatus();
}

// Front-ends ask for as much as their own structure has, which may be newer
// than the device's: bytes that the device does not have read as zero.
absl::Status GetConfig(Turn& turn) {
  const ConfigHeader& config = turn.request.config;
  if (config.size > kMaxConfigAccess) return turn.Invalid("too large");
  uint8_t payload[sizeof(ConfigHeader) + kMaxConfigAccess] = {};
  std::memcpy(payload, &config, sizeof(config));
  if (config.offset < turn.info.config_size) {
    const size_t size =
        std::min(config.size, turn.info.config_size - config.offset);
    RETURN_IF_ERROR(turn.environment.ReadConfig(
        config.offset, {payload + sizeof(config), size}));
  }
  return turn.Reply(
      absl::Span<const uint8_t>(payload, sizeof(config) + config.size));
}

absl::Status SetConfig(Turn& turn) {
  const ConfigHeader& config = turn.request.config;
  if (config.size > kMaxConfigAccess || config.offset > turn.info.config_size ||
      config.size > turn.info.config_size - config.offset) {
    return turn.Invalid(config.size, " bytes at ", config.offset,
                        " of a configuration space of ", turn.info.config_size);
  }
  if (config.flags > kConfigFlagMigration) {
    return turn.Invalid("flags 0x", absl::Hex(config.flags));
  }
  return turn.environment.WriteConfig(config.offset,
                                      config.flags == kConfigFlagMigration,
                                      {turn.request.config_bytes, config.size});
}

// "Disable all rings and reset all internal device state." What belongs to the
// connection stays: features, memory, descriptors for our signals.
absl::Status ResetDevice(Turn& turn) {
  turn.QuiesceIfRunning();
  turn.environment.ResetDevice();
  turn.next.status = 0;
  for (QueueState& queue : turn.next.queues) {
    QueueState fresh{};
    fresh.call = queue.call;
    fresh.err = queue.err;
    fresh.settled = 1;
    queue = fresh;
  }
  if (RingsBeginEnabled(turn.next)) {
    for (size_t i = 0; i < turn.info.queue_count && i < kMaxQueues; ++i) {
      turn.next.queues[i].enabled = 1;
    }
  }
  return absl::OkStatus();
}

// Nothing but a record. A status of 0 must not touch the rings: QEMU before
// 8.1 sends it at every stop of the machine, ahead of GET_VRING_BASE.
absl::Status SetStatus(Turn& turn) {
  if (turn.request.value > 0xff) {
    return turn.Invalid("0x", absl::Hex(turn.request.value));
  }
  turn.next.status = static_cast<uint8_t>(turn.request.value);
  return absl::OkStatus();
}

absl::Status DecideDeviceRequest(Turn& turn) {
  switch (turn.request.type) {
    case RequestType::kGetFeatures:
      return turn.Reply(OfferedFeatures(turn.info));
    case RequestType::kSetFeatures:
      return SetFeatures(turn);
    case RequestType::kSetOwner:
      turn.next.owned = 1;
      return absl::OkStatus();
    case RequestType::kResetOwner:
      // Deprecated; "it is recommended that back-ends ignore this message".
      return absl::OkStatus();
    case RequestType::kGetProtocolFeatures:
      return turn.Reply(turn.info.protocol_features);
    case RequestType::kSetProtocolFeatures:
      return SetProtocolFeatures(turn);
    case RequestType::kGetQueueNum:
      return turn.Reply(uint64_t{turn.info.queue_count});
    case RequestType::kSetBackendReqFd:
      turn.next.backend_request = turn.slots.slots[0];
      return absl::OkStatus();
    case RequestType::kGetConfig:
      return GetConfig(turn);
    case RequestType::kSetConfig:
      return SetConfig(turn);
    case RequestType::kResetDevice:
      return ResetDevice(turn);
    case RequestType::kSetStatus:
      return SetStatus(turn);
    case RequestType::kGetStatus:
      return turn.Reply(uint64_t{turn.next.status});
    default:
      return turn.Unsupported("not supported");
  }
}

absl::Status Execute(Turn& turn) {
  if (!turn.request.supported) return turn.Unsupported("not supported");
  const uint64_t needed = NeededProtocolFeature(turn.request.type);
  if ((turn.info.protocol_features & needed) != needed) {
    return turn.Unsupported(
        "needs a protocol feature that the device does not offer");
  }
  const size_t kept = FdRuleOf(turn.request).kept;
  if (turn.slots.count != kept) {
    return turn.Invalid(turn.slots.count, " slots for ", kept, " descriptors");
  }
  switch (turn.request.type) {
    case RequestType::kSetMemTable:
    case RequestType::kGetMaxMemSlots:
    case RequestType::kAddMemReg:
    case RequestType::kRemMemReg:
    case RequestType::kSetLogBase:
    case RequestType::kSetLogFd:
    case RequestType::kGetInflightFd:
    case RequestType::kSetInflightFd:
      return DecideMemoryRequest(turn);
    case RequestType::kSetVringNum:
    case RequestType::kSetVringAddr:
    case RequestType::kSetVringBase:
    case RequestType::kGetVringBase:
    case RequestType::kSetVringEnable:
    case RequestType::kSetVringEndian:
    case RequestType::kSetVringKick:
    case RequestType::kSetVringCall:
    case RequestType::kSetVringErr:
      return DecideQueueRequest(turn);
    default:
      return DecideDeviceRequest(turn);
  }
}

// Tells the front-end, where the protocol has words for it; otherwise returns
// `why`.
absl::StatusOr<Decision> Refuse(const SessionState& state, Turn& turn,
                                const absl::Status& why) {
  const bool may_acknowledge =
      turn.request.need_reply &&
      (state.protocol_features & kProtocolReplyAck) != 0;
  switch (turn.request.type) {
    case RequestType::kGetConfig:
      // "Uses zero length of payload to indicate an error."
      RETURN_IF_ERROR(turn.Reply(absl::Span<const uint8_t>()));
      break;
    case RequestType::kGetInflightFd:
      // A region of no size: the front-end goes on without one.
      RETURN_IF_ERROR(turn.Reply(InflightDescription{}));
      break;
    case RequestType::kSetLogBase:
      RETURN_IF_ERROR(turn.Reply(kRefused));
      break;
    case RequestType::kGetVringBase:
      return why;  // The reply has room for an index only.
    default:
      if (!may_acknowledge) return why;
      RETURN_IF_ERROR(turn.Reply(kRefused));
  }
  Decision decision;
  decision.next = state;
  decision.reply_size = turn.reply_size();
  decision.refusal = why;
  return decision;
}

}  // namespace

uint64_t OfferedFeatures(const BackendInfo& info) {
  const bool can_log = (info.protocol_features & kProtocolLogShmfd) != 0;
  return info.features | kFeatureProtocolFeatures |
         (can_log ? kFeatureLogAll : 0);
}

absl::StatusOr<SlotList> SlotsFor(const SessionState& state,
                                  const Request& request, size_t fd_count) {
  const FdRule rule = FdRuleOf(request);
  if (fd_count < rule.least || fd_count > rule.most) {
    return absl::InvalidArgumentError(
        absl::StrCat(RequestName(request.type), ": ", fd_count,
                     " descriptors, not ", rule.most));
  }
  const SlotBitmap used = ReferencedSlots(state);
  SlotList list;
  store::Slot slot = store::kSlotFirstSession;
  while (list.count < rule.kept) {
    if (slot >= store::kSlotEndSession) {
      return absl::ResourceExhaustedError(
          absl::StrCat(RequestName(request.type), ": no slot is free"));
    }
    const bool taken = (used[slot / 64] >> (slot % 64) & 1) != 0;
    if (!taken) list.slots[list.count++] = slot;
    ++slot;
  }
  return list;
}

absl::StatusOr<Decision> Decide(const SessionState& state,
                                const Request& request, const SlotList& slots,
                                const BackendInfo& info,
                                SessionEnvironment& environment,
                                absl::Span<uint8_t> reply) {
  Turn turn(state, request, slots, info, environment, reply);
  turn.next.version = kSessionStateVersion;
  absl::Status status = Execute(turn);
  if (status.ok()) status = StartQueues(turn);
  // Of a ring that cannot be stopped yet.
  if (absl::IsUnavailable(status) &&
      request.type == RequestType::kGetVringBase) {
    return status;
  }
  if (!status.ok()) return Refuse(state, turn, status);
  if (request.need_reply && turn.reply_size() == 0 &&
      (turn.next.protocol_features & kProtocolReplyAck) != 0) {
    RETURN_IF_ERROR(turn.Reply(uint64_t{0}));
  }
  Decision decision;
  decision.next = turn.next;
  decision.reply_size = turn.reply_size();
  decision.reply_slot = turn.reply_slot;
  return decision;
}

}  // namespace holdfast::vhost_user

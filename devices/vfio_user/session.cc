#include "devices/vfio_user/session.h"

#include <algorithm>
#include <string>

#include "base/status_macros.h"
#include "devices/vfio_user/capabilities.h"
#include "devices/vfio_user/turn.h"

namespace holdfast::vfio_user {
namespace {

// What we speak; a reply has the smaller of the two ends' minors.
constexpr uint16_t kMajor = 0;
constexpr uint16_t kMinor = 2;

constexpr size_t kMaxKinds = 32;  // Of regions and of interrupts.
constexpr size_t kMaxRegionWindows = 8;

absl::Status DecideVersion(Turn& turn) {
  const Request& request = turn.request;
  if (turn.next.negotiated != 0) return turn.Invalid("was negotiated already");
  if (request.version.major != kMajor) {
    return turn.Invalid("major ", request.version.major, ", only ", kMajor,
                        " is spoken");
  }
  Capabilities client;
  if (request.has_json) {
    ASSIGN_OR_RETURN(client, ParseCapabilities(request.json));
  }
  SessionState& next = turn.next;
  next.negotiated = 1;
  next.minor = std::min(request.version.minor, kMinor);
  next.max_message_fds =
      std::min<uint32_t>(client.max_message_fds, kMaxMessageFds);
  next.max_transfer = std::min(client.max_transfer, turn.serving.max_transfer);

  Capabilities own;
  own.max_message_fds = kMaxMessageFds;
  own.max_transfer = turn.serving.max_transfer;
  own.max_dma_maps = kMaxWindows;
  own.write_multiple = turn.serving.write_multiple;
  // The end of the socket that is the client's comes with the reply.
  if (client.twin_socket && next.max_message_fds != 0 && !request.no_reply &&
      turn.environment.OfferTwin()) {
    own.twin_socket = true;
    next.twin_socket = 1;
    next.reply_region = kReplyTwin;
  }
  const std::string json = EncodeCapabilities(own);
  turn.writer.Append(Version{kMajor, next.minor});
  turn.writer.AppendBytes(
      {reinterpret_cast<const uint8_t*>(json.c_str()), json.size() + 1});
  return absl::OkStatus();
}

absl::Status DecideInfo(Turn& turn) {
  DeviceInfo reply{};
  reply.argsz = sizeof(reply);
  reply.flags = kDeviceCanReset |
                (turn.device.is_pci() ? kDeviceIsPci : kDeviceIsPlatform);
  reply.region_count = static_cast<uint32_t>(turn.device.regions().size());
  reply.irq_count = static_cast<uint32_t>(turn.device.irqs().size());
  turn.writer.Append(reply);
  return absl::OkStatus();
}

absl::Status DecideReset(Turn& turn) {
  const absl::Status status = turn.environment.ResetDevice();
  if (absl::IsAborted(status) || absl::IsDataLoss(status)) turn.fatal = status;
  turn.next.migration_state = 0;  // Running, also after an error.
  return status;
}

absl::Status DecideCommand(Turn& turn) {
  const Command command = turn.request.command;
  if (command == Command::kVersion) return DecideVersion(turn);
  if (turn.next.negotiated == 0) {
    return turn.Invalid("before the version was negotiated");
  }
  switch (command) {
    case Command::kDmaMap:
      return DecideDmaMap(turn);
    case Command::kDmaUnmap:
      return DecideDmaUnmap(turn);
    case Command::kDeviceGetInfo:
      return DecideInfo(turn);
    case Command::kDeviceGetRegionInfo:
      return DecideRegionInfo(turn);
    case Command::kDeviceGetRegionIoFds:
      return DecideRegionIoFds(turn);
    case Command::kDeviceGetIrqInfo:
      return DecideIrqInfo(turn);
    case Command::kDeviceSetIrqs:
      return DecideSetIrqs(turn);
    case Command::kRegionRead:
      return DecideRegionRead(turn);
    case Command::kRegionWrite:
      return DecideRegionWrite(turn);
    case Command::kRegionWriteMulti:
      if (!turn.serving.write_multiple) return turn.Invalid("is not offered");
      return DecideSmallWrites(turn);
    case Command::kDeviceReset:
      return DecideReset(turn);
    case Command::kDeviceFeature:
      return DecideFeature(turn);
    case Command::kMigDataRead:
      return DecideMigrationRead(turn);
    case Command::kMigDataWrite:
      return DecideMigrationWrite(turn);
    default:
      return turn.Invalid("is not served");
  }
}

// Vectors are at most kMaxVectors, which fits.
void Remember(const Afterwards& afterwards, SessionState& next) {
  static_assert(kMaxVectors < 256 && kMaxKinds < 256);
  next.after_kind = static_cast<uint8_t>(afterwards.kind);
  next.after_irq = static_cast<uint8_t>(afterwards.irq);
  next.after_start = static_cast<uint8_t>(afterwards.start);
  next.after_count = static_cast<uint8_t>(afterwards.count);
}

// What was asked for and told with the message before is no more.
void Begin(SessionState& next) {
  next.version = kSessionStateVersion;
  next.reply_region = 0;
  Remember(Afterwards{}, next);
}

// Decide, on a copy of `state`.
absl::Status DecideIn(Turn& turn, const SessionState& state,
                      absl::Span<uint8_t> reply, Decision& decision) {
  const Request& request = turn.request;
  if (state.lost != 0) {
    return absl::InvalidArgumentError(
        "the message before had an impossible size");
  }
  Begin(turn.next);
  if (request.is_reply && !request.boundary_lost) {
    // It is never answered: that could go on for ever.
    decision.answered = true;
    decision.answer = AnswerIn(request);
    return absl::OkStatus();
  }
  decision.refusal =
      request.malformed.ok() ? DecideCommand(turn) : request.malformed;
  RETURN_IF_ERROR(turn.fatal);
  if (decision.refusal.ok()) {
    decision.afterwards = turn.afterwards;
    Remember(turn.afterwards, turn.next);
    ASSIGN_OR_RETURN(decision.reply_size, turn.writer.FinishReply(request));
  } else {
    turn.next = state;
    Begin(turn.next);
    turn.next.lost = request.boundary_lost ? 1 : 0;
    ASSIGN_OR_RETURN(
        decision.reply_size,
        EncodeError(request, ErrorNumber(decision.refusal), reply));
  }
  if (request.no_reply) {
    decision.reply_size = 0;
    turn.next.reply_region = 0;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckDevice(const RegionDevice& device) {
  const auto wrong = [](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("device: ", parts...));
  };
  if (device.regions().size() > kMaxKinds || device.irqs().size() > kMaxKinds) {
    return wrong("more than ", kMaxKinds, " regions or kinds of interrupts");
  }
  for (size_t i = 0; i < device.regions().size(); ++i) {
    const holdfast::RegionInfo& region = device.regions()[i];
    if (region.windows.empty()) continue;
    if (region.windows.size() > kMaxRegionWindows) {
      return wrong("region ", i, " has more than ", kMaxRegionWindows,
                   " windows");
    }
    if (device.RegionMemory(static_cast<uint32_t>(i)).get() < 0) {
      return wrong("region ", i, " has windows and no memory");
    }
  }
  uint64_t vectors = 0;
  for (const holdfast::IrqInfo& irq : device.irqs()) vectors += irq.count;
  if (vectors > kMaxVectors) {
    return wrong(vectors, " interrupt vectors, at most ", kMaxVectors,
                 " are served");
  }
  return absl::OkStatus();
}

Answer AnswerIn(const Request& request) {
  Answer answer;
  answer.id = request.id;
  answer.command = request.command;
  answer.error =
      request.malformed.ok() ? request.error : ErrorNumber(request.malformed);
  if (answer.error == 0) answer.data = request.data;
  return answer;
}

Afterwards AfterwardsOf(const SessionState& state) {
  return {static_cast<Afterwards::Kind>(state.after_kind),
          state.after_irq,
          state.after_start,
          state.after_count,
          {}};
}

size_t FirstVector(const RegionDevice& device, uint32_t irq) {
  size_t first = 0;
  for (uint32_t i = 0; i < irq; ++i) first += device.irqs()[i].count;
  return first;
}

SlotList SlotsFor(const SessionState& state, ConstWindowTable table,
                  const Request& request) {
  SlotList list;
  if (request.fd_count == 0 || !request.malformed.ok()) return list;
  const SlotBitmap used = ReferencedSlots(state, table);
  const size_t wanted = std::min(request.fd_count, kMaxMessageFds);
  for (store::Slot slot = store::kSlotFirstSession;
       slot < store::kSlotEndSession && list.count < wanted; ++slot) {
    if ((used[slot / 64] >> (slot % 64) & 1) == 0) {
      list.slots[list.count++] = slot;
    }
  }
  return list;
}

absl::StatusOr<Decision> Decide(const SessionState& state,
                                SessionMemory& memory, const Request& request,
                                const SlotList& slots, const Serving& serving,
                                RegionDevice& device,
                                SessionEnvironment& environment,
                                absl::Span<uint8_t> reply) {
  // The state is more than most messages change: it is copied once, here.
  absl::StatusOr<Decision> decision(absl::in_place, state);
  Turn turn(decision->next, memory, request, slots, serving, device,
            environment, reply);
  if (absl::Status over = DecideIn(turn, state, reply, *decision); !over.ok()) {
    decision = std::move(over);
  }
  return decision;
}

}  // namespace holdfast::vfio_user

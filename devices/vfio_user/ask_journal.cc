#include "devices/vfio_user/ask_journal.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/vfio_user/codec.h"
#include "statestore/lane_journal.h"

namespace holdfast::vfio_user {
namespace {

// The word that says what is being sent, taken apart. `folded` bytes went out
// before the set `tx` was armed.
struct Sending {
  uint32_t size = 0;  // Of the message; 0: nothing is sent.
  uint32_t folded = 0;
  uint32_t tx = 0;
  uint32_t slot = 0;
};

constexpr uint64_t Pack(const Sending& sending) {
  return uint64_t{sending.size} | uint64_t{sending.folded} << 24 |
         uint64_t{sending.slot} << 48 | uint64_t{sending.tx} << 56;
}

constexpr Sending Unpack(uint64_t word) {
  Sending sending;
  sending.size = word & 0xffffff;
  sending.folded = word >> 24 & 0xffffff;
  sending.slot = word >> 48 & 0xff;
  sending.tx = static_cast<uint32_t>(word >> 56);
  return sending;
}

constexpr uint32_t NameOf(Command command, uint16_t id) {
  return uint32_t{static_cast<uint16_t>(command)} << 16 | id;
}

constexpr Command CommandOf(uint32_t name) {
  return Command{static_cast<uint16_t>(name >> 16)};
}

absl::Status Damaged(const char* what) {
  return absl::DataLossError(
      absl::StrCat("journal of requests: ", what, " makes no sense"));
}

absl::StatusOr<LaneTally> TallyOf(const AskMemory& memory,
                                  const Sending& sending) {
  if (sending.size > sizeof(memory.message) || sending.tx > 1 ||
      sending.slot >= kMaxAsks || sending.folded > sending.size) {
    return Damaged("what is sent");
  }
  return TallyEntries(memory.tx[sending.tx].entries, sending.folded,
                      sending.size);
}

}  // namespace

absl::Status AskJournal::Resume() {
  for (const AskRecord& ask : memory_.asks) {
    if (ask.name == 0) continue;
    const Command command = CommandOf(ask.name);
    if ((command != Command::kDmaRead && command != Command::kDmaWrite) ||
        ask.count == 0 || ask.count > kMaxAskBytes) {
      return Damaged("a request that waits");
    }
  }
  if (!unfinished()) return absl::OkStatus();
  const Sending sending = Unpack(memory_.sending);
  ASSIGN_OR_RETURN(const LaneTally sent, TallyOf(memory_, sending));
  if (sent.bytes != 0 && sent.bytes != sending.size) return absl::OkStatus();
  // Its entry may be written in part.
  if (sent.bytes == 0) Free(sending.slot);
  SharedAccess::StoreRelease(&memory_.sending, uint64_t{0});
  return absl::OkStatus();
}

void AskJournal::Clear() {
  for (size_t slot = 0; slot < kMaxAsks; ++slot) Free(slot);
  SharedAccess::StoreRelease(&memory_.sending, uint64_t{0});
}

size_t AskJournal::waiting() const {
  size_t count = 0;
  for (const AskRecord& ask : memory_.asks) count += ask.name != 0 ? 1 : 0;
  return count;
}

void AskJournal::Free(size_t slot) {
  SharedAccess::StoreRelease(&memory_.asks[slot].name, 0u);
}

// Not one that an answer may still bear.
uint16_t AskJournal::NewId() {
  for (;;) {
    const auto id = static_cast<uint16_t>(memory_.next_id);
    SharedAccess::StoreRelease(&memory_.next_id, memory_.next_id + 1);
    bool used = false;
    for (const AskRecord& ask : memory_.asks) {
      used |= ask.name != 0 && (ask.name & 0xffff) == id;
    }
    if (!used) return id;
  }
}

absl::StatusOr<AskJournal::Sent> AskJournal::Send(LaneIo& io, const Ask& ask,
                                                  size_t* slot) {
  const bool read = ask.command == Command::kDmaRead;
  const size_t count = read ? ask.count : ask.data.size();
  if (count == 0 || count > kMaxAskBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(CommandName(ask.command), ": ", count, " bytes, 1 to ",
                     kMaxAskBytes, " can be asked for"));
  }
  for (*slot = 0; *slot < kMaxAsks && memory_.asks[*slot].name != 0;) ++*slot;
  if (*slot == kMaxAsks) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxAsks, " requests wait for an answer"));
  }
  const uint16_t id = NewId();
  const absl::Span<uint8_t> out = absl::MakeSpan(memory_.message);
  Sending sending;
  sending.slot = static_cast<uint32_t>(*slot);
  ASSIGN_OR_RETURN(const size_t size,
                   read ? EncodeDmaRead(id, {ask.address, ask.count}, out)
                        : EncodeDmaWrite(id, ask.address, ask.data, out));
  sending.size = static_cast<uint32_t>(size);
  ArmEntries(memory_.tx[0].entries);
  // Before its entry: one that counts while nothing is sent is waited for.
  SharedAccess::StoreRelease(&memory_.sending, Pack(sending));
  AskRecord& record = memory_.asks[*slot];
  record.address = ask.address;
  record.count = static_cast<uint32_t>(count);
  SharedAccess::StoreRelease(&record.name, NameOf(ask.command, id));
  return Finish(io);
}

absl::StatusOr<AskJournal::Sent> AskJournal::Finish(LaneIo& io) {
  Sending sending = Unpack(memory_.sending);
  for (;;) {
    ASSIGN_OR_RETURN(const LaneTally sent, TallyOf(memory_, sending));
    if (sent.bytes == sending.size) {
      SharedAccess::StoreRelease(&memory_.sending, uint64_t{0});
      return Sent::kWhole;
    }
    if (sent.next == kLaneEntries) {
      sending.tx ^= 1;
      sending.folded = static_cast<uint32_t>(sent.bytes);
      ArmEntries(memory_.tx[sending.tx].entries);
      SharedAccess::StoreRelease(&memory_.sending, Pack(sending));
      continue;
    }
    LaneTxSet& tx = memory_.tx[sending.tx];
    ASSIGN_OR_RETURN(
        const LaneIo::Result result,
        io.Send(tx.entries[sent.next], tx.vector,
                absl::MakeConstSpan(memory_.message)
                    .subspan(sent.bytes, sending.size - sent.bytes),
                {}));
    if (result == LaneIo::Result::kDone) continue;
    if (result == LaneIo::Result::kClosed) return Sent::kClosed;
    if (sent.bytes != 0) return Sent::kPart;
    // The entry first: the other way round it would be waited for.
    Free(sending.slot);
    SharedAccess::StoreRelease(&memory_.sending, uint64_t{0});
    return Sent::kNothing;
  }
}

absl::optional<AskJournal::Taken> AskJournal::Take(const Answer& answer) {
  const uint32_t name = NameOf(answer.command, answer.id);
  for (size_t slot = 0; slot < kMaxAsks; ++slot) {
    const AskRecord& ask = memory_.asks[slot];
    // What is sent in part cannot be answered yet.
    if (ask.name != name || name == 0 ||
        (unfinished() && Unpack(memory_.sending).slot == slot)) {
      continue;
    }
    Taken taken;
    taken.slot = slot;
    taken.error = answer.error;
    taken.data = answer.data;
    if (taken.error == 0 && answer.command == Command::kDmaRead &&
        taken.data.size() != ask.count) {
      taken.error = EIO;
    }
    if (taken.error != 0) taken.data = {};
    Free(slot);
    return taken;
  }
  return absl::nullopt;
}

}  // namespace holdfast::vfio_user

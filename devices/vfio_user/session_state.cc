#include "devices/vfio_user/session_state.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/crc32c.h"
#include "base/status_macros.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/migration_message.h"

namespace holdfast::vfio_user {
namespace {

bool IsSessionSlot(store::Slot slot) {
  return slot >= store::kSlotFirstSession && slot < store::kSlotEndSession;
}

void Add(SlotBitmap& bitmap, store::Slot slot) {
  if (slot < store::kSlotCount) bitmap[slot / 64] |= 1ull << (slot % 64);
}

bool Contains(const SlotBitmap& bitmap, store::Slot slot) {
  return (bitmap[slot / 64] >> (slot % 64) & 1) != 0;
}

template <typename... Parts>
absl::Status Broken(const Parts&... parts) {
  return absl::DataLossError(absl::StrCat("vfio-user session: ", parts...));
}

// The slots of vectors; each has one purpose.
absl::Status CheckVectors(const SessionState& state, SlotBitmap& used) {
  for (size_t i = 0; i < kMaxVectors; ++i) {
    const VectorState& vector = state.vectors[i];
    if (vector.masked > 1 || vector.reserved != 0) {
      return Broken("vector ", i, " has an impossible flag");
    }
    for (const store::Slot slot :
         {vector.trigger, vector.mask, vector.unmask}) {
      if (slot == 0) continue;
      if (!IsSessionSlot(slot) || Contains(used, slot)) {
        return Broken("vector ", i, " has slot ", slot);
      }
      Add(used, slot);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckWindow(size_t i, const WindowState& window,
                         const SlotBitmap& used) {
  if (window.crc != WindowCrc(window)) {
    return Broken("window ", i, " is damaged");
  }
  if (window.size == 0 || window.address + (window.size - 1) < window.address ||
      window.offset + window.size < window.offset) {
    return Broken("window ", i, " is empty or wraps");
  }
  if ((window.access & ~(kDmaReadable | kDmaWriteable)) != 0) {
    return Broken("window ", i, " has access ", window.access);
  }
  const bool has_file = window.slot != 0;
  if (has_file &&
      (!IsSessionSlot(window.slot) || Contains(used, window.slot))) {
    return Broken("window ", i, " has slot ", window.slot);
  }
  return absl::OkStatus();
}

absl::Status CheckWindows(const SessionState& state, ConstWindowTable table,
                          const SlotBitmap& used) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // First and last byte.
  absl::Status status;
  ForEachWindow(state, table, [&](size_t i, const WindowState& window) {
    status = CheckWindow(i, window, used);
    ranges.emplace_back(window.address, window.address + (window.size - 1));
    return status.ok();
  });
  RETURN_IF_ERROR(status);
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first <= ranges[i - 1].second) {
      return Broken("windows overlap at ", ranges[i].first);
    }
  }
  return absl::OkStatus();
}

}  // namespace

size_t WindowCount(const SessionState& state) {
  size_t count = 0;
  for (const uint64_t word : state.windows) {
    count += static_cast<size_t>(__builtin_popcountll(word));
  }
  return count;
}

uint32_t WindowCrc(const WindowState& window) {
  return Crc32c(
      {reinterpret_cast<const uint8_t*>(&window), offsetof(WindowState, crc)});
}

SlotBitmap ReferencedSlots(const SessionState& state, ConstWindowTable table) {
  SlotBitmap bitmap{};
  for (const VectorState& vector : state.vectors) {
    Add(bitmap, vector.trigger);
    Add(bitmap, vector.mask);
    Add(bitmap, vector.unmask);
  }
  ForEachWindow(state, table, [&](size_t, const WindowState& window) {
    Add(bitmap, window.slot);
    return true;
  });
  if (state.twin_socket != 0) Add(bitmap, kTwinSlot);
  if (state.reply_region == kReplyTwin) Add(bitmap, kTwinClientSlot);
  bitmap[0] &= ~uint64_t{1};  // Slot 0 is none.
  return bitmap;
}

absl::Status CheckInvariants(const SessionState& state,
                             ConstWindowTable table) {
  if (table.size() != kMaxWindows) return Broken("no table of windows");
  if (state.version == 0) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&state);
    const bool zero = std::all_of(bytes, bytes + sizeof(state),
                                  [](uint8_t b) { return b == 0; });
    return zero ? absl::OkStatus() : Broken("no version");
  }
  if (state.version < kOldestSessionStateVersion ||
      state.version > kSessionStateVersion) {
    return Broken("version ", state.version, ", only ",
                  kOldestSessionStateVersion, " to ", kSessionStateVersion,
                  " are known");
  }
  if (state.version == 1 && (state.after_kind | state.after_irq |
                             state.after_start | state.after_count) != 0) {
    return Broken("an impossible flag of version 1");
  }
  if (state.version < 3 && state.twin_socket != 0) {
    return Broken("a second socket of version ", state.version);
  }
  if (state.negotiated > 1 || state.lost > 1 || state.twin_socket > 1 ||
      state.logging > 1 || state.after_kind > 2 || state.migration_state > 7 ||
      (state.reply_region == kReplyTwin && state.twin_socket == 0)) {
    return Broken("an impossible flag");
  }
  if (state.max_transfer > kDefaultMaxTransfer) {
    return Broken("transfers of ", state.max_transfer, " bytes");
  }
  SlotBitmap used{};
  if (state.twin_socket != 0) Add(used, kTwinSlot);
  if (state.reply_region == kReplyTwin) Add(used, kTwinClientSlot);
  RETURN_IF_ERROR(CheckVectors(state, used));
  return CheckWindows(state, table, used);
}

std::string Describe(const SessionState& state, ConstWindowTable table) {
  std::string text = absl::StrFormat(
      "vfio-user 0.%d%s, %d accesses, %d descriptors and %d bytes a message\n",
      state.minor, state.negotiated != 0 ? "" : " (not negotiated)",
      state.accesses, state.max_message_fds, state.max_transfer);
  if (state.lost != 0) absl::StrAppend(&text, "message boundary lost\n");
  if (state.twin_socket != 0) {
    absl::StrAppend(&text, "requests of ours go by a second socket, slot ",
                    kTwinSlot, "\n");
  }
  if (state.logging != 0) {
    absl::StrAppend(&text, "dirty pages of ", state.log_page_size,
                    " bytes are noted\n");
  }
  ForEachWindow(state, table, [&](size_t i, const WindowState& window) {
    absl::StrAppendFormat(&text, "window %d: %#x + %#x, %s%s", i,
                          window.address, window.size,
                          (window.access & kDmaReadable) != 0 ? "r" : "-",
                          (window.access & kDmaWriteable) != 0 ? "w" : "-");
    if (window.slot != 0) {
      absl::StrAppendFormat(&text, ", slot %d at %#x", window.slot,
                            window.offset);
    }
    absl::StrAppend(&text, "\n");
    return true;
  });
  for (size_t i = 0; i < kMaxVectors; ++i) {
    const VectorState& vector = state.vectors[i];
    if ((vector.trigger | vector.mask | vector.unmask) == 0) continue;
    absl::StrAppendFormat(&text,
                          "vector %d: trigger %d, mask %d, unmask %d%s\n", i,
                          vector.trigger, vector.mask, vector.unmask,
                          vector.masked != 0 ? ", masked" : "");
  }
  return text;
}

}  // namespace holdfast::vfio_user

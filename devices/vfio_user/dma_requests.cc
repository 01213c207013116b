// DMA_MAP and DMA_UNMAP.

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "devices/vfio_user/turn.h"

namespace holdfast::vfio_user {
namespace {

constexpr uint64_t kPage = 4096;

// Bits of DMA_UNMAP's flags that mean "all windows": the kernel's and
// libvfio-user's, and that of Cloud Hypervisor. The specification has none.
constexpr uint32_t kUnmapAll[] = {1u << 1, 1u << 2};

std::string Range(uint64_t address, uint64_t size) {
  return absl::StrFormat("%#x + %#x", address, size);
}

absl::Status CheckRange(const Turn& turn, const DmaMap& map) {
  if ((map.flags & ~(kDmaReadable | kDmaWriteable)) != 0) {
    return turn.Invalid("flags ", map.flags);
  }
  if (map.size == 0 || Wraps(map.address, map.size - 1) ||
      Wraps(map.offset, map.size)) {
    return turn.Invalid(Range(map.address, map.size),
                        " is empty or wraps around");
  }
  // Offsets need not be: whoever maps begins at the page below.
  if (map.address % kPage != 0 || map.size % kPage != 0) {
    return turn.Invalid(Range(map.address, map.size), " is not whole pages");
  }
  return absl::OkStatus();
}

bool Overlap(const WindowState& window, const DmaMap& map) {
  return window.address <= map.address + (map.size - 1) &&
         map.address <= window.address + (window.size - 1);
}

// The lowest entry that does not count, or kMaxWindows.
size_t FreeWindow(const SessionState& state) {
  for (size_t word = 0; word < kMaxWindows / 64; ++word) {
    const uint64_t free = ~state.windows[word];
    if (free != 0) {
      return word * 64 + static_cast<size_t>(__builtin_ctzll(free));
    }
  }
  return kMaxWindows;
}

// A client sends the descriptor of all its memory with every window of it: one
// of each is kept.
absl::Status FindFile(Turn& turn, WindowState& window) {
  if (turn.slots.count == 0) {
    return turn.Exhausted("no slot is left for its descriptor");
  }
  window.slot = turn.slots.slots[0];
  ASSIGN_OR_RETURN(window.file, turn.environment.IdentifyFile(window.slot));
  ForEachWindow(turn.next, turn.table, [&](size_t, const WindowState& other) {
    if (other.slot == 0 || !(other.file == window.file)) return true;
    window.slot = other.slot;
    return false;
  });
  return turn.environment.CheckFile(turn.slots.slots[0], window.access,
                                    window.offset, window.size);
}

}  // namespace

absl::Status DecideDmaMap(Turn& turn) {
  const DmaMap& map = turn.request.dma_map;
  RETURN_IF_ERROR(CheckRange(turn, map));
  bool overlaps = false;
  ForEachWindow(turn.next, turn.table, [&](size_t, const WindowState& window) {
    overlaps = Overlap(window, map);
    return !overlaps;
  });
  if (overlaps) {
    return absl::AlreadyExistsError(absl::StrCat(
        "DMA_MAP: ", Range(map.address, map.size), " overlaps another window"));
  }
  const size_t i = FreeWindow(turn.next);
  if (i == kMaxWindows) {
    return turn.Exhausted(kMaxWindows, " windows are mapped already");
  }
  WindowState window{};
  window.address = map.address;
  window.size = map.size;
  window.access = static_cast<uint16_t>(map.flags);
  if (turn.request.fd_count != 0) {
    window.offset = map.offset;
    RETURN_IF_ERROR(FindFile(turn, window));
  }
  window.crc = WindowCrc(window);
  turn.table[i] = window;
  turn.next.windows[i / 64] |= uint64_t{1} << (i % 64);
  return absl::OkStatus();
}

absl::Status DecideDmaUnmap(Turn& turn) {
  const DmaUnmap& unmap = turn.request.dma_unmap;
  const bool all = unmap.flags == kUnmapAll[0] || unmap.flags == kUnmapAll[1];
  if (unmap.flags != 0 && (!all || unmap.address != 0 || unmap.size != 0)) {
    return turn.Invalid("flags ", unmap.flags, " with ",
                        Range(unmap.address, unmap.size));
  }
  bool found = all;
  absl::Status status;
  SessionState& next = turn.next;
  const SessionState before = next;
  ForEachWindow(before, turn.table, [&](size_t i, const WindowState& window) {
    if (!all &&
        (window.address != unmap.address || window.size != unmap.size)) {
      return true;
    }
    found = true;
    status = turn.environment.ReleaseWindow(window);
    next.windows[i / 64] &= ~(uint64_t{1} << (i % 64));
    return all && status.ok();
  });
  RETURN_IF_ERROR(status);
  if (!found) {
    return absl::NotFoundError(absl::StrCat(
        "DMA_UNMAP: ", Range(unmap.address, unmap.size), " is no window"));
  }
  DmaUnmap reply = unmap;
  reply.argsz = sizeof(reply);
  turn.writer.Append(reply);
  return absl::OkStatus();
}

}  // namespace holdfast::vfio_user

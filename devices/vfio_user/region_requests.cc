// DEVICE_GET_REGION_INFO and ..._IO_FDS, REGION_READ, _WRITE and _WRITE_MULTI.

#include <algorithm>
#include <cstring>

#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/vfio_user/turn.h"

namespace holdfast::vfio_user {
namespace {

// What a device takes at once (region_device.h). Longer accesses are cut.
constexpr uint64_t kMaxAccess = 64;

absl::Status CheckRegion(const Turn& turn, uint32_t region) {
  if (region < turn.device.regions().size()) return absl::OkStatus();
  return turn.Invalid("no region ", region);
}

absl::Status CheckRange(const Turn& turn, uint32_t region, uint64_t offset,
                        uint64_t count) {
  RETURN_IF_ERROR(CheckRegion(turn, region));
  if (MigrationOf(turn.next) == MigrationState::kStopCopy) {
    return turn.Invalid("while the device's state is being copied");
  }
  const uint64_t size = turn.device.regions()[region].size;
  if (count > turn.serving.max_transfer) {
    return turn.Invalid(count, " bytes, at most ", turn.serving.max_transfer,
                        " are allowed");
  }
  if (offset > size || count > size - offset) {
    return turn.Invalid("bytes ", offset, " + ", count, " of region ", region,
                        ", which has ", size);
  }
  return absl::OkStatus();
}

bool IsFatal(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsDataLoss(status);
}

// The accesses that one message stands for, in order. Each has a name; those
// that a predecessor did before it died are left out.
class Accesses {
 public:
  explicit Accesses(Turn& turn)
      : turn_(turn),
        progress_(turn.memory.progress),
        first_(static_cast<uint64_t>(turn.NameOf(1))) {
    if (progress_.first == first_) skip_ = progress_.done;
  }
  ~Accesses() { turn_.next.accesses += count_; }

  // Cuts [offset, offset + size) where a device wants it cut, and calls
  // `access(device, name, offset, position, size)` for each piece, with no
  // device for one that is refused. A mistake of the guest's in one piece is no
  // reason to leave the others out.
  template <typename Access>
  absl::Status Do(uint64_t offset, uint64_t size, Access access) {
    for (uint64_t at = 0; at < size;) {
      const uint64_t piece =
          std::min(size - at, kMaxAccess - (offset + at) % kMaxAccess);
      if (count_++ >= skip_) {
        const AccessId name = turn_.NameOf(count_);
        const absl::Status status =
            access(turn_.environment.IsPoison(name) ? nullptr : &turn_.device,
                   name, offset + at, at, piece);
        if (IsFatal(status)) {
          turn_.fatal = status;
          return status;
        }
        Note();
      }
      at += piece;
    }
    return absl::OkStatus();
  }

 private:
  // In this order, whatever instruction is the last one.
  void Note() {
    if (progress_.first != first_) {
      SharedAccess::StoreRelease(&progress_.done, uint64_t{0});
      SharedAccess::StoreRelease(&progress_.first, uint64_t{first_});
    }
    SharedAccess::StoreRelease(&progress_.done, uint64_t{count_});
  }

  Turn& turn_;
  AccessProgress& progress_;
  const uint64_t first_;
  uint64_t skip_ = 0;
  uint64_t count_ = 0;
};

absl::Status Write(Turn& turn, Accesses& accesses, uint32_t region,
                   uint64_t offset, absl::Span<const uint8_t> bytes) {
  RETURN_IF_ERROR(CheckRange(turn, region, offset, bytes.size()));
  if (!turn.device.regions()[region].writable) return absl::OkStatus();
  return accesses.Do(offset, bytes.size(),
                     [&](RegionDevice* device, AccessId id, uint64_t from,
                         uint64_t at, uint64_t size) {
                       return device == nullptr
                                  ? absl::OkStatus()
                                  : device->Write(id, region, from,
                                                  bytes.subspan(at, size));
                     });
}

}  // namespace

absl::Status DecideRegionInfo(Turn& turn) {
  const uint32_t index = turn.request.region_info.index;
  RETURN_IF_ERROR(CheckRegion(turn, index));
  const holdfast::RegionInfo& region = turn.device.regions()[index];
  const auto& windows = region.windows;
  const bool mappable = !windows.empty() && turn.next.max_message_fds != 0;
  RegionInfo reply{};
  reply.argsz = sizeof(reply);
  reply.flags = (region.readable ? kRegionReadable : 0) |
                (region.writable ? kRegionWriteable : 0) |
                (mappable ? kRegionMappable : 0);
  reply.index = index;
  reply.size = region.size;
  const bool sparse =
      mappable && (windows.size() > 1 || windows[0].offset != 0 ||
                   windows[0].size != region.size);
  if (sparse) {
    reply.argsz += static_cast<uint32_t>(sizeof(SparseMmap) +
                                         windows.size() * sizeof(SparseArea));
  }
  // A client that has no room for all of it asks again. It gets no descriptor
  // and must not be told of capabilities that are not there.
  const bool whole = turn.request.region_info.argsz >= reply.argsz;
  if (mappable && whole) {
    turn.next.reply_region = static_cast<uint8_t>(index + 1);
  }
  if (!sparse || !whole) {
    turn.writer.Append(reply);
    return absl::OkStatus();
  }
  reply.flags |= kRegionHasCaps;
  reply.cap_offset = sizeof(reply);
  turn.writer.Append(reply);
  turn.writer.Append(SparseMmap{
      {kCapSparseMmap, 1, 0}, static_cast<uint32_t>(windows.size()), 0});
  for (const auto& window : windows) {
    turn.writer.Append(SparseArea{window.offset, window.size});
  }
  return absl::OkStatus();
}

// No device has any yet. Without sub-regions there is no descriptor either.
absl::Status DecideRegionIoFds(Turn& turn) {
  const RegionIoFds& query = turn.request.region_io_fds;
  RETURN_IF_ERROR(CheckRegion(turn, query.index));
  if (query.flags != 0 || query.count != 0) {
    return turn.Invalid("flags ", query.flags, " and count ", query.count,
                        " must be 0");
  }
  turn.writer.Append(RegionIoFds{sizeof(RegionIoFds), 0, query.index, 0});
  return absl::OkStatus();
}

absl::Status DecideRegionRead(Turn& turn) {
  const RegionAccess& access = turn.request.region;
  RETURN_IF_ERROR(CheckRange(turn, access.region, access.offset, access.count));
  turn.writer.Append(access);
  const absl::Span<uint8_t> data = turn.writer.AppendSpace(access.count);
  if (data.size() != access.count) {
    return turn.Exhausted("the reply buffer is too small");
  }
  if (!turn.device.regions()[access.region].readable) {
    std::fill(data.begin(), data.end(), uint8_t{0xff});
    return absl::OkStatus();
  }
  Accesses accesses(turn);
  return accesses.Do(access.offset, access.count,
                     [&](RegionDevice* device, AccessId id, uint64_t from,
                         uint64_t at, uint64_t size) {
                       const absl::Span<uint8_t> piece = data.subspan(at, size);
                       const absl::Status status =
                           device == nullptr
                               ? absl::InvalidArgumentError("poison")
                               : device->Read(id, access.region, from, piece);
                       if (!status.ok()) {
                         std::fill(piece.begin(), piece.end(), uint8_t{0xff});
                       }
                       return status;
                     });
}

absl::Status DecideRegionWrite(Turn& turn) {
  const RegionAccess& access = turn.request.region;
  Accesses accesses(turn);
  RETURN_IF_ERROR(
      Write(turn, accesses, access.region, access.offset, turn.request.data));
  turn.writer.Append(access);
  return absl::OkStatus();
}

absl::Status DecideSmallWrites(Turn& turn) {
  const uint64_t count = turn.request.small_writes;
  // All are looked at before the first is done: a refused request did nothing.
  for (size_t i = 0; i < count; ++i) {
    const SmallWrite write = SmallWriteAt(turn.request, i);
    RETURN_IF_ERROR(CheckRange(turn, write.region, write.offset, write.count));
  }
  Accesses accesses(turn);
  for (size_t i = 0; i < count; ++i) {
    const SmallWrite write = SmallWriteAt(turn.request, i);
    RETURN_IF_ERROR(Write(turn, accesses, write.region, write.offset,
                          absl::MakeConstSpan(write.data, write.count)));
  }
  turn.writer.Append(count);
  return absl::OkStatus();
}

}  // namespace holdfast::vfio_user

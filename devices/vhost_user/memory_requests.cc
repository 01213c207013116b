#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/turn.h"

namespace holdfast::vhost_user {
namespace {

bool Overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b ? b - a < a_size : a - b < b_size;
}

size_t MaxRegions(const Turn& turn) {
  return std::min<size_t>(turn.info.max_mem_slots, kMaxRegions);
}

absl::Status CheckNewRegion(const Turn& turn, const MemoryRegion& region) {
  if (region.size == 0) return turn.Invalid("a region without size");
  if (Wraps(region.guest_address, region.size) ||
      Wraps(region.user_address, region.size) ||
      Wraps(region.mmap_offset, region.size)) {
    return turn.Invalid("the region at guest address 0x",
                        absl::Hex(region.guest_address), " wraps around");
  }
  const size_t count = RegionCount(turn.next);
  for (size_t i = 0; i < count; ++i) {
    const RegionState& other = turn.next.regions[i];
    if (Overlap(region.guest_address, region.size, other.guest_address,
                other.size) ||
        Overlap(region.user_address, region.size, other.user_address,
                other.size)) {
      return turn.Invalid("the regions at guest addresses 0x",
                          absl::Hex(other.guest_address), " and 0x",
                          absl::Hex(region.guest_address), " overlap");
    }
  }
  return absl::OkStatus();
}

absl::Status AddRegion(Turn& turn, const MemoryRegion& region,
                       store::Slot slot) {
  const size_t count = RegionCount(turn.next);
  if (count >= MaxRegions(turn)) {
    return turn.Exhausted("more than ", MaxRegions(turn), " regions");
  }
  RETURN_IF_ERROR(CheckNewRegion(turn, region));
  RETURN_IF_ERROR(
      turn.environment.CheckRegion(slot, region.mmap_offset, region.size));
  turn.next.regions[count] = {
      region.guest_address, region.size, region.user_address,
      region.mmap_offset,   slot,        {}};
  return absl::OkStatus();
}

absl::Status SetMemTable(Turn& turn) {
  std::fill(std::begin(turn.next.regions), std::end(turn.next.regions),
            RegionState{});
  for (size_t i = 0; i < turn.request.region_count; ++i) {
    RETURN_IF_ERROR(
        AddRegion(turn, turn.request.regions[i], turn.slots.slots[i]));
  }
  RETURN_IF_ERROR(CheckLogCoverage(turn));
  turn.QuiesceIfRunning();
  return absl::OkStatus();
}

// "Identified by its guest address, user address and size. The mmap offset is
// ignored."
absl::Status RemMemReg(Turn& turn) {
  const MemoryRegion& gone = turn.request.regions[0];
  RegionState* const end = turn.next.regions + RegionCount(turn.next);
  RegionState* const found =
      std::find_if(turn.next.regions, end, [&gone](const RegionState& region) {
        return region.guest_address == gone.guest_address &&
               region.user_address == gone.user_address &&
               region.size == gone.size;
      });
  if (found == end) {
    return turn.Invalid("no region at guest address 0x",
                        absl::Hex(gone.guest_address), ", user address 0x",
                        absl::Hex(gone.user_address), " of size 0x",
                        absl::Hex(gone.size));
  }
  turn.QuiesceIfRunning();
  std::copy(found + 1, end, found);
  *(end - 1) = RegionState{};
  return absl::OkStatus();
}

absl::Status CheckCoverage(const Turn& turn, uint64_t log_size) {
  constexpr uint64_t kBytesOfMemoryPerByte = 4096 * 8;
  for (size_t i = 0; i < RegionCount(turn.next); ++i) {
    const RegionState& region = turn.next.regions[i];
    const uint64_t last = region.guest_address + (region.size - 1);
    if (last / kBytesOfMemoryPerByte >= log_size) {
      return turn.Invalid("a log of ", log_size,
                          " bytes does not cover guest address 0x",
                          absl::Hex(last));
    }
  }
  return absl::OkStatus();
}

// "Log starts at the supplied offset. The log covers from address 0 to the
// maximum of guest regions."
absl::Status SetLogBase(Turn& turn) {
  const LogDescription& log = turn.request.log;
  if (log.size == 0 || Wraps(log.offset, log.size)) {
    return turn.Invalid("a log of ", log.size, " bytes at offset ", log.offset);
  }
  RETURN_IF_ERROR(CheckCoverage(turn, log.size));
  RETURN_IF_ERROR(
      turn.environment.CheckRegion(turn.slots.slots[0], log.offset, log.size));
  turn.QuiesceIfRunning();
  turn.next.log.size = log.size;
  turn.next.log.offset = log.offset;
  turn.next.log.slot = turn.slots.slots[0];
  return turn.Reply(uint64_t{0});
}

// Of both in-flight requests: the shape fits the device, and no ring is in the
// middle of using a region.
absl::Status CheckInflightShape(const Turn& turn) {
  const InflightDescription& inflight = turn.request.inflight;
  if (inflight.queue_count == 0 ||
      inflight.queue_count > turn.info.queue_count ||
      inflight.queue_size == 0 ||
      inflight.queue_size > turn.info.max_queue_size) {
    return turn.Invalid("a region for ", inflight.queue_count, " queues of ",
                        inflight.queue_size, "; the device has ",
                        turn.info.queue_count, " of at most ",
                        turn.info.max_queue_size);
  }
  if (turn.AnyStarted()) return turn.Precondition("a ring is started");
  return absl::OkStatus();
}

uint64_t NeededInflightSize(const Turn& turn) {
  return InflightSize(turn.request.inflight.queue_count,
                      turn.request.inflight.queue_size);
}

// The front-end wants a region in which nothing is in flight: QEMU asks at its
// first start and after each reset of the machine, and hands the same region
// over at every start.
absl::Status GetInflightFd(Turn& turn) {
  RETURN_IF_ERROR(CheckInflightShape(turn));
  InflightDescription answer = turn.request.inflight;
  answer.mmap_offset = 0;
  answer.mmap_size = NeededInflightSize(turn);
  answer.padding = 0;
  if (turn.info.inflight_slot == 0 ||
      answer.mmap_size > turn.info.inflight_size) {
    return turn.Exhausted("a region of ", answer.mmap_size,
                          " bytes, the device has ", turn.info.inflight_size);
  }
  turn.environment.ClearInflight();
  for (QueueState& queue : turn.next.queues) {
    queue.adopted = 0;
    queue.settled = 1;
  }
  turn.reply_slot = turn.info.inflight_slot;
  return turn.Reply(answer);
}

absl::Status SetInflightFd(Turn& turn) {
  RETURN_IF_ERROR(CheckInflightShape(turn));
  const InflightDescription& inflight = turn.request.inflight;
  const uint64_t needed = NeededInflightSize(turn);
  if (inflight.mmap_size < needed ||
      Wraps(inflight.mmap_offset, inflight.mmap_size)) {
    return turn.Invalid("a region of ", inflight.mmap_size, " bytes at offset ",
                        inflight.mmap_offset, ", ", needed, " are needed");
  }
  RETURN_IF_ERROR(turn.environment.CheckRegion(
      turn.slots.slots[0], inflight.mmap_offset, inflight.mmap_size));
  turn.next.inflight = {inflight.mmap_size,   inflight.mmap_offset,
                        inflight.queue_count, inflight.queue_size,
                        turn.slots.slots[0],  {}};
  for (size_t i = 0; i < kMaxQueues; ++i) {
    QueueState& queue = turn.next.queues[i];
    queue.adopted = i < inflight.queue_count && queue.settled == 0 ? 1 : 0;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLogCoverage(const Turn& turn) {
  const bool logs = (turn.next.features & kFeatureLogAll) != 0;
  if (!logs || turn.next.log.slot == 0) return absl::OkStatus();
  return CheckCoverage(turn, turn.next.log.size);
}

absl::Status DecideMemoryRequest(Turn& turn) {
  switch (turn.request.type) {
    case RequestType::kSetMemTable:
      return SetMemTable(turn);
    case RequestType::kGetMaxMemSlots:
      return turn.Reply(uint64_t{MaxRegions(turn)});
    case RequestType::kAddMemReg:
      RETURN_IF_ERROR(
          AddRegion(turn, turn.request.regions[0], turn.slots.slots[0]));
      return CheckLogCoverage(turn);
    case RequestType::kRemMemReg:
      return RemMemReg(turn);
    case RequestType::kSetLogBase:
      return SetLogBase(turn);
    case RequestType::kSetLogFd:
      turn.next.log.event = turn.slots.slots[0];
      return absl::OkStatus();
    case RequestType::kGetInflightFd:
      return GetInflightFd(turn);
    case RequestType::kSetInflightFd:
      return SetInflightFd(turn);
    default:
      return turn.Unsupported("not about memory");
  }
}

}  // namespace holdfast::vhost_user

#include "devices/vhost_user/session_state.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "devices/vhost_user/message.h"
#include "statestore/inflight.h"

namespace holdfast::vhost_user {
namespace {

constexpr uint32_t kMaxRingSize = 32768;  // VIRTIO: "Queue Size", split rings.

template <typename... Parts>
absl::Status Broken(const Parts&... parts) {
  return absl::DataLossError(absl::StrCat("session state: ", parts...));
}

template <typename T>
bool IsZero(const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  const T zero{};
  return std::memcmp(&value, &zero, sizeof(T)) == 0;
}

bool Wraps(uint64_t start, uint64_t size) { return start + size < start; }

bool Overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b ? b - a < a_size : a - b < b_size;
}

bool IsSessionSlot(store::Slot slot) {
  return slot >= store::kSlotFirstSession && slot < store::kSlotEndSession;
}

// Calls visit(slot) for each slot field that is not 0, kSlotPolled included.
template <typename Visit>
void VisitSlots(const SessionState& state, Visit visit) {
  const auto one = [&visit](store::Slot slot) {
    if (slot != 0) visit(slot);
  };
  one(state.backend_request);
  one(state.log.slot);
  one(state.log.event);
  one(state.inflight.slot);
  for (const RegionState& region : state.regions) one(region.slot);
  for (const QueueState& queue : state.queues) {
    one(queue.kick);
    one(queue.call);
    one(queue.err);
  }
}

// Whether `size` bytes at user address `start` lie in one region, aligned as
// they will be once the file is mapped.
bool IsMapped(const SessionState& state, uint64_t start, uint64_t size,
              uint64_t alignment) {
  for (const RegionState& region : state.regions) {
    if (start < region.user_address || size > region.size) continue;
    const uint64_t offset = start - region.user_address;
    if (offset > region.size - size) continue;
    return start % alignment == 0 &&
           (region.mmap_offset + offset) % alignment == 0;
  }
  return false;
}

absl::Status CheckRegions(const SessionState& state) {
  const size_t count = RegionCount(state);
  for (size_t i = 0; i < kMaxRegions; ++i) {
    const RegionState& r = state.regions[i];
    if (i >= count) {
      if (!IsZero(r)) return Broken("region ", i, " follows a free entry");
      continue;
    }
    if (r.slot == 0) return Broken("region ", i, " has no descriptor");
    if (Wraps(r.guest_address, r.size) || Wraps(r.user_address, r.size) ||
        Wraps(r.mmap_offset, r.size)) {
      return Broken("region ", i, " wraps around");
    }
    for (size_t j = 0; j < i; ++j) {
      const RegionState& o = state.regions[j];
      if (Overlap(r.guest_address, r.size, o.guest_address, o.size) ||
          Overlap(r.user_address, r.size, o.user_address, o.size)) {
        return Broken("regions ", j, " and ", i, " overlap");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckQueue(const SessionState& state, size_t i) {
  const QueueState& q = state.queues[i];
  if (q.has_address > 1 || q.enabled > 1 || q.started > 1 || q.adopted > 1 ||
      q.settled > 1) {
    return Broken("queue ", i, " has a flag that is neither 0 nor 1");
  }
  if (q.num > kMaxRingSize || (q.num & (q.num - 1)) != 0) {
    return Broken("queue ", i, " has ", q.num, " descriptors");
  }
  if (q.has_address == 0 && (q.descriptor | q.used | q.available |
                             q.log_address | q.address_flags) != 0) {
    return Broken("queue ", i, " has an address that was never given");
  }
  if (q.kick == kSlotPolled) return Broken("queue ", i, " is polled");
  if (q.started != 0 && q.settled == 0) {
    return Broken("queue ", i, " is started but not settled");
  }
  if (q.started != 0 && (q.kick == 0 || q.num == 0 || q.has_address == 0)) {
    return Broken("queue ", i, " is started without kick, size or address");
  }
  if (q.adopted != 0 && (q.settled != 0 || i >= state.inflight.queue_count)) {
    return Broken("queue ", i, " adopts an in-flight record out of place");
  }
  for (const uint8_t byte : q.reserved) {
    if (byte != 0) return Broken("queue ", i, " has a reserved byte set");
  }
  return absl::OkStatus();
}

absl::Status CheckLog(const LogState& log) {
  for (const uint8_t byte : log.reserved) {
    if (byte != 0) return Broken("the log has a reserved byte set");
  }
  if ((log.slot == 0) != (log.size == 0) ||
      (log.slot == 0 && log.offset != 0)) {
    return Broken("the log has a descriptor or a size, but not both");
  }
  if (Wraps(log.offset, log.size)) return Broken("the log wraps around");
  return absl::OkStatus();
}

absl::Status CheckInflight(const InflightState& inflight) {
  if (inflight.slot == 0) {
    if (!IsZero(inflight)) return Broken("in-flight region has no descriptor");
    return absl::OkStatus();
  }
  if (inflight.reserved[0] != 0 || inflight.reserved[1] != 0) {
    return Broken("in-flight region has a reserved byte set");
  }
  if (inflight.queue_count == 0 || inflight.queue_count > kMaxQueues ||
      inflight.queue_size == 0 || inflight.queue_size > kMaxRingSize) {
    return Broken("in-flight region for ", inflight.queue_count, " queues of ",
                  inflight.queue_size);
  }
  if (Wraps(inflight.offset, inflight.size) ||
      inflight.size < InflightSize(inflight.queue_count, inflight.queue_size)) {
    return Broken("in-flight region has an impossible size");
  }
  return absl::OkStatus();
}

absl::Status CheckSlots(const SessionState& state) {
  SlotBitmap seen{};
  absl::Status status;
  VisitSlots(state, [&](store::Slot slot) {
    if (slot == kSlotPolled || !status.ok()) return;
    if (!IsSessionSlot(slot)) {
      status = Broken("slot ", slot, " is out of range");
      return;
    }
    const uint64_t bit = 1ull << (slot % 64);
    if ((seen[slot / 64] & bit) != 0) {
      status = Broken("slot ", slot, " is used twice");
    }
    seen[slot / 64] |= bit;
  });
  if (state.backend_request == kSlotPolled || state.log.slot == kSlotPolled ||
      state.log.event == kSlotPolled || state.inflight.slot == kSlotPolled) {
    return Broken("a descriptor is missing that cannot be");
  }
  for (const RegionState& region : state.regions) {
    if (region.slot == kSlotPolled) return Broken("a region is polled");
  }
  return status;
}

std::string SlotText(store::Slot slot) {
  if (slot == 0) return "none";
  if (slot == kSlotPolled) return "polled";
  return absl::StrCat("slot ", slot);
}

std::string Hex(uint64_t value) { return absl::StrCat("0x", absl::Hex(value)); }

std::string DescribeQueue(const SessionState& state, size_t i) {
  const QueueState& q = state.queues[i];
  std::string text =
      absl::StrCat("queue ", i, ": ", q.started != 0 ? "started" : "stopped",
                   ", ", q.enabled != 0 ? "enabled" : "disabled", ", ", q.num,
                   " descriptors, base ", q.base, "; kick ", SlotText(q.kick),
                   ", call ", SlotText(q.call), ", err ", SlotText(q.err));
  if (q.has_address != 0) {
    absl::StrAppend(&text, "; descriptors ", Hex(q.descriptor), ", available ",
                    Hex(q.available), ", used ", Hex(q.used));
    if (!RingIsMapped(state, i)) absl::StrAppend(&text, " (not mapped)");
    if ((q.address_flags & kVringFlagLog) != 0) {
      absl::StrAppend(&text, ", logged at ", Hex(q.log_address));
    }
  }
  if (q.adopted != 0) absl::StrAppend(&text, "; adopts its in-flight record");
  return absl::StrCat(text, "\n");
}

}  // namespace

size_t RegionCount(const SessionState& state) {
  size_t count = 0;
  while (count < kMaxRegions && state.regions[count].size != 0) ++count;
  return count;
}

bool RingIsMapped(const SessionState& state, size_t queue) {
  const QueueState& q = state.queues[queue];
  if (q.has_address == 0 || q.num == 0) return false;
  const uint64_t num = q.num;
  return IsMapped(state, q.descriptor, 16 * num, 16) &&
         IsMapped(state, q.available, 6 + 2 * num, 2) &&
         IsMapped(state, q.used, 6 + 8 * num, 4);
}

bool QueueRuns(const SessionState& state, size_t queue) {
  const QueueState& q = state.queues[queue];
  return q.started != 0 && q.enabled != 0 && RingIsMapped(state, queue);
}

bool TrackedInHandedOverRegion(const SessionState& state, size_t queue) {
  return state.inflight.slot != 0 && queue < state.inflight.queue_count &&
         state.queues[queue].num <= state.inflight.queue_size;
}

uint64_t InflightSize(uint16_t queue_count, uint16_t queue_size) {
  return queue_count * uint64_t{InflightRegionSize(queue_size)};
}

SlotBitmap ReferencedSlots(const SessionState& state) {
  SlotBitmap bitmap{};
  VisitSlots(state, [&bitmap](store::Slot slot) {
    if (IsSessionSlot(slot)) bitmap[slot / 64] |= 1ull << (slot % 64);
  });
  return bitmap;
}

absl::Status CheckInvariants(const SessionState& state) {
  if (state.version == 0) {
    if (!IsZero(state)) return Broken("no version, but content");
    return absl::OkStatus();
  }
  if (state.version != kSessionStateVersion) {
    return Broken("version ", state.version, ", this program knows version ",
                  kSessionStateVersion);
  }
  if (state.owned > 1 || state.features_acked > 1 || state.reserved0 != 0) {
    return Broken("a flag is neither 0 nor 1");
  }
  if (state.features_acked == 0 && state.features != 0) {
    return Broken("features that were never acknowledged");
  }
  RETURN_IF_ERROR(CheckRegions(state));
  RETURN_IF_ERROR(CheckLog(state.log));
  RETURN_IF_ERROR(CheckInflight(state.inflight));
  for (size_t i = 0; i < kMaxQueues; ++i) {
    RETURN_IF_ERROR(CheckQueue(state, i));
  }
  return CheckSlots(state);
}

std::string Describe(const SessionState& state) {
  if (state.version == 0) return "no vhost-user session\n";
  std::string text = absl::StrCat(
      "vhost-user session: ", state.owned != 0 ? "owned" : "not owned",
      ", features ", Hex(state.features), ", protocol features ",
      Hex(state.protocol_features), ", status ", Hex(state.status),
      ", back-end requests ", SlotText(state.backend_request), "\n");
  for (size_t i = 0; i < RegionCount(state); ++i) {
    const RegionState& r = state.regions[i];
    absl::StrAppend(&text, "region ", i, ": guest ", Hex(r.guest_address),
                    " size ", Hex(r.size), ", user ", Hex(r.user_address),
                    ", file offset ", Hex(r.mmap_offset), ", ",
                    SlotText(r.slot), "\n");
  }
  if (state.log.slot != 0 || state.log.event != 0) {
    absl::StrAppend(&text, "log: size ", Hex(state.log.size), ", offset ",
                    Hex(state.log.offset), ", ", SlotText(state.log.slot),
                    ", event ", SlotText(state.log.event), "\n");
  }
  if (state.inflight.slot != 0) {
    absl::StrAppend(&text, "in-flight region: ", state.inflight.queue_count,
                    " queues of ", state.inflight.queue_size, ", size ",
                    Hex(state.inflight.size), ", offset ",
                    Hex(state.inflight.offset), ", ",
                    SlotText(state.inflight.slot), "\n");
  }
  for (size_t i = 0; i < kMaxQueues; ++i) {
    if (!IsZero(state.queues[i])) {
      absl::StrAppend(&text, DescribeQueue(state, i));
    }
  }
  return text;
}

}  // namespace holdfast::vhost_user

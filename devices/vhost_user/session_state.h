#ifndef HOLDFAST_DEVICES_VHOST_USER_SESSION_STATE_H_
#define HOLDFAST_DEVICES_VHOST_USER_SESSION_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "statestore/store/protocol.h"

namespace holdfast::vhost_user {

// What a vhost-user connection has agreed on: everything that a successor needs
// in order to go on. It lies in a bank of the connection's lane, so it survives
// the process; the layout is durable, therefore fixed, and every change needs a
// new kSessionStateVersion. All zeros: nothing was said yet.
//
// Descriptors are named by their slot in the store, of the session range; 0 is
// none. No two fields name the same slot.

inline constexpr uint16_t kSessionStateVersion = 1;

// More than SET_MEM_TABLE can carry; ADD_MEM_REG gets there. QEMU's own library
// began with 32, too.
inline constexpr size_t kMaxRegions = 32;
inline constexpr size_t kMaxQueues = 16;

// In a slot field: the front-end said that there is no descriptor on purpose
// and it will look for itself.
inline constexpr store::Slot kSlotPolled = 0xffff;

// One region of guest memory.
struct RegionState {
  uint64_t guest_address;
  uint64_t size;          // Bytes; 0: the entry is free.
  uint64_t user_address;  // In the front-end; rings are named by these.
  uint64_t mmap_offset;   // Of the region's first byte in the file.
  store::Slot slot;
  uint8_t reserved[6];
};
static_assert(sizeof(RegionState) == 40);

struct QueueState {
  uint64_t descriptor;  // User addresses of the three parts of the ring.
  uint64_t used;
  uint64_t available;
  uint64_t log_address;    // Guest address under which `used` is logged.
  uint32_t address_flags;  // kVringFlagLog.
  uint32_t num;            // Descriptors in the ring; 0: not known yet.
  uint32_t base;           // Next available index, as given or as stopped at.
  store::Slot kick;        // Never kSlotPolled.
  store::Slot call;
  store::Slot err;
  uint8_t has_address;
  uint8_t enabled;
  // Kick, size and address are known, so the ring is ours: requests may have
  // been taken from it, and its in-flight record is valid.
  uint8_t started;
  // The front-end handed over an in-flight region that this connection did not
  // give it: the next start believes it, whoever wrote it. Otherwise the record
  // begins anew, from the used index that is found in the ring.
  uint8_t adopted;
  // Since the connection began the ring was started, or its record was cleared:
  // a region that is handed over from now on tells nothing new.
  uint8_t settled;
  uint8_t reserved[9];
};
static_assert(sizeof(QueueState) == 64);

// Log of dirty pages: one bit per 4 KiB, from guest address 0.
struct LogState {
  uint64_t size;
  uint64_t offset;
  store::Slot slot;   // 0: no log was given.
  store::Slot event;  // SET_LOG_FD.
  uint8_t reserved[4];
};
static_assert(sizeof(LogState) == 24);

// In-flight region that the front-end handed over (SET_INFLIGHT_FD).
struct InflightState {
  uint64_t size;
  uint64_t offset;
  uint16_t queue_count;
  uint16_t queue_size;
  store::Slot slot;  // 0: none was given.
  uint8_t reserved[2];
};
static_assert(sizeof(InflightState) == 24);

struct SessionState {
  uint16_t version;        // kSessionStateVersion, or 0 as long as all is zero.
  uint8_t owned;           // SET_OWNER was seen.
  uint8_t features_acked;  // SET_FEATURES was seen.
  uint8_t status;          // VIRTIO device status, as far as it is told to us.
  uint8_t reserved0;
  store::Slot backend_request;  // SET_BACKEND_REQ_FD.
  uint64_t features;
  uint64_t protocol_features;
  LogState log;
  InflightState inflight;
  RegionState regions[kMaxRegions];  // Entries in use come first.
  QueueState queues[kMaxQueues];
};
static_assert(std::is_trivially_copyable_v<SessionState>);
static_assert(std::is_standard_layout_v<SessionState>);
static_assert(std::has_unique_object_representations_v<SessionState>);
static_assert(offsetof(SessionState, features) == 8);
static_assert(offsetof(SessionState, log) == 24);
static_assert(offsetof(SessionState, inflight) == 48);
static_assert(offsetof(SessionState, regions) == 72);
static_assert(offsetof(SessionState, queues) == 1352);
static_assert(sizeof(SessionState) == 2376, "bump kSessionStateVersion");

// Entries of `regions` in use.
size_t RegionCount(const SessionState& state);

// Whether the whole of ring `queue` (below kMaxQueues) lies in the memory table
// with the alignment that VIRTIO asks for. The front-end passes on what the
// guest chose, so a ring that does not is the guest's mistake and not the
// connection's: it is left alone until it does.
bool RingIsMapped(const SessionState& state, size_t queue);

// Whether requests are to be taken from ring `queue` (below kMaxQueues):
// started, enabled and mapped.
bool QueueRuns(const SessionState& state, size_t queue);

// Whether ring `queue` (below kMaxQueues) is tracked in the in-flight region
// that the front-end handed over; if not, in the device's own.
bool TrackedInHandedOverRegion(const SessionState& state, size_t queue);

// Size of an in-flight region for that many split rings.
uint64_t InflightSize(uint16_t queue_count, uint16_t queue_size);

// One bit per slot, as store::Message::bitmap has them.
using SlotBitmap = std::array<uint64_t, store::kSlotCount / 64>;

// The session slots that `state` refers to; all others may be closed.
SlotBitmap ReferencedSlots(const SessionState& state);

// kDataLoss, with the reason, when `state` is none that Decide() can have
// made: a version that we do not know, a slot out of range or twice, regions
// that overlap or wrap, a ring of an impossible size, a flag other than 0 or 1.
// Total: any bytes may be passed. Call it before a state is believed that
// another process wrote.
absl::Status CheckInvariants(const SessionState& state);

// Several lines for people, for the dump of an instance.
std::string Describe(const SessionState& state);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_SESSION_STATE_H_

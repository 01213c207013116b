#ifndef HOLDFAST_STATESTORE_INFLIGHT_FORMAT_H_
#define HOLDFAST_STATESTORE_INFLIGHT_FORMAT_H_

// The bytes of one queue's in-flight table, in the layout that vhost-user gives
// the INFLIGHT region of a split ring ("Inflight I/O tracking"), so that the
// region may be the VMM's or our own and a foreign back-end can go on with it.

#include <cstddef>
#include <cstdint>

namespace holdfast {

struct InflightHeader {
  uint64_t features;
  uint16_t version;  // 0: not in use yet. Written last.
  uint16_t desc_num;
  uint16_t last_batch_head;
  uint16_t used_idx;
};
static_assert(sizeof(InflightHeader) == 16);

struct InflightEntry {
  uint8_t inflight;
  uint8_t padding;
  // Padding in vhost-user, which nobody else reads: bit 0 is set while the
  // request's handler runs, the rest counts deaths that happened meanwhile.
  uint16_t blame;
  uint16_t padding2;
  uint16_t next;
  uint64_t counter;
};
static_assert(sizeof(InflightEntry) == 16);
static_assert(offsetof(InflightEntry, next) == 6);
static_assert(offsetof(InflightEntry, counter) == 8);

inline constexpr uint16_t kInflightVersion = 1;
inline constexpr uint16_t kMaxInflightEntries = 32768;  // VIRTIO's ring limit.
inline constexpr size_t kInflightAlignment = 64;

// Bytes of one queue's region; regions of a device lie back to back. The
// rounding is not in the vhost-user text, but every implementation does it.
constexpr size_t InflightRegionSize(uint16_t num) {
  const size_t size = sizeof(InflightHeader) + num * sizeof(InflightEntry);
  return (size + kInflightAlignment - 1) / kInflightAlignment *
         kInflightAlignment;
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_INFLIGHT_FORMAT_H_

#ifndef HOLDFAST_DEVICES_VIRTQUEUE_VRING_LAYOUT_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_VRING_LAYOUT_H_

// Wire types of split virtqueues (VIRTIO 1.2, 2.7), little-endian.

#include <cstddef>
#include <cstdint>

namespace holdfast::vring {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "rings are read without conversion");

inline constexpr uint16_t kMaxSize = 32768;

// Descriptor::flags.
inline constexpr uint16_t kNext = 1;
inline constexpr uint16_t kWrite = 2;  // The device writes, else it reads.
inline constexpr uint16_t kIndirect = 4;

struct Descriptor {
  uint64_t address;
  uint32_t size;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);

// Available::flags: the driver wants no interrupts.
inline constexpr uint16_t kNoInterrupt = 1;

struct Available {
  uint16_t flags;
  uint16_t idx;
  // uint16_t ring[size];
  // uint16_t used_event;
};

// Used::flags: the device wants no kicks.
inline constexpr uint16_t kNoNotify = 1;

struct UsedElement {
  uint32_t id;
  uint32_t size;
};

struct Used {
  uint16_t flags;
  uint16_t idx;
  // UsedElement ring[size];
  // uint16_t avail_event;
};

inline constexpr size_t kDescriptorAlignment = 16;
inline constexpr size_t kAvailableAlignment = 2;
inline constexpr size_t kUsedAlignment = 4;

// Bytes of the three areas. The last two bytes of `Available` and `Used` exist
// only with VIRTIO_F_EVENT_IDX.
constexpr size_t DescriptorBytes(uint16_t size) {
  return size * sizeof(Descriptor);
}
constexpr size_t AvailableBytes(uint16_t size, bool event_idx) {
  return sizeof(Available) + size * sizeof(uint16_t) + (event_idx ? 2 : 0);
}
constexpr size_t UsedBytes(uint16_t size, bool event_idx) {
  return sizeof(Used) + size * sizeof(UsedElement) + (event_idx ? 2 : 0);
}

// Whether moving an index from `before` to `now` passes `event` (VIRTIO 1.2,
// 2.7.7.2 and 2.7.10).
constexpr bool NeedsEvent(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) <
         static_cast<uint16_t>(now - before);
}

}  // namespace holdfast::vring

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_VRING_LAYOUT_H_

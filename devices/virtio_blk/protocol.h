#ifndef HOLDFAST_DEVICES_VIRTIO_BLK_PROTOCOL_H_
#define HOLDFAST_DEVICES_VIRTIO_BLK_PROTOCOL_H_

#include <cstdint>

// Wire types of the block device (VIRTIO 1.2, section 5.2). Little-endian.
namespace holdfast::virtio_blk {

inline constexpr uint32_t kSectorSize = 512;  // Section 5.2.4: always.

inline constexpr uint64_t kFeatureSegMax = 1ull << 2;
inline constexpr uint64_t kFeatureReadOnly = 1ull << 5;
inline constexpr uint64_t kFeatureBlockSize = 1ull << 6;
inline constexpr uint64_t kFeatureFlush = 1ull << 9;
inline constexpr uint64_t kFeatureTopology = 1ull << 10;
inline constexpr uint64_t kFeatureConfigWriteCache = 1ull << 11;
inline constexpr uint64_t kFeatureMultiQueue = 1ull << 12;
inline constexpr uint64_t kFeatureDiscard = 1ull << 13;
inline constexpr uint64_t kFeatureWriteZeroes = 1ull << 14;

enum class RequestType : uint32_t {
  kIn = 0,
  kOut = 1,
  kFlush = 4,
  kGetId = 8,
  kDiscard = 11,
  kWriteZeroes = 13,
};

enum class RequestStatus : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2 };

struct RequestHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(RequestHeader) == 16);

// Payload of discard and write zeroes.
struct RangeSegment {
  uint64_t sector;
  uint32_t sector_count;
  uint32_t flags;
};
static_assert(sizeof(RangeSegment) == 16);
inline constexpr uint32_t kRangeFlagUnmap = 1;

inline constexpr uint32_t kIdSize = 20;

// Configuration space, section 5.2.4.
struct __attribute__((packed)) Config {
  uint64_t capacity;  // In sectors.
  uint32_t size_max;
  uint32_t seg_max;
  uint16_t cylinders;
  uint8_t heads;
  uint8_t sectors;
  uint32_t block_size;
  uint8_t physical_block_exp;
  uint8_t alignment_offset;
  uint16_t min_io_size;
  uint32_t opt_io_size;
  uint8_t writeback;
  uint8_t unused0;
  uint16_t num_queues;
  uint32_t max_discard_sectors;
  uint32_t max_discard_seg;
  uint32_t discard_sector_alignment;
  uint32_t max_write_zeroes_sectors;
  uint32_t max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap;
  uint8_t unused1[3];
};
static_assert(sizeof(Config) == 60);

}  // namespace holdfast::virtio_blk

#endif  // HOLDFAST_DEVICES_VIRTIO_BLK_PROTOCOL_H_

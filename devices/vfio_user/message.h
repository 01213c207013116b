#ifndef HOLDFAST_DEVICES_VFIO_USER_MESSAGE_H_
#define HOLDFAST_DEVICES_VFIO_USER_MESSAGE_H_

// The wire types of vfio-user, as QEMU's docs/interop/vfio-user.rst defines
// them; section names are quoted. Nothing but layout: codec.h reads and writes
// them, session.h gives them meaning. All numbers are in the host's byte order.

#include <cstddef>
#include <cstdint>

namespace holdfast::vfio_user {

// "Header". `size` counts the whole message, this header included.
struct MessageHeader {
  uint16_t id;       // The sender's own; echoed in the reply.
  uint16_t command;  // Likewise.
  uint32_t size;
  uint32_t flags;
  uint32_t error;  // errno of a reply with kFlagError.
};
static_assert(sizeof(MessageHeader) == 16);

inline constexpr uint32_t kFlagTypeMask = 0xf;
inline constexpr uint32_t kFlagReply = 1;  // The type of a reply; command: 0.
inline constexpr uint32_t kFlagNoReply = 1u << 4;
inline constexpr uint32_t kFlagError = 1u << 5;

// "Commands". From the client unless said otherwise.
enum class Command : uint16_t {
  kVersion = 1,
  kDmaMap = 2,
  kDmaUnmap = 3,
  kDeviceGetInfo = 4,
  kDeviceGetRegionInfo = 5,
  kDeviceGetRegionIoFds = 6,
  kDeviceGetIrqInfo = 7,
  kDeviceSetIrqs = 8,
  kRegionRead = 9,
  kRegionWrite = 10,
  kDmaRead = 11,   // From the server.
  kDmaWrite = 12,  // From the server.
  kDeviceReset = 13,
  kUserDirtyPages = 14,  // Withdrawn; the number stays reserved.
  kRegionWriteMulti = 15,
  kDeviceFeature = 16,
  kMigDataRead = 17,
  kMigDataWrite = 18,
};

// "VFIO_USER_VERSION". JSON with a final NUL follows.
struct Version {
  uint16_t major;
  uint16_t minor;
};
static_assert(sizeof(Version) == 4);

// What holds for an end that says nothing in its capabilities.
inline constexpr uint32_t kDefaultMaxMessageFds = 1;
inline constexpr uint32_t kDefaultMaxTransfer = 1u << 20;
inline constexpr uint32_t kDefaultMaxDmaMaps = 65535;
inline constexpr uint32_t kDefaultPageSizes = 4096;

// "VFIO_USER_DMA_MAP".
struct DmaMap {
  uint32_t argsz;
  uint32_t flags;
  uint64_t offset;
  uint64_t address;
  uint64_t size;
};
static_assert(sizeof(DmaMap) == 32);
inline constexpr uint32_t kDmaReadable = 1u << 0;
inline constexpr uint32_t kDmaWriteable = 1u << 1;

// "VFIO_USER_DMA_UNMAP", request and reply.
struct DmaUnmap {
  uint32_t argsz;
  uint32_t flags;
  uint64_t address;
  uint64_t size;
};
static_assert(sizeof(DmaUnmap) == 24);

// "VFIO_USER_DEVICE_GET_INFO", request and reply.
struct DeviceInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t region_count;
  uint32_t irq_count;
};
static_assert(sizeof(DeviceInfo) == 16);
inline constexpr uint32_t kDeviceCanReset = 1u << 0;
inline constexpr uint32_t kDeviceIsPci = 1u << 1;
inline constexpr uint32_t kDeviceIsPlatform = 1u << 2;

// "VFIO_USER_DEVICE_GET_REGION_INFO", request and reply. Capabilities follow
// the reply.
struct RegionInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t cap_offset;  // From the beginning of this structure.
  uint64_t size;
  uint64_t offset;  // For mmap() of the descriptor.
};
static_assert(sizeof(RegionInfo) == 32);
inline constexpr uint32_t kRegionReadable = 1u << 0;
inline constexpr uint32_t kRegionWriteable = 1u << 1;
inline constexpr uint32_t kRegionMappable = 1u << 2;
inline constexpr uint32_t kRegionHasCaps = 1u << 3;

// "VFIO cap header format".
struct CapabilityHeader {
  uint16_t id;
  uint16_t version;
  uint32_t next;  // From the beginning of RegionInfo; 0: the last one.
};
static_assert(sizeof(CapabilityHeader) == 8);
inline constexpr uint16_t kCapSparseMmap = 1;
inline constexpr uint16_t kCapType = 2;

// "VFIO region info cap sparse mmap"; areas follow.
struct SparseMmap {
  CapabilityHeader header;
  uint32_t area_count;
  uint32_t reserved;
};
static_assert(sizeof(SparseMmap) == 16);
struct SparseArea {
  uint64_t offset;  // From RegionInfo::offset.
  uint64_t size;
};
static_assert(sizeof(SparseArea) == 16);

// struct vfio_region_info_cap_type of <linux/vfio.h>: "Device-Specific
// Regions".
struct RegionType {
  CapabilityHeader header;
  uint32_t type;
  uint32_t subtype;
};
static_assert(sizeof(RegionType) == 16);

// "VFIO_USER_DEVICE_GET_REGION_IO_FDS", request and reply. Sub-regions follow
// the reply.
struct RegionIoFds {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t count;
};
static_assert(sizeof(RegionIoFds) == 16);

// "Sub-Region IO FD info format". The last word is datamatch of an ioeventfd
// and user_data of an ioregionfd.
struct SubRegion {
  uint64_t offset;
  uint64_t size;
  uint32_t fd_index;
  uint32_t type;
  uint32_t flags;
  uint32_t padding;
  uint64_t data;
};
static_assert(sizeof(SubRegion) == 40);
inline constexpr uint32_t kIoEventFd = 0;
inline constexpr uint32_t kIoRegionFd = 1;

// "VFIO_USER_DEVICE_GET_IRQ_INFO", request and reply.
struct IrqInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t count;
};
static_assert(sizeof(IrqInfo) == 16);
inline constexpr uint32_t kIrqEventFd = 1u << 0;
inline constexpr uint32_t kIrqMaskable = 1u << 1;
inline constexpr uint32_t kIrqAutomasked = 1u << 2;
inline constexpr uint32_t kIrqNoResize = 1u << 3;

// "VFIO_USER_DEVICE_SET_IRQS". With kIrqDataBool `count` bytes follow.
struct IrqSet {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t start;
  uint32_t count;
};
static_assert(sizeof(IrqSet) == 20);
inline constexpr uint32_t kIrqDataNone = 1u << 0;
inline constexpr uint32_t kIrqDataBool = 1u << 1;
inline constexpr uint32_t kIrqDataEventFd = 1u << 2;
inline constexpr uint32_t kIrqDataMask = 7u << 0;
inline constexpr uint32_t kIrqActionMask = 1u << 3;
inline constexpr uint32_t kIrqActionUnmask = 1u << 4;
inline constexpr uint32_t kIrqActionTrigger = 1u << 5;
inline constexpr uint32_t kIrqActionsMask = 7u << 3;

// "VFIO_USER_REGION_READ" and "..._WRITE", request and reply. Data follows the
// request of a write and the reply to a read.
struct RegionAccess {
  uint64_t offset;
  uint32_t region;
  uint32_t count;
};
static_assert(sizeof(RegionAccess) == 16);

// "VFIO_USER_REGION_WRITE_MULTI": a 64-bit number of these, then they follow.
// The reply is the number alone.
struct SmallWrite {
  uint64_t offset;
  uint32_t region;
  uint32_t count;
  uint8_t data[8];
};
static_assert(sizeof(SmallWrite) == 24);

// "VFIO_USER_DMA_READ" and "..._WRITE", request and reply. Data as above.
struct DmaAccess {
  uint64_t address;
  uint64_t count;
};
static_assert(sizeof(DmaAccess) == 16);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_MESSAGE_H_

#ifndef HOLDFAST_DEVICES_VHOST_USER_MESSAGE_H_
#define HOLDFAST_DEVICES_VHOST_USER_MESSAGE_H_

// The wire types of vhost-user, as QEMU's docs/interop/vhost-user.rst defines
// them. Nothing but layout: codec.h reads and writes them, session.h gives them
// meaning. All numbers are in the host's byte order.

#include <cstddef>
#include <cstdint>

namespace holdfast::vhost_user {

// "Header". `size` counts the payload only.
struct MessageHeader {
  uint32_t request;
  uint32_t flags;
  uint32_t size;
};
static_assert(sizeof(MessageHeader) == 12);

inline constexpr uint32_t kVersion = 1;
inline constexpr uint32_t kFlagVersionMask = 3u << 0;
inline constexpr uint32_t kFlagReply = 1u << 2;
inline constexpr uint32_t kFlagNeedReply = 1u << 3;

// No message that we understand has more than 268 bytes of payload, and none of
// the specification's is larger than a page. A larger size is a peer that has
// lost the message boundary: nothing after it can be trusted.
inline constexpr size_t kMaxPayloadSize = 4096;
inline constexpr size_t kMaxMessageSize =
    sizeof(MessageHeader) + kMaxPayloadSize;

// Descriptors with one message ("at most 8" in the specification).
inline constexpr size_t kMaxMessageFds = 8;
// Regions in one SET_MEM_TABLE; each has a descriptor.
inline constexpr size_t kMaxTableRegions = 8;
// What front-ends use as the largest access to the configuration space.
inline constexpr size_t kMaxConfigAccess = 256;

// "Front-end message types". Those without a comment are served.
enum class RequestType : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetLogBase = 6,
  kSetLogFd = 7,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kSendRarp = 19,   // Refused.
  kNetSetMtu = 20,  // Refused.
  kSetBackendReqFd = 21,
  kIotlbMsg = 22,  // Refused.
  kSetVringEndian = 23,
  kGetConfig = 24,
  kSetConfig = 25,
  kCreateCryptoSession = 26,  // Refused.
  kCloseCryptoSession = 27,   // Refused.
  kPostcopyAdvise = 28,       // Refused.
  kPostcopyListen = 29,       // Refused.
  kPostcopyEnd = 30,          // Refused.
  kGetInflightFd = 31,
  kSetInflightFd = 32,
  kGpuSetSocket = 33,  // Refused.
  kResetDevice = 34,
  kVringKick = 35,  // Refused.
  kGetMaxMemSlots = 36,
  kAddMemReg = 37,
  kRemMemReg = 38,
  kSetStatus = 39,
  kGetStatus = 40,
  kGetSharedObject = 41,   // Refused.
  kSetDeviceStateFd = 42,  // Refused.
  kCheckDeviceState = 43,  // Refused.
  kGetShmemConfig = 44,    // Refused.
};

// "Back-end message types", on the channel of SET_BACKEND_REQ_FD.
enum class BackendRequestType : uint32_t { kConfigChange = 2 };

// "Protocol features": bits of GET_ and SET_PROTOCOL_FEATURES.
inline constexpr uint64_t kProtocolMq = 1ull << 0;
inline constexpr uint64_t kProtocolLogShmfd = 1ull << 1;
inline constexpr uint64_t kProtocolReplyAck = 1ull << 3;
inline constexpr uint64_t kProtocolBackendReq = 1ull << 5;
inline constexpr uint64_t kProtocolCrossEndian = 1ull << 6;
inline constexpr uint64_t kProtocolConfig = 1ull << 9;
inline constexpr uint64_t kProtocolInflightShmfd = 1ull << 12;
inline constexpr uint64_t kProtocolResetDevice = 1ull << 13;
inline constexpr uint64_t kProtocolConfigureMemSlots = 1ull << 15;
inline constexpr uint64_t kProtocolStatus = 1ull << 16;

// Bits of GET_ and SET_FEATURES that belong to vhost and not to the device.
inline constexpr uint64_t kFeatureLogAll = 1ull << 26;
inline constexpr uint64_t kFeatureProtocolFeatures = 1ull << 30;

// "A vring state description".
struct VringState {
  uint32_t index;
  uint32_t num;
};
static_assert(sizeof(VringState) == 8);

// "A vring address description". Ring addresses are the front-end's user
// addresses; `log` is a guest address.
struct VringAddress {
  uint32_t index;
  uint32_t flags;
  uint64_t descriptor;
  uint64_t used;
  uint64_t available;
  uint64_t log;
};
static_assert(sizeof(VringAddress) == 40);
inline constexpr uint32_t kVringFlagLog = 1u << 0;

// SET_VRING_KICK, CALL and ERR: one 64-bit number.
inline constexpr uint64_t kVringIndexMask = 0xff;
inline constexpr uint64_t kVringNoFd = 1ull << 8;

// One region of "Memory regions description".
struct MemoryRegion {
  uint64_t guest_address;
  uint64_t size;
  uint64_t user_address;
  uint64_t mmap_offset;
};
static_assert(sizeof(MemoryRegion) == 32);

// What precedes the regions of SET_MEM_TABLE.
struct MemoryTableHeader {
  uint32_t count;
  uint32_t padding;
};
static_assert(sizeof(MemoryTableHeader) == 8);

// "Single memory region description".
struct SingleMemoryRegion {
  uint64_t padding;
  MemoryRegion region;
};
static_assert(sizeof(SingleMemoryRegion) == 40);

// "Log description".
struct LogDescription {
  uint64_t size;
  uint64_t offset;
};
static_assert(sizeof(LogDescription) == 16);

// What precedes the bytes of "Virtio device config space".
struct ConfigHeader {
  uint32_t offset;
  uint32_t size;
  uint32_t flags;
};
static_assert(sizeof(ConfigHeader) == 12);
inline constexpr uint32_t kConfigFlagWritable = 0;
inline constexpr uint32_t kConfigFlagMigration = 1;

// "Inflight description". The specification lists 20 bytes; all known ends
// send the C structure with its 4 bytes of tail padding.
struct InflightDescription {
  uint64_t mmap_size;
  uint64_t mmap_offset;
  uint16_t queue_count;
  uint16_t queue_size;
  uint32_t padding;
};
static_assert(sizeof(InflightDescription) == 24);

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_MESSAGE_H_

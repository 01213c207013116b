#ifndef HOLDFAST_DEVICES_PCI_NVME_PROTOCOL_H_
#define HOLDFAST_DEVICES_PCI_NVME_PROTOCOL_H_

#include <cstddef>
#include <cstdint>

// NVM Express base specification 1.4, figures too. Little-endian; layout alone.
namespace holdfast::nvme {

inline constexpr uint32_t kPageSize = 4096;  // CC.MPS 0, the only one.
inline constexpr uint32_t kAllNamespaces = 0xffffffff;  // As an identifier.

// A submission queue entry (4.2).
struct Command {
  uint8_t opcode;
  uint8_t flags;  // Bits 0-1: fused operation; 6-7: how data is described.
  uint16_t cid;
  uint32_t nsid;
  uint32_t cdw2;
  uint32_t cdw3;
  uint64_t metadata;
  uint64_t prp1;
  uint64_t prp2;
  uint32_t cdw10;
  uint32_t cdw11;
  uint32_t cdw12;
  uint32_t cdw13;
  uint32_t cdw14;
  uint32_t cdw15;
};
static_assert(sizeof(Command) == 64);

// A completion queue entry (4.6).
struct Completion {
  uint32_t result;
  uint32_t reserved;
  uint16_t sq_head;
  uint16_t sq_id;
  uint16_t cid;
  uint16_t status;  // Bit 0: phase.
};
static_assert(sizeof(Completion) == 16);

enum class AdminOpcode : uint8_t {
  kDeleteSq = 0x00,
  kCreateSq = 0x01,
  kGetLogPage = 0x02,
  kDeleteCq = 0x04,
  kCreateCq = 0x05,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0a,
  kAsyncEvent = 0x0c,
  kDoorbellBuffers = 0x7c,
};

enum class IoOpcode : uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kCompare = 0x05,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
};

// Status code type and status code (4.6.1).
enum class Status : uint16_t {
  kSuccess = 0x000,
  kInvalidOpcode = 0x001,
  kInvalidField = 0x002,
  kDataTransferError = 0x004,
  kInternal = 0x006,
  kInvalidNamespace = 0x00b,
  kCommandSequence = 0x00c,
  kInvalidPrpOffset = 0x013,
  kWriteProtected = 0x020,
  kLbaOutOfRange = 0x080,
  kInvalidCq = 0x100,
  kInvalidQueueId = 0x101,
  kInvalidQueueSize = 0x102,
  kAsyncEventLimit = 0x105,
  kInvalidVector = 0x108,
  kInvalidLogPage = 0x109,
  kInvalidQueueDeletion = 0x10c,
  kFeatureNotSaveable = 0x10d,
  kFeatureNotChangeable = 0x10e,
  kWriteFault = 0x280,
  kUnrecoveredRead = 0x281,
  kCompareFailure = 0x285,
};

// Whether the same command would fail again.
constexpr bool IsPermanent(Status status) {
  switch (status) {
    case Status::kSuccess:
    case Status::kInternal:
    case Status::kDataTransferError:
    case Status::kWriteFault:
    case Status::kUnrecoveredRead:
    case Status::kCompareFailure:
      return false;
    default:
      return true;
  }
}

// The status field of a completion, its phase left out.
constexpr uint16_t StatusField(Status status) {
  return static_cast<uint16_t>(static_cast<uint16_t>(status) << 1 |
                               (IsPermanent(status) ? 1u << 15 : 0));
}

enum class Feature : uint8_t {
  kArbitration = 0x01,
  kPowerManagement = 0x02,
  kTemperatureThreshold = 0x04,
  kErrorRecovery = 0x05,
  kWriteCache = 0x06,
  kQueues = 0x07,
  kInterruptCoalescing = 0x08,
  kInterruptVector = 0x09,
  kWriteAtomicity = 0x0a,
  kAsyncEvents = 0x0b,
};

enum class LogPage : uint8_t {
  kErrors = 0x01,
  kSmart = 0x02,
  kFirmware = 0x03,
  kChangedNamespaces = 0x04,
};

// CNS of Identify (figure 244).
enum class Cns : uint8_t {
  kNamespace = 0x00,
  kController = 0x01,
  kActiveNamespaces = 0x02,
  kDescriptors = 0x03,
};

inline constexpr size_t kIdentifySize = 4096;
// Identify Controller (figure 247), as far as it is not zero here.
struct __attribute__((packed)) ControllerData {
  uint16_t vendor;
  uint16_t subsystem_vendor;
  char serial[20];
  char model[40];
  char firmware[8];
  uint8_t arbitration_burst;
  uint8_t ieee[3];
  uint8_t multipath;
  uint8_t max_transfer;  // MDTS: 2^n pages.
  uint16_t controller_id;
  uint32_t version;
  uint8_t reserved0[8];
  uint32_t async_events;  // OAES.
  uint8_t reserved1[15];
  uint8_t type;  // 1: I/O controller.
  uint8_t reserved2[144];
  uint16_t admin_commands;  // OACS.
  uint8_t abort_limit;
  uint8_t async_event_limit;
  uint8_t firmware_updates;
  uint8_t log_page_attributes;
  uint8_t error_log_entries;
  uint8_t power_states;
  uint8_t reserved3[2];
  uint16_t warning_temperature;
  uint16_t critical_temperature;
  uint8_t reserved4[242];
  uint8_t sq_entry_sizes;
  uint8_t cq_entry_sizes;
  uint16_t max_commands;
  uint32_t namespaces;
  uint16_t io_commands;  // ONCS.
  uint16_t fused;
  uint8_t format_attributes;
  uint8_t write_cache;  // VWC.
  uint16_t atomic_write;
  uint16_t atomic_write_power_fail;
  uint8_t vendor_commands;
  uint8_t write_protection;
  uint16_t atomic_compare_write;
  uint8_t reserved5[2];
  uint32_t sgl;
  uint8_t reserved6[228];
  char subsystem_name[256];
  uint8_t reserved7[1024];
  uint8_t power_state0[32];
  uint8_t reserved8[992];
  uint8_t vendor_specific[1024];
};
static_assert(offsetof(ControllerData, version) == 80);
static_assert(offsetof(ControllerData, type) == 111);
static_assert(offsetof(ControllerData, admin_commands) == 256);
static_assert(offsetof(ControllerData, warning_temperature) == 266);
static_assert(offsetof(ControllerData, sq_entry_sizes) == 512);
static_assert(offsetof(ControllerData, sgl) == 536);
static_assert(offsetof(ControllerData, subsystem_name) == 768);
static_assert(offsetof(ControllerData, power_state0) == 2048);
static_assert(sizeof(ControllerData) == kIdentifySize);

// Identify Namespace (figure 245).
struct __attribute__((packed)) NamespaceData {
  uint64_t size;  // Blocks.
  uint64_t capacity;
  uint64_t used;
  uint8_t features;  // NSFEAT.
  uint8_t formats;   // Number of LBA formats, less one.
  uint8_t format;
  uint8_t metadata;
  uint8_t protection_capabilities;
  uint8_t protection;
  uint8_t sharing;
  uint8_t reservations;
  uint8_t format_progress;
  uint8_t deallocate;  // DLFEAT.
  uint8_t reserved0[30];
  uint16_t preferred_write;       // NPWG: blocks, less one.
  uint16_t preferred_alignment;   // NPWA.
  uint16_t preferred_deallocate;  // NPDG.
  uint16_t preferred_deallocate_alignment;
  uint16_t optimal_write;
  uint8_t reserved1[25];
  uint8_t attributes;  // NSATTR, bit 0: write protected.
  uint8_t reserved2[4];
  uint8_t nguid[16];
  uint8_t eui64[8];
  uint32_t lba_formats[16];  // Bits 16-23: log2 of the block size.
  uint8_t reserved3[192];
  uint8_t vendor_specific[3712];
};
static_assert(offsetof(NamespaceData, preferred_write) == 64);
static_assert(offsetof(NamespaceData, attributes) == 99);
static_assert(offsetof(NamespaceData, nguid) == 104);
static_assert(offsetof(NamespaceData, lba_formats) == 128);
static_assert(sizeof(NamespaceData) == kIdentifySize);

// A range of Dataset Management (figure 387).
struct Range {
  uint32_t attributes;
  uint32_t blocks;
  uint64_t lba;
};
static_assert(sizeof(Range) == 16);

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_PROTOCOL_H_

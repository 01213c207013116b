#ifndef HOLDFAST_DEVICES_PCI_NVME_PROTOCOL_H_
#define HOLDFAST_DEVICES_PCI_NVME_PROTOCOL_H_

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
  kAborted = 0x007,  // By request.
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
  // Internal error again, with the bit that StatusField adds: of a command that
  // has crashed who executed it.
  kPoison = 0x4006,
};

// Whether the same command would fail again.
constexpr bool IsPermanent(Status status) {
  switch (status) {
    case Status::kSuccess:
    case Status::kInternal:
    case Status::kAborted:
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

// A range of Dataset Management (figure 387).
struct Range {
  uint32_t attributes;
  uint32_t blocks;
  uint64_t lba;
};
static_assert(sizeof(Range) == 16);

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_PROTOCOL_H_

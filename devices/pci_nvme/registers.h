#ifndef HOLDFAST_DEVICES_PCI_NVME_REGISTERS_H_
#define HOLDFAST_DEVICES_PCI_NVME_REGISTERS_H_

#include <cstdint>

#include "devices/bus/registers.h"

// BAR 0 of an NVMe controller (NVM Express 1.4, section 3.1).
namespace holdfast::nvme {

inline constexpr uint32_t kBarSize = 16384;

// CAP; the size of queues and the timeout come with the spec.
inline constexpr Reg64 kCapabilities{"cap", 0x00, kConstant};
// Queues are contiguous; the NVM command set; pages of 4 KiB only.
constexpr uint64_t CapabilitiesOf(uint32_t max_queue_size) {
  constexpr uint64_t kContiguous = uint64_t{1} << 16;
  constexpr uint64_t kTimeout = uint64_t{60} << 24;  // 500 ms each.
  constexpr uint64_t kNvmCommandSet = uint64_t{1} << 37;
  return (max_queue_size - 1) | kContiguous | kTimeout | kNvmCommandSet;
}

inline constexpr uint32_t kVersion14 = 0x00010400;
inline constexpr Reg32 kVersion{"vs", 0x08, kConstant, kVersion14};

// Both read as the mask of INTx; what is written to the one sets bits of it,
// to the other clears them.
inline constexpr Reg32 kMaskSet{"intms", 0x0c, kWriteOneToSet};
inline constexpr Reg32 kMaskClear{"intmc", 0x10, kWriteOneToClear};

inline constexpr uint32_t kEnable = 1;
inline constexpr uint32_t kShutdownShift = 14;
inline constexpr Reg32 kConfiguration =
    Reg32{"cc", 0x14, kReadOnly}.Bits(kReadWrite, 0x00fffff1);
constexpr uint32_t ShutdownOf(uint32_t cc) { return cc >> kShutdownShift & 3; }
// Whether it asks for what there is: the NVM command set, 4 KiB pages, round
// robin.
constexpr bool IsSupported(uint32_t cc) { return (cc & 0x3ff0) == 0; }

inline constexpr uint32_t kReady = 1;
inline constexpr uint32_t kFatal = 2;
inline constexpr uint32_t kShutdownMask = 3u << 2;
inline constexpr uint32_t kShutdownRunning = 1u << 2;
inline constexpr uint32_t kShutdownComplete = 2u << 2;
inline constexpr Reg32 kStatus{"csts", 0x1c, kReadOnly};

inline constexpr Reg32 kAdminQueues =
    Reg32{"aqa", 0x24, kReadOnly}.Bits(kReadWrite, 0x0fff0fff);
inline constexpr Reg64 kAdminSq =
    Reg64{"asq", 0x28, kReadOnly}.Bits(kReadWrite, ~uint64_t{0xfff});
inline constexpr Reg64 kAdminCq =
    Reg64{"acq", 0x30, kReadOnly}.Bits(kReadWrite, ~uint64_t{0xfff});

// Queue n has element 2n (submission tail) and 2n + 1 (completion head).
inline constexpr Reg32 kDoorbells{"doorbells", 0x1000, kWriteOnly};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_REGISTERS_H_

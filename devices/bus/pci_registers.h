#ifndef HOLDFAST_DEVICES_BUS_PCI_REGISTERS_H_
#define HOLDFAST_DEVICES_BUS_PCI_REGISTERS_H_

// Configuration space (PCI Local Bus 3.0, chapter 6; PCI Express Base, 7.5):
// where the registers are that a guest or the device changes. All else in it is
// constant. Capabilities are at fixed places; those that a function does not
// have are not linked.

#include <cstddef>
#include <cstdint>

#include "devices/bus/region_device.h"
#include "devices/bus/registers.h"

namespace holdfast::pci {

inline constexpr uint32_t kConfig = kPciConfigRegion;
inline constexpr size_t kBars = 6;
inline constexpr size_t kConfigSize = 256;
// With the PCI Express capability: extended space, empty.
inline constexpr size_t kExpressConfigSize = 4096;

inline constexpr uint16_t kCommandMemory = 1u << 1;
inline constexpr uint16_t kCommandMaster = 1u << 2;
inline constexpr uint16_t kCommandIntxDisable = 1u << 10;
inline constexpr Reg16 kCommand =
    Reg16{"command", 0x04, kReadOnly}.Bits(kReadWrite, 0x0546).InBar(kConfig);
inline constexpr uint16_t kStatusIntx = 1u << 3;
inline constexpr uint16_t kStatusCapabilities = 1u << 4;
inline constexpr Reg16 kStatus = Reg16{"status", 0x06, kReadOnly}
                                     .Bits(kWriteOneToClear, 0xf900)
                                     .InBar(kConfig);
inline constexpr Reg8 kCacheLine =
    Reg8{"cache_line", 0x0c, kReadWrite}.InBar(kConfig);
inline constexpr uint32_t kFirstBar = 0x10;
inline constexpr uint32_t kCapabilityPointer = 0x34;
inline constexpr Reg8 kInterruptLine =
    Reg8{"interrupt_line", 0x3c, kReadWrite}.InBar(kConfig);
inline constexpr uint32_t kInterruptPin = 0x3d;

// Power management (PCI Bus Power Management 1.2, 3.2). Returning to D0 resets
// nothing (No_Soft_Reset).
inline constexpr uint8_t kPower = 0x40;
inline constexpr uint16_t kPowerState = 3;
inline constexpr Reg16 kPowerControl =
    Reg16{"power_control", kPower + 4, kReadOnly, 1u << 3}
        .Bits(kReadWrite, kPowerState)
        .InBar(kConfig);

// MSI with 64-bit addresses and a mask for each vector.
inline constexpr uint8_t kMsi = 0x48;
inline constexpr size_t kMaxMsiVectors = 32;
inline constexpr uint16_t kMsiEnable = 1;
inline constexpr Reg16 kMsiControl =
    Reg16{"msi_control", kMsi + 2, kReadOnly, 0x0180}
        .Bits(kReadWrite, 0x0071)
        .InBar(kConfig);
inline constexpr Reg32 kMsiAddress = Reg32{"msi_address", kMsi + 4, kReadOnly}
                                         .Bits(kReadWrite, 0xfffffffc)
                                         .InBar(kConfig);
inline constexpr Reg32 kMsiAddressHigh =
    Reg32{"msi_address_high", kMsi + 8, kReadWrite}.InBar(kConfig);
inline constexpr Reg16 kMsiData =
    Reg16{"msi_data", kMsi + 12, kReadWrite}.InBar(kConfig);
// A bit of each vector that the function has is kReadWrite.
inline constexpr Reg32 kMsiMask =
    Reg32{"msi_mask", kMsi + 16, kReadOnly}.InBar(kConfig);
inline constexpr Reg32 kMsiPending =
    Reg32{"msi_pending", kMsi + 20, kReadOnly}.InBar(kConfig);

// MSI-X. Table and pending bits fill a BAR of their own.
inline constexpr uint8_t kMsix = 0x60;
inline constexpr uint16_t kMsixMaskAll = 1u << 14;
inline constexpr uint16_t kMsixEnable = 1u << 15;
inline constexpr Reg16 kMsixControl =
    Reg16{"msix_control", kMsix + 2, kReadOnly}
        .Bits(kReadWrite, 0xc000)
        .InBar(kConfig);
// Reason: the table is state, and each commit copies all of it: 16 bytes a
// vector. What a device with a queue and a vector for each of 127 CPUs needs.
inline constexpr size_t kMaxMsixVectors = 128;
inline constexpr uint32_t kMsixPendingOffset = 16 * kMaxMsixVectors;

// PCI Express endpoint, version 2.
inline constexpr uint8_t kExpress = 0x70;
inline constexpr size_t kExpressSize = 60;
inline constexpr uint16_t kFunctionReset = 1u << 15;  // Reads as zero.
inline constexpr Reg16 kExpressControl =
    Reg16{"express_control", kExpress + 8, kReadOnly, 0x2810}
        .Bits(kReadWrite, 0x7fff)
        .InBar(kConfig);
inline constexpr Reg16 kExpressStatus =
    Reg16{"express_status", kExpress + 10, kReadOnly}
        .Bits(kWriteOneToClear, 0x000f)
        .InBar(kConfig);
inline constexpr Reg16 kLinkControl =
    Reg16{"link_control", kExpress + 16, kReadOnly}
        .Bits(kReadWrite, 0x00c3)
        .InBar(kConfig);

// Vendor-specific, up to the end of configuration space.
inline constexpr uint8_t kVendor = 0xb0;
inline constexpr size_t kMaxVendorBytes = kConfigSize - kVendor - 3;

}  // namespace holdfast::pci

#endif  // HOLDFAST_DEVICES_BUS_PCI_REGISTERS_H_

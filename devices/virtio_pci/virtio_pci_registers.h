#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_PCI_REGISTERS_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_PCI_REGISTERS_H_

// Registers of a VIRTIO device on PCI (VIRTIO 1.2, section 4.1.4), all in
// BAR 0. What depends on the device (how many queues, what a register holds
// after reset) is in the file that VirtioPciDevice::Spec makes of them.

#include <cstddef>
#include <cstdint>

#include "devices/bus/pci_registers.h"
#include "devices/bus/registers.h"
#include "devices/bus/virtio_spec.h"

namespace holdfast::virtio_pci {

// Where the structures are; each has a page of its own, so that a VMM can map
// or trap it alone.
inline constexpr uint32_t kBar = 0;
inline constexpr uint64_t kBarSize = 0x4000;
inline constexpr uint32_t kCommonOffset = 0x0000;
inline constexpr uint32_t kCommonSize = 0x40;
inline constexpr uint32_t kIsrOffset = 0x1000;
inline constexpr uint32_t kConfigOffset = 0x2000;
inline constexpr uint32_t kNotifyOffset = 0x3000;
inline constexpr uint32_t kNotifyMultiplier = 4;

// Reason: more than any device of VIRTIO 1.2 has; vhost-user's limit, too.
inline constexpr uint32_t kMaxConfigSize = 256;

// Common configuration (4.1.4.3).
inline constexpr Reg32 kDeviceFeatureSelect{"device_feature_select", 0x00,
                                            kReadWrite};
inline constexpr Reg32 kDeviceFeature{"device_feature", 0x04, kReadOnly};
inline constexpr Reg32 kDriverFeatureSelect{"driver_feature_select", 0x08,
                                            kReadWrite};
inline constexpr Reg32 kDriverFeature{"driver_feature", 0x0c, kReadWrite};
inline constexpr uint16_t kNoVector = 0xffff;
inline constexpr Reg16 kConfigVector{"config_msix_vector", 0x10, kReadWrite};
inline constexpr Reg16 kQueueCount{"num_queues", 0x12, kConstant};
inline constexpr Reg8 kDeviceStatus{"device_status", 0x14, kReadWrite};
inline constexpr Reg8 kConfigGeneration{"config_generation", 0x15, kReadOnly};
// A window on the queue that queue_select names. What it shows is kept below.
inline constexpr Reg16 kQueueSelect{"queue_select", 0x16, kReadWrite};
inline constexpr Reg16 kQueueSize{"queue_size", 0x18, kReadWrite};
inline constexpr Reg16 kQueueVector{"queue_msix_vector", 0x1a, kReadWrite};
inline constexpr Reg16 kQueueEnable{"queue_enable", 0x1c, kReadWrite};
inline constexpr Reg16 kQueueNotifyOffset{"queue_notify_off", 0x1e, kReadOnly};
inline constexpr Reg64 kQueueDescriptors{"queue_desc", 0x20, kReadWrite};
inline constexpr Reg64 kQueueDriver{"queue_driver", 0x28, kReadWrite};
inline constexpr Reg64 kQueueDevice{"queue_device", 0x30, kReadWrite};
inline constexpr Reg16 kQueueNotifyData{"queue_notify_data", 0x38, kConstant};
inline constexpr Reg16 kQueueReset{"queue_reset", 0x3a, kReadWrite};

// Bits of device_status (2.1).
inline constexpr uint8_t kAcknowledge = 1;
inline constexpr uint8_t kDriver = 2;
inline constexpr uint8_t kDriverOk = 4;
inline constexpr uint8_t kFeaturesOk = 8;
inline constexpr uint8_t kNeedsReset = 64;
inline constexpr uint8_t kFailed = 128;

// ISR status (4.1.4.5).
inline constexpr uint8_t kIsrQueue = 1;
inline constexpr uint8_t kIsrConfig = 2;
inline constexpr Reg8 kIsr{"isr", kIsrOffset, kReadToClear};

// What the driver has been shown of device configuration (4.1.4.6): the
// device's own, as it was when the driver was last told of a change.
inline constexpr Reg8 kConfig{"config", kConfigOffset, kReadOnly};

// Notifications (4.1.4.4), one for each queue.
inline constexpr Reg32 kNotify{"notify", kNotifyOffset, kWriteOnly};

// All queues, and what was negotiated. No structure of the specification
// covers these: a driver does not look here, and could only read.
inline constexpr uint32_t kMaxQueues = VirtioSpec::kMaxQueues;
inline constexpr Reg64 kDriverFeatures{"driver_features", 0x800, kReadOnly};
inline constexpr Reg32 kResets{"resets", 0x808, kReadOnly};
inline constexpr Reg16 kQueueSizes{"queue_sizes", 0x840, kReadOnly};  // 0: max.
inline constexpr Reg16 kQueueVectors{"queue_vectors", 0x880, kReadOnly,
                                     kNoVector};
inline constexpr Reg8 kQueuesEnabled{"queues_enabled", 0x8c0, kReadOnly};
inline constexpr Reg64 kAllDescriptors{"queue_descs", 0x900, kReadOnly};
inline constexpr Reg64 kAllDrivers{"queue_drivers", 0xa00, kReadOnly};
inline constexpr Reg64 kAllDevices{"queue_devices", 0xb00, kReadOnly};

// Capabilities (4.1.4) in configuration space: where, and cfg_type.
inline constexpr uint8_t kCommonCapability = 0x70;
inline constexpr uint8_t kNotifyCapability = 0x80;
inline constexpr uint8_t kIsrCapability = 0x94;
inline constexpr uint8_t kConfigCapability = 0xa4;
inline constexpr uint8_t kAccessCapability = 0xb4;
enum class CapabilityType : uint8_t {
  kCommon = 1,
  kNotify = 2,
  kIsr = 3,
  kDevice = 4,
  kPciAccess = 5,
};

// The way to BAR 0 for who cannot map it (4.1.4.9): an access of data is one of
// `length` bytes at `offset`.
inline constexpr Reg8 kAccessBar =
    Reg8{"access_bar", kAccessCapability + 4, kReadWrite}.InBar(pci::kConfig);
inline constexpr Reg32 kAccessOffset =
    Reg32{"access_offset", kAccessCapability + 8, kReadWrite}.InBar(
        pci::kConfig);
inline constexpr Reg32 kAccessLength =
    Reg32{"access_length", kAccessCapability + 12, kReadWrite}.InBar(
        pci::kConfig);
inline constexpr Reg32 kAccessData =
    Reg32{"access_data", kAccessCapability + 16, kReadWrite}.InBar(
        pci::kConfig);

}  // namespace holdfast::virtio_pci

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_VIRTIO_PCI_REGISTERS_H_

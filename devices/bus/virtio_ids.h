#ifndef HOLDFAST_DEVICES_BUS_VIRTIO_IDS_H_
#define HOLDFAST_DEVICES_BUS_VIRTIO_IDS_H_

#include <cstdint>

// Numbers of the VIRTIO 1.2 specification that device authors name.
namespace holdfast::virtio {

// Section 5: device identifiers.
inline constexpr uint32_t kDeviceIdNet = 1;
inline constexpr uint32_t kDeviceIdBlock = 2;
inline constexpr uint32_t kDeviceIdConsole = 3;
inline constexpr uint32_t kDeviceIdRng = 4;

// Section 6: feature bits of every device.
inline constexpr uint64_t kFeatureRingIndirectDesc = 1ull << 28;
inline constexpr uint64_t kFeatureRingEventIdx = 1ull << 29;
inline constexpr uint64_t kFeatureVersion1 = 1ull << 32;
inline constexpr uint64_t kFeatureAccessPlatform = 1ull << 33;
inline constexpr uint64_t kFeatureInOrder = 1ull << 35;
inline constexpr uint64_t kFeatureRingReset = 1ull << 40;

}  // namespace holdfast::virtio

#endif  // HOLDFAST_DEVICES_BUS_VIRTIO_IDS_H_

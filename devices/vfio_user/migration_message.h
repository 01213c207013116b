#ifndef HOLDFAST_DEVICES_VFIO_USER_MIGRATION_MESSAGE_H_
#define HOLDFAST_DEVICES_VFIO_USER_MIGRATION_MESSAGE_H_

// The wire types of device features, migration and dirty page logging: the rest
// of message.h.

#include <cstddef>
#include <cstdint>

namespace holdfast::vfio_user {

// "VFIO_USER_DEVICE_FEATURE", request and reply; data follows.
struct DeviceFeature {
  uint32_t argsz;
  uint32_t flags;
};
static_assert(sizeof(DeviceFeature) == 8);
inline constexpr uint32_t kFeatureIndexMask = 0xffff;
inline constexpr uint32_t kFeatureGet = 1u << 16;
inline constexpr uint32_t kFeatureSet = 1u << 17;
inline constexpr uint32_t kFeatureProbe = 1u << 18;

// "Device Features".
inline constexpr uint32_t kFeatureMigration = 1;
inline constexpr uint32_t kFeatureMigrationState = 2;
inline constexpr uint32_t kFeatureDmaLoggingStart = 6;
inline constexpr uint32_t kFeatureDmaLoggingStop = 7;
inline constexpr uint32_t kFeatureDmaLoggingReport = 8;

// "VFIO_DEVICE_FEATURE_MIGRATION": a 64-bit number with these.
inline constexpr uint64_t kMigrationStopCopy = 1u << 0;
inline constexpr uint64_t kMigrationP2p = 1u << 1;
inline constexpr uint64_t kMigrationPreCopy = 1u << 2;

// "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE".
struct MigrationStateData {
  uint32_t device_state;
  uint32_t data_fd;  // Not used.
};
static_assert(sizeof(MigrationStateData) == 8);

// "VFIO_DEVICE_FEATURE_DMA_LOGGING_START"; ranges follow.
struct LoggingControl {
  uint64_t page_size;
  uint32_t range_count;
  uint32_t reserved;
};
static_assert(sizeof(LoggingControl) == 16);
struct LoggingRange {
  uint64_t address;
  uint64_t size;
};
static_assert(sizeof(LoggingRange) == 16);

// "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"; the reply's bitmap follows.
struct LoggingReport {
  uint64_t address;
  uint64_t size;
  uint64_t page_size;
};
static_assert(sizeof(LoggingReport) == 24);

// "VFIO_USER_MIG_DATA_READ" and "..._WRITE". Data follows the reply to a read
// and the request of a write, whose reply is empty.
struct MigrationData {
  uint32_t argsz;
  uint32_t size;
};
static_assert(sizeof(MigrationData) == 8);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_MIGRATION_MESSAGE_H_

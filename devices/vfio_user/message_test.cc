// The tables of the specification, field by field: where each one lies.

#include "devices/vfio_user/message.h"

#include <cstddef>

#include "devices/vfio_user/migration_message.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

// Offset and size of one field.
#define EXPECT_AT(type, field, offset, size)          \
  do {                                                \
    EXPECT_EQ(offsetof(type, field), size_t{offset}); \
    EXPECT_EQ(sizeof(type::field), size_t{size});     \
  } while (false)

TEST(Message, Header) {
  EXPECT_AT(MessageHeader, id, 0, 2);
  EXPECT_AT(MessageHeader, command, 2, 2);
  EXPECT_AT(MessageHeader, size, 4, 4);
  EXPECT_AT(MessageHeader, flags, 8, 4);
  EXPECT_AT(MessageHeader, error, 12, 4);
  EXPECT_EQ(kFlagNoReply, 0x10u);
  EXPECT_EQ(kFlagError, 0x20u);
}

TEST(Message, CommandNumbers) {
  EXPECT_EQ(static_cast<int>(Command::kVersion), 1);
  EXPECT_EQ(static_cast<int>(Command::kDmaUnmap), 3);
  EXPECT_EQ(static_cast<int>(Command::kDeviceGetRegionIoFds), 6);
  EXPECT_EQ(static_cast<int>(Command::kDeviceSetIrqs), 8);
  EXPECT_EQ(static_cast<int>(Command::kRegionWrite), 10);
  EXPECT_EQ(static_cast<int>(Command::kDmaWrite), 12);
  EXPECT_EQ(static_cast<int>(Command::kDeviceReset), 13);
  EXPECT_EQ(static_cast<int>(Command::kRegionWriteMulti), 15);
  EXPECT_EQ(static_cast<int>(Command::kMigDataWrite), 18);
}

TEST(Message, DmaMapAndUnmap) {
  EXPECT_AT(Version, major, 0, 2);
  EXPECT_AT(Version, minor, 2, 2);
  EXPECT_AT(DmaMap, argsz, 0, 4);
  EXPECT_AT(DmaMap, flags, 4, 4);
  EXPECT_AT(DmaMap, offset, 8, 8);
  EXPECT_AT(DmaMap, address, 16, 8);
  EXPECT_AT(DmaMap, size, 24, 8);
  EXPECT_AT(DmaUnmap, argsz, 0, 4);
  EXPECT_AT(DmaUnmap, flags, 4, 4);
  EXPECT_AT(DmaUnmap, address, 8, 8);
  EXPECT_AT(DmaUnmap, size, 16, 8);
}

TEST(Message, DeviceAndRegionInfo) {
  EXPECT_AT(DeviceInfo, argsz, 0, 4);
  EXPECT_AT(DeviceInfo, flags, 4, 4);
  EXPECT_AT(DeviceInfo, region_count, 8, 4);
  EXPECT_AT(DeviceInfo, irq_count, 12, 4);
  EXPECT_AT(RegionInfo, argsz, 0, 4);
  EXPECT_AT(RegionInfo, flags, 4, 4);
  EXPECT_AT(RegionInfo, index, 8, 4);
  EXPECT_AT(RegionInfo, cap_offset, 12, 4);
  EXPECT_AT(RegionInfo, size, 16, 8);
  EXPECT_AT(RegionInfo, offset, 24, 8);
}

TEST(Message, RegionCapabilities) {
  EXPECT_AT(CapabilityHeader, id, 0, 2);
  EXPECT_AT(CapabilityHeader, version, 2, 2);
  EXPECT_AT(CapabilityHeader, next, 4, 4);
  EXPECT_AT(SparseMmap, area_count, 8, 4);
  EXPECT_AT(SparseMmap, reserved, 12, 4);
  EXPECT_AT(SparseArea, offset, 0, 8);
  EXPECT_AT(SparseArea, size, 8, 8);
  EXPECT_AT(RegionType, type, 8, 4);
  EXPECT_AT(RegionType, subtype, 12, 4);
}

TEST(Message, RegionIoDescriptors) {
  EXPECT_AT(RegionIoFds, index, 8, 4);
  EXPECT_AT(RegionIoFds, count, 12, 4);
  EXPECT_AT(SubRegion, offset, 0, 8);
  EXPECT_AT(SubRegion, size, 8, 8);
  EXPECT_AT(SubRegion, fd_index, 16, 4);
  EXPECT_AT(SubRegion, type, 20, 4);
  EXPECT_AT(SubRegion, flags, 24, 4);
  EXPECT_AT(SubRegion, padding, 28, 4);
  EXPECT_AT(SubRegion, data, 32, 8);
}

TEST(Message, Interrupts) {
  EXPECT_AT(IrqInfo, index, 8, 4);
  EXPECT_AT(IrqInfo, count, 12, 4);
  EXPECT_AT(IrqSet, flags, 4, 4);
  EXPECT_AT(IrqSet, index, 8, 4);
  EXPECT_AT(IrqSet, start, 12, 4);
  EXPECT_AT(IrqSet, count, 16, 4);
  // Bits 0 to 5, in this order.
  EXPECT_EQ(kIrqDataNone | kIrqDataBool | kIrqDataEventFd, kIrqDataMask);
  EXPECT_EQ(kIrqActionMask, 8u);
  EXPECT_EQ(kIrqActionUnmask, 16u);
  EXPECT_EQ(kIrqActionTrigger, 32u);
  EXPECT_EQ(kIrqActionMask | kIrqActionUnmask | kIrqActionTrigger,
            kIrqActionsMask);
}

TEST(Message, Accesses) {
  EXPECT_AT(RegionAccess, offset, 0, 8);
  EXPECT_AT(RegionAccess, region, 8, 4);
  EXPECT_AT(RegionAccess, count, 12, 4);
  EXPECT_AT(SmallWrite, offset, 0, 8);
  EXPECT_AT(SmallWrite, region, 8, 4);
  EXPECT_AT(SmallWrite, count, 12, 4);
  EXPECT_AT(SmallWrite, data, 16, 8);
  EXPECT_AT(DmaAccess, address, 0, 8);
  EXPECT_AT(DmaAccess, count, 8, 8);
}

TEST(Message, FeaturesAndMigration) {
  EXPECT_AT(DeviceFeature, argsz, 0, 4);
  EXPECT_AT(DeviceFeature, flags, 4, 4);
  EXPECT_EQ(kFeatureGet, 0x10000u);
  EXPECT_EQ(kFeatureSet, 0x20000u);
  EXPECT_EQ(kFeatureProbe, 0x40000u);
  EXPECT_AT(MigrationStateData, device_state, 0, 4);
  EXPECT_AT(MigrationStateData, data_fd, 4, 4);
  EXPECT_AT(LoggingControl, page_size, 0, 8);
  EXPECT_AT(LoggingControl, range_count, 8, 4);
  EXPECT_AT(LoggingRange, address, 0, 8);
  EXPECT_AT(LoggingRange, size, 8, 8);
  EXPECT_AT(LoggingReport, address, 0, 8);
  EXPECT_AT(LoggingReport, size, 8, 8);
  EXPECT_AT(LoggingReport, page_size, 16, 8);
  EXPECT_AT(MigrationData, argsz, 0, 4);
  EXPECT_AT(MigrationData, size, 4, 4);
}

}  // namespace
}  // namespace holdfast::vfio_user

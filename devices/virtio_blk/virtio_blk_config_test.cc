// What a guest is told of the disk, by each version of what it can see, and
// what a program says that it serves.
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "base/testing/matchers.h"
#include "devices/block/topology.h"
#include "devices/testing/fake_context.h"
#include "devices/virtio_blk/protocol.h"
#include "devices/virtio_blk/testing/engine_fixture.h"
#include "devices/virtio_blk/virtio_blk.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_blk {
namespace {

using ::holdfast::testing::FakeContext;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- Configuration space ----

Config ConfigOf(const VirtioDevice& device) {
  Config config;
  device.ReadConfig(0, {reinterpret_cast<uint8_t*>(&config), sizeof(config)});
  return config;
}

// A disk of 512-byte sectors on 4 KiB blocks, the first of which begins at
// sector 7, in stripes of 64 KiB.
constexpr block::Topology kStripes = {4096, 3584, 4096, 65536};

TEST_F(EngineTest, TopologyIsInLogicalBlocks) {
  context_.SetGuestVersion(2);
  Make(kDiskSize, false, "s", /*block_size=*/512, kStripes);
  const Config config = ConfigOf(*device_);
  EXPECT_EQ(config.physical_block_exp, 3);
  EXPECT_EQ(config.alignment_offset, 7);
  EXPECT_EQ(config.min_io_size, 8);
  EXPECT_EQ(config.opt_io_size, 128u);
  Make(kDiskSize, false, "s", /*block_size=*/4096, kStripes);
  EXPECT_EQ(ConfigOf(*device_).physical_block_exp, 0);
  EXPECT_EQ(ConfigOf(*device_).min_io_size, 1);
}

TEST_F(EngineTest, TopologyThatIsNotKnownIsAllZero) {
  context_.SetGuestVersion(2);
  Make();
  const Config config = ConfigOf(*device_);
  EXPECT_EQ(config.physical_block_exp, 0);
  EXPECT_EQ(config.alignment_offset, 0);
  EXPECT_EQ(config.min_io_size, 0);
  EXPECT_EQ(config.opt_io_size, 0u);
}

// It was started with a device that knew of no topology.
TEST_F(EngineTest, GuestOfVersion1SeesTheConfigurationThatItAlwaysSaw) {
  Make(kDiskSize, false, "s", /*block_size=*/512, kStripes);
  const Config with = ConfigOf(*device_);
  Make();
  const Config without = ConfigOf(*device_);
  EXPECT_EQ(std::memcmp(&with, &without, sizeof(with)), 0);
  EXPECT_EQ(with.physical_block_exp, 0);
  context_.SetGuestVersion(2);
  Make(kDiskSize, false, "s", /*block_size=*/512, kStripes);
  const Config later = ConfigOf(*device_);
  EXPECT_NE(std::memcmp(&later, &without, sizeof(later)), 0) << "the control";
}

TEST_F(EngineTest, ConfigurationSpaceSaysHowLargeBlocksAre) {
  Config config = ConfigOf(*device_);
  EXPECT_EQ(config.block_size, 512u);
  EXPECT_EQ(config.discard_sector_alignment, 1u);
  Make(kDiskSize, false, "s", /*block_size=*/4096);
  config = ConfigOf(*device_);
  EXPECT_EQ(config.block_size, 4096u);
  EXPECT_EQ(config.discard_sector_alignment, 8u);
  EXPECT_EQ(config.capacity, kDiskSize / 512) << "in sectors all the same";
  // 5.2.6: the block size is a hint, sectors are what counts.
  EXPECT_EQ(Run({Header(RequestType::kIn, 3)}, {512, 1}), kOk);
  EXPECT_THAT(engine_->calls, ElementsAre("read 1536+512"));
}

TEST_F(EngineTest, ConfigurationSpaceSaysWhatARequestMayHold) {
  const Config config = ConfigOf(*device_);
  EXPECT_EQ(config.seg_max, 126u);
  EXPECT_EQ(config.num_queues, 3);
  EXPECT_EQ(config.max_discard_sectors, 1u << 21);
  EXPECT_EQ(config.max_discard_seg, 16u);
  EXPECT_EQ(config.max_write_zeroes_sectors, 1u << 21);
  EXPECT_EQ(config.max_write_zeroes_seg, 16u);
  EXPECT_EQ(config.write_zeroes_may_unmap, 1);
}

TEST_F(EngineTest, AnyPieceOfConfigurationSpaceCanBeRead) {
  const Config whole = ConfigOf(*device_);
  const auto* bytes = reinterpret_cast<const char*>(&whole);
  for (uint32_t offset = 0; offset < sizeof(Config); ++offset) {
    for (uint32_t size = 0; offset + size <= sizeof(Config); ++size) {
      std::string piece(size, '?');
      device_->ReadConfig(
          offset, {reinterpret_cast<uint8_t*>(piece.data()), piece.size()});
      ASSERT_EQ(piece, std::string(bytes + offset, size));
    }
  }
  EXPECT_FALSE(device_->WriteConfig(0, {}).ok());
}

TEST_F(EngineTest, TheSizeIsWhatTheEngineLastSaid) {
  engine_->size = kDiskSize + 511;  // Not another sector.
  device_->OnResourceChanged();
  EXPECT_EQ(context_.config_changes(), 0);
  engine_->size = absl::UnknownError("gone");
  device_->OnResourceChanged();
  EXPECT_EQ(context_.config_changes(), 0);
  EXPECT_EQ(ConfigOf(*device_).capacity, kDiskSize / 512);
  engine_->size = 512;
  device_->OnResourceChanged();
  EXPECT_EQ(context_.config_changes(), 1);
  EXPECT_EQ(Run({Header(RequestType::kIn, 1)}, {512, 1}), kIoError);
  EXPECT_EQ(Run({Header(RequestType::kIn, 0)}, {512, 1}), kOk);
}

// ---- The spec ----

TEST(VirtioBlkSpec, OffersWhatItServes) {
  constexpr uint64_t kOffered = kFeatureSegMax | kFeatureBlockSize |
                                kFeatureFlush | kFeatureMultiQueue |
                                kFeatureDiscard | kFeatureWriteZeroes;
  EXPECT_EQ(VirtioBlk::Spec(DeviceOptions())->features(1), kOffered);
  EXPECT_EQ(VirtioBlk::Spec(DeviceOptions())->features(),
            kOffered | kFeatureTopology);
  const auto spec = VirtioBlk::Spec(DeviceOptions({{"read-only", "on"},
                                                   {"num-queues", "4"},
                                                   {"queue-size", "64"},
                                                   {"workers", "2"}}));
  ASSERT_OK(spec);
  EXPECT_EQ(spec->features(1), kOffered | kFeatureReadOnly);
  ASSERT_EQ(spec->queues().size(), 4u);
  EXPECT_EQ(spec->queues()[3].max_size, 64);
  EXPECT_EQ(spec->queues()[3].workers, 2);
  EXPECT_EQ(spec->config_size(), sizeof(Config));
}

TEST(VirtioBlkSpec, WithoutAnImageThereIsNoDevice) {
  FakeContext context(*VirtioBlk::Spec(DeviceOptions()));
  EXPECT_THAT(VirtioBlk::Make(context).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("give --image=PATH")));
}

TEST(VirtioBlkSpec, OptionsSayWhatIsWrong) {
  const auto spec = [](const char* name, const char* value) {
    return VirtioBlk::Spec(
               DeviceOptions(std::map<std::string, std::string>{{name, value}}))
        .status();
  };
  EXPECT_THAT(spec("num-queues", "99"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--num-queues=99: give a number from 1")));
  EXPECT_THAT(
      spec("queue-size", "100"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("power of 2")));
  EXPECT_THAT(
      spec("serial", "123456789012345678901"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("20 bytes")));
  EXPECT_OK(spec("num-queues", "4"));
}

}  // namespace
}  // namespace holdfast::virtio_blk

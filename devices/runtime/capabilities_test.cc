#include "devices/runtime/capabilities.h"

#include "devices/bus/virtio_ids.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// As virtio-blk describes itself.
VirtioSpec Disk() {
  VirtioSpec spec(virtio::kDeviceIdBlock);
  spec.Resource("image", "raw image").CompatVersion(3);
  spec.Queue("requestq", 256).Queue("requestq", 128);
  return spec;
}
const std::vector<OptionSpec> kDiskOptions = {{"read-only", "", "no writes"},
                                              {"serial", "TEXT", "name"}};

TEST(Capabilities, AreOneLineAfterQemusSchema) {
  EXPECT_EQ(CapabilitiesJson(Disk(), kDiskOptions),
            "{\"type\":\"block\",\"features\":[\"read-only\",\"blk-file\"],"
            "\"holdfast\":{\"device-id\":2,\"compat-version\":3,\"queues\":["
            "{\"name\":\"requestq\",\"max-size\":256},"
            "{\"name\":\"requestq\",\"max-size\":128}]}}\n");
}

TEST(Capabilities, NameOnlyFeaturesThatTheDeviceHas) {
  EXPECT_THAT(CapabilitiesJson(Disk(), {}),
              HasSubstr("\"features\":[\"blk-file\"]"));
  const VirtioSpec rng = VirtioSpec(virtio::kDeviceIdRng).Queue("requestq", 8);
  EXPECT_THAT(CapabilitiesJson(rng, {}),
              StartsWith("{\"type\":\"rng\",\"features\":[],"));
}

TEST(Capabilities, KnowTheTypesOfTheSchema) {
  const auto type = [](uint32_t id) {
    return CapabilitiesJson(VirtioSpec(id), {});
  };
  EXPECT_THAT(type(virtio::kDeviceIdNet), HasSubstr("\"type\":\"net\""));
  EXPECT_THAT(type(virtio::kDeviceIdConsole),
              HasSubstr("\"type\":\"console\""));
  EXPECT_THAT(type(9999), HasSubstr("\"device-id\":9999"));
}

TEST(Capabilities, SayWhatAPciFunctionIs) {
  PciId id;
  id.vendor = 0x1234;
  id.device = 0x11e8;
  id.class_code = 0x010802;
  EXPECT_EQ(CapabilitiesJson(PciSpec(id).Msix(4).CompatVersion(2)),
            "{\"type\":\"pci\",\"features\":[],\"holdfast\":{\"vendor-id\":"
            "4660,\"device-id\":4584,\"class-code\":67586,\"compat-version\":"
            "2,\"msi-vectors\":0,\"msix-vectors\":4}}\n");
}

}  // namespace
}  // namespace holdfast

#include "devices/virtio_pci/virtio_function.h"

#include <string>

#include "base/testing/matchers.h"
#include "devices/virtio_pci/testing/function_guest.h"
#include "devices/virtio_pci/testing/virtio_pci_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_pci {
namespace {

using ::holdfast::testing::FunctionGuest;
using ::holdfast::testing::SampleDevice;
using ::holdfast::testing::VirtioPciDriver;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kWanted = virtio::kFeatureVersion1 |
                             virtio::kFeatureRingReset | SampleDevice::kFeature;

class VirtioFunctionTest : public ::testing::Test {
 protected:
  VirtioFunctionTest() : driver_(guest_) {
    EXPECT_OK(guest_.function().Resume());
    guest_.TakeSaid();
    driver_.Probe();
  }

  void Run() {
    driver_.Enable(/*msix=*/true);
    ASSERT_TRUE(driver_.Negotiate(kWanted));
    driver_.Set(kConfigVector, 0);
    driver_.SetUpQueue(0, {8, 0x1000, 0x2000, 0x3000, 1});
    driver_.SetUpQueue(1, {16, 0x4000, 0x5000, 0x6000, 2});
    driver_.Go();
  }

  FunctionGuest guest_;
  VirtioPciDriver<FunctionGuest> driver_;
};

TEST(VirtioFunction, EndsWhatItDoesNotKnow) {
  FunctionGuest guest;
  EXPECT_EQ(guest.TakeSaid(), "") << "not before Resume";
  EXPECT_OK(guest.function().Resume());
  EXPECT_EQ(guest.TakeSaid(), "end0 end1 route0:register0 route1:register0 ");
}

TEST_F(VirtioFunctionTest, RunsQueuesBeforeTheAccessIsAnswered) {
  driver_.Enable(/*msix=*/true);
  EXPECT_EQ(guest_.TakeSaid(), "route0:none0 route1:none0 ");
  ASSERT_TRUE(driver_.Negotiate(kWanted));
  EXPECT_EQ(guest_.TakeSaid(), "reset features:10100000008 ")
      << "the driver resets first";
  driver_.SetUpQueue(1, {16, 0x4000, 0x5000, 0x6000, 2});
  EXPECT_EQ(guest_.TakeSaid(), "route1:message2 ");
  driver_.Go();
  EXPECT_EQ(guest_.TakeSaid(), "start1:16@0x4000 ");
  driver_.SetUpQueue(0, {8, 0x1000, 0x2000, 0x3000, 1});
  EXPECT_EQ(guest_.TakeSaid(), "route0:message1 start0:8@0x1000 ")
      << "a queue may be enabled late";
}

TEST_F(VirtioFunctionTest, OtherAccessesChangeNothing) {
  Run();
  guest_.TakeSaid();
  driver_.Kick(1);
  driver_.TakeIsr();
  driver_.ReadConfig(0, 8);
  guest_.Write(kPciConfigRegion, pci::kCacheLine.offset(), 16, 1);
  EXPECT_EQ(guest_.TakeSaid(), "kick1 ");
}

TEST_F(VirtioFunctionTest, ResetEndsQueuesThenTheDevice) {
  Run();
  guest_.TakeSaid();
  driver_.Reset();
  EXPECT_EQ(guest_.TakeSaid(), "end0 end1 route0:none0 route1:none0 reset ");
  Run();
  EXPECT_THAT(guest_.TakeSaid(), HasSubstr("start1:16@0x4000 "));
  EXPECT_OK(guest_.function().Reset());
  EXPECT_EQ(guest_.TakeSaid(),
            "end0 end1 route0:register0 route1:register0 reset ");
  EXPECT_OK(guest_.function().Reset());
  EXPECT_EQ(guest_.TakeSaid(), "reset ");
}

// What the VMM was asked to write may be written after the reset, as long as
// it has not answered: a driver that reads 0 gives its memory to others.
TEST_F(VirtioFunctionTest, AResetIsNotOverWhileAnswersAreOwed) {
  Run();
  guest_.executor().owed = true;
  EXPECT_EQ(driver_.status(), 0x0f) << "a device that runs is not concerned";
  driver_.Reset();
  EXPECT_EQ(driver_.status(), kNeedsReset);
  EXPECT_EQ(guest_.Read(kBar, kDeviceStatus.offset() - 4u, 8) >> 32 & 0xff,
            kNeedsReset)
      << "by any access";
  guest_.Restart();
  EXPECT_OK(guest_.function().Resume());
  EXPECT_EQ(driver_.status(), 0) << "it was not kept";
  guest_.executor().owed = true;
  EXPECT_EQ(driver_.status(), kNeedsReset);
  guest_.executor().owed = false;
  EXPECT_EQ(driver_.status(), 0);
}

TEST_F(VirtioFunctionTest, AResetQueueEndsAlone) {
  Run();
  guest_.TakeSaid();
  driver_.Set(kQueueReset, 1);
  EXPECT_EQ(guest_.TakeSaid(), "end1 route1:none0 ");
  driver_.SetUpQueue(1, {32, 0x7000, 0x8000, 0x9000, 2});
  EXPECT_EQ(guest_.TakeSaid(), "route1:message2 start1:32@0x7000 ");
}

TEST_F(VirtioFunctionTest, RoutesFollowTheVectorTable) {
  guest_.set_has_vector_table(false);
  Run();
  guest_.TakeSaid();
  guest_.Write(1, 16 * 2 + 12, 0, 4);
  EXPECT_EQ(guest_.TakeSaid(), "route1:message2 ");
  guest_.Write(1, 16 * 2 + 12, 1, 4);
  EXPECT_EQ(guest_.TakeSaid(), "route1:register2 ");
  EXPECT_OK(guest_.function().InterruptQueue(1));
  EXPECT_THAT(guest_.signals(), IsEmpty());
  guest_.Write(1, 16 * 2 + 12, 0, 4);
  EXPECT_THAT(guest_.signals(), SizeIs(1)) << "it was pending";
}

TEST_F(VirtioFunctionTest, AQueueThatCannotRunNeedsAReset) {
  guest_.executor().refuses = true;
  Run();
  EXPECT_EQ(driver_.status() & kNeedsReset, kNeedsReset);
  EXPECT_THAT(guest_.signals(), SizeIs(1)) << "configuration's vector";
  guest_.TakeSaid();
  driver_.AddStatus(kAcknowledge);
  EXPECT_EQ(guest_.TakeSaid(), "") << "not tried again";
  guest_.executor().refuses = false;
  Run();
  EXPECT_THAT(guest_.TakeSaid(), HasSubstr("start0:8@0x1000 "));
  EXPECT_EQ(driver_.status() & kNeedsReset, 0);
}

TEST_F(VirtioFunctionTest, TheDeviceSeesConfigurationWritesWhole) {
  driver_.WriteConfig(10, 0x2211, 2);
  EXPECT_OK(guest_.status());
  EXPECT_EQ(guest_.device().config[11], 0x22);
  EXPECT_EQ(driver_.ReadConfig(8, 4), 0x22110a09u);
  driver_.WriteConfig(0, 0xff, 1);
  EXPECT_FALSE(guest_.status().ok()) << "the device refuses it";
  EXPECT_EQ(driver_.ReadConfig(0, 1), 1u);
  driver_.Reset();
  EXPECT_EQ(driver_.ReadConfig(8, 4), 0x0a09u) << "the device's own reset";
}

TEST_F(VirtioFunctionTest, TellsOfConfigurationThatChanged) {
  Run();
  EXPECT_OK(guest_.function().ConfigChanged(/*asked=*/false));
  EXPECT_THAT(guest_.signals(), IsEmpty());
  guest_.device().config[3] = 77;
  EXPECT_OK(guest_.function().ConfigChanged(/*asked=*/false));
  EXPECT_THAT(guest_.signals(), SizeIs(1));
  EXPECT_EQ(driver_.ReadConfig(3, 1), 77u);
}

TEST_F(VirtioFunctionTest, ASuccessorBringsItsQueuesInLine) {
  Run();
  driver_.Set(kQueueReset, 1);
  guest_.Restart();
  EXPECT_OK(guest_.function().Resume());
  EXPECT_EQ(guest_.TakeSaid(),
            "end1 route0:message1 start0:8@0x1000 features:10100000008 ");
  driver_.Reset();
  EXPECT_EQ(guest_.TakeSaid(), "end0 route0:none0 reset ");
}

// The state of the device begins the segment's, so that a device knows its own.
TEST(VirtioFunction, KeepsTheDevicesState) {
  const Schema schema = *VirtioFunction::StateSchema(SampleDevice::Spec());
  EXPECT_EQ(schema.name, "sample");
  EXPECT_EQ(schema.fields.front().name, "served");
  EXPECT_OK(BindState<SampleDevice::State>(schema));
  EXPECT_NE(schema.Find("bar0.device_status"), nullptr);
}

}  // namespace
}  // namespace holdfast::virtio_pci

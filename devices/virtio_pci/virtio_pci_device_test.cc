#include "devices/virtio_pci/virtio_pci_device.h"

#include <memory>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/virtio_pci/testing/sample_device.h"
#include "devices/virtio_pci/testing/virtio_pci_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::virtio_pci {
namespace {

using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::SampleDevice;
using ::holdfast::testing::StatusIs;
using ::holdfast::testing::VirtioPciDriver;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kWanted = virtio::kFeatureVersion1 | SampleDevice::kFeature;
constexpr uint64_t kReset = virtio::kFeatureRingReset;

class Kicks final : public QueueKicker {
 public:
  void Kick(uint16_t queue) override { queues.push_back(queue); }
  std::vector<uint16_t> queues;
};

class VirtioPciDeviceTest : public ::testing::Test {
 protected:
  VirtioPciDeviceTest() : guest_(Class()), driver_(guest_) { driver_.Probe(); }

  PciClass Class() {
    return {*VirtioPciDevice::Spec(spec_), [this](PciContext& context) {
              auto made = std::make_unique<VirtioPciDevice>(spec_, device_,
                                                            kicks_, context);
              registers_ = made.get();
              return std::unique_ptr<PciDevice>(std::move(made));
            }};
  }

  DeviceView View(bool vmm_has_table = false) {
    DeviceView view;
    EXPECT_OK(registers_->context().Update([&](PciTxn& txn) {
      view = registers_->View(txn, vmm_has_table);
      return absl::OkStatus();
    }));
    return view;
  }
  void InterruptQueue(uint16_t queue) {
    EXPECT_OK(registers_->context().Update([&](PciTxn& txn) {
      registers_->InterruptQueue(txn, queue);
      return absl::OkStatus();
    }));
  }
  void ShowConfig(bool asked) {
    EXPECT_OK(registers_->context().Update([&](PciTxn& txn) {
      registers_->ShowConfig(txn, asked);
      return absl::OkStatus();
    }));
  }
  // A driver that uses queue 1 with vector 2.
  void Run(bool msix) {
    driver_.Enable(msix);
    ASSERT_TRUE(driver_.Negotiate(kWanted));
    driver_.Set(kConfigVector, msix ? 0 : kNoVector);
    driver_.SetUpQueue(
        1, {64, 0x1000, 0x2000, 0x3000, msix ? uint16_t{2} : kNoVector});
    driver_.Go();
  }

  const VirtioSpec spec_ = SampleDevice::Spec();
  SampleDevice device_;
  Kicks kicks_;
  VirtioPciDevice* registers_ = nullptr;
  PciGuest guest_;
  VirtioPciDriver<PciGuest> driver_;
};

TEST_F(VirtioPciDeviceTest, IsAVirtioDeviceToADriver) {
  EXPECT_EQ(guest_.ReadConfig(0, 4), 0x10421af4u);
  EXPECT_EQ(guest_.ReadConfig(8, 1), 1u) << "not a transitional one";
  EXPECT_NE(driver_.common().at, 0);
  EXPECT_GE(driver_.common().size, 56u);
  EXPECT_NE(driver_.notify().at, 0);
  EXPECT_NE(driver_.isr().at, 0);
  EXPECT_EQ(driver_.config().size, SampleDevice::kConfigSize);
  EXPECT_NE(driver_.access().at, 0);
  EXPECT_EQ(driver_.Get(kQueueCount), 2u);
  EXPECT_EQ(guest_.ReadConfig(pci::kMsixControl.offset(), 2) & 0x7ff, 2u)
      << "a vector for each queue and one for configuration";
}

TEST(VirtioPciSpec, LeavesOutConfigurationThatIsNotThere) {
  const VirtioSpec spec = VirtioSpec(virtio::kDeviceIdRng).Queue("requestq", 8);
  const PciSpec pci_spec = *VirtioPciDevice::Spec(spec)->Resolve();
  EXPECT_EQ(pci_spec.id().device, 0x1044);
  EXPECT_EQ(pci_spec.id().class_code, 0x00ff00u);
  EXPECT_EQ(pci_spec.ConfigFile().background()[kConfigCapability], 0);
  EXPECT_EQ(pci_spec.ConfigFile().background()[kAccessCapability], 9);
}

TEST(VirtioPciSpec, RefusesWhatCannotBeServed) {
  const auto spec = [] { return VirtioSpec(virtio::kDeviceIdRng); };
  VirtioSpec many = spec();
  for (int i = 0; i < 17; ++i) many.Queue("q", 8);
  for (const VirtioSpec& wrong :
       {spec(), many, spec().Queue("q", 0), spec().Queue("q", 12),
        spec().Queue("q", 8).ConfigSize(257)}) {
    EXPECT_THAT(VirtioPciDevice::Spec(wrong),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("VIRTIO on PCI")));
  }
}

TEST_F(VirtioPciDeviceTest, OffersFeaturesThroughAWindow) {
  const uint64_t offered = driver_.OfferedFeatures();
  EXPECT_EQ(offered, kWanted | kReset | virtio::kFeatureRingIndirectDesc |
                         virtio::kFeatureRingEventIdx |
                         virtio::kFeatureAccessPlatform);
  driver_.Set(kDeviceFeatureSelect, 2);
  EXPECT_EQ(driver_.Get(kDeviceFeature), 0u);
  driver_.Set(kDeviceFeature, 0xffffffff);
  EXPECT_EQ(driver_.Get(kDeviceFeature), 0u) << "read-only";
}

TEST_F(VirtioPciDeviceTest, AgreesToFeaturesThatItOffers) {
  EXPECT_FALSE(View().features_known);
  EXPECT_TRUE(driver_.Negotiate(kWanted));
  EXPECT_TRUE(View().features_known);
  EXPECT_EQ(View().features, kWanted);
  driver_.Set(kDriverFeatureSelect, 0);
  EXPECT_EQ(driver_.Get(kDriverFeature), SampleDevice::kFeature);
  driver_.Set(kDriverFeature, 0);
  EXPECT_EQ(View().features, kWanted) << "agreed is agreed";
}

TEST_F(VirtioPciDeviceTest, DoesNotAgreeToOthers) {
  EXPECT_FALSE(driver_.Negotiate(kWanted | 1));
  EXPECT_FALSE(driver_.Negotiate(SampleDevice::kFeature)) << "a legacy driver";
  driver_.Go();
  EXPECT_EQ(driver_.status(), kAcknowledge | kDriver)
      << "DRIVER_OK needs FEATURES_OK";
}

TEST_F(VirtioPciDeviceTest, IgnoresFeaturesBeyondSixtyFour) {
  driver_.Set(kDriverFeatureSelect, 2);
  driver_.Set(kDriverFeature, 0xffffffff);
  EXPECT_EQ(driver_.Get(kDriverFeature), 0u);
  EXPECT_EQ(View().features, 0u);
}

TEST_F(VirtioPciDeviceTest, KeepsStatusBitsThatADriverWouldTakeBack) {
  ASSERT_TRUE(driver_.Negotiate(kWanted));
  driver_.Set(kDeviceStatus, kDriver);
  EXPECT_EQ(driver_.status(), kAcknowledge | kDriver | kFeaturesOk);
  driver_.Set(kDeviceStatus, kNeedsReset);
  EXPECT_EQ(driver_.status(), kAcknowledge | kDriver | kFeaturesOk)
      << "for the device to set";
}

TEST_F(VirtioPciDeviceTest, ShowsEachQueueThroughTheWindow) {
  driver_.Set(kQueueSelect, 1);
  EXPECT_EQ(driver_.Get(kQueueSize), 64u);
  EXPECT_EQ(driver_.Get(kQueueNotifyOffset), 1u);
  EXPECT_EQ(driver_.Get(kQueueVector), kNoVector);
  driver_.Set(kQueueSize, 16);
  driver_.SetAddress(kQueueDescriptors, 0x123456789abc);
  driver_.Set(kQueueSelect, 0);
  EXPECT_EQ(driver_.Get(kQueueSize), 256u);
  EXPECT_EQ(driver_.Get(kQueueDescriptors), 0u);
  driver_.Set(kQueueSelect, 1);
  EXPECT_EQ(driver_.Get(kQueueSize), 16u);
  EXPECT_EQ(driver_.Get(kQueueDescriptors), 0x123456789abcu);
}

TEST_F(VirtioPciDeviceTest, AQueueThatIsNotThereCannotBeSet) {
  for (uint16_t queue : {2, 15, 16, 0xffff}) {
    driver_.SetUpQueue(queue, {8, 0x1000, 0x2000, 0x3000, 0});
    EXPECT_EQ(driver_.Get(kQueueSize), 0u);
    EXPECT_EQ(driver_.Get(kQueueDescriptors), 0u);
    EXPECT_EQ(driver_.Get(kQueueVector), kNoVector);
    EXPECT_EQ(driver_.Get(kQueueEnable), 0u);
  }
}

TEST_F(VirtioPciDeviceTest, SizesArePowersOfTwoUpToTheMaximum) {
  driver_.Set(kQueueSelect, 1);
  for (uint64_t size : {0, 3, 63, 128, 0x8000, 0xffff}) {
    driver_.Set(kQueueSize, size);
    EXPECT_EQ(driver_.Get(kQueueSize), 64u) << size;
  }
}

TEST_F(VirtioPciDeviceTest, QueuesRunWhenTheDriverIsReady) {
  ASSERT_TRUE(driver_.Negotiate(kWanted));
  driver_.SetUpQueue(1, {32, 0x1000, 0x2000, 0x3000, 1});
  EXPECT_FALSE(View().queues[1].runs);
  driver_.Go();
  const DeviceView view = View();
  EXPECT_FALSE(view.queues[0].runs);
  EXPECT_TRUE(view.queues[1].runs);
  EXPECT_EQ(view.queues[1].ring,
            (RingLayout{32, GuestAddress{0x1000}, GuestAddress{0x2000},
                        GuestAddress{0x3000}, kWanted}));
}

TEST_F(VirtioPciDeviceTest, NoQueueIsEnabledBeforeFeaturesAre) {
  driver_.SetUpQueue(0, {});
  EXPECT_EQ(driver_.Get(kQueueEnable), 0u);
}

TEST_F(VirtioPciDeviceTest, AnEnabledQueueStaysAsItIs) {
  Run(/*msix=*/false);
  driver_.SetUpQueue(1, {8, 0x9000, 0xa000, 0xb000, 1});
  EXPECT_EQ(View().queues[1].ring.size, 64);
  EXPECT_EQ(View().queues[1].ring.used, GuestAddress{0x3000});
  EXPECT_EQ(driver_.Get(kQueueVector), 1u) << "but for its vector";
  driver_.Set(kQueueEnable, 0);
  EXPECT_EQ(driver_.Get(kQueueEnable), 1u);
}

TEST_F(VirtioPciDeviceTest, ResetMakesEverythingNew) {
  Run(/*msix=*/false);
  InterruptQueue(1);
  const uint64_t resets = View().resets;
  driver_.Reset();
  EXPECT_EQ(driver_.status(), 0);
  EXPECT_EQ(driver_.Get(kConfigVector), kNoVector);
  EXPECT_EQ(driver_.TakeIsr(), 0);
  const DeviceView view = View();
  EXPECT_GT(view.resets, resets);
  EXPECT_EQ(view.features, 0u);
  EXPECT_FALSE(view.queues[1].runs);
  EXPECT_EQ(view.queues[1].ring, (RingLayout{64}));
}

TEST_F(VirtioPciDeviceTest, AFunctionResetIsAResetToo) {
  Run(/*msix=*/false);
  const uint64_t resets = View().resets;
  EXPECT_OK(guest_.function().Reset());
  EXPECT_NE(View().resets, resets);
  EXPECT_FALSE(View().queues[1].runs);
  EXPECT_EQ(driver_.Get(kQueueSize), 256u) << "the window shows queue 0";
  EXPECT_EQ(guest_.Read(kBar, kConfigOffset, 4), 0x04030201u);
}

TEST_F(VirtioPciDeviceTest, AQueueIsResetAlone) {
  driver_.Enable(false);
  ASSERT_TRUE(driver_.Negotiate(kWanted | kReset));
  driver_.SetUpQueue(0, {8, 0x1000, 0x2000, 0x3000, 0});
  driver_.SetUpQueue(1, {16, 0x4000, 0x5000, 0x6000, 1});
  driver_.Go();
  driver_.Set(kQueueReset, 1);
  EXPECT_EQ(driver_.Get(kQueueReset), 0u);
  EXPECT_EQ(driver_.Get(kQueueEnable), 0u);
  EXPECT_EQ(driver_.Get(kQueueSize), 64u);
  EXPECT_EQ(driver_.Get(kQueueVector), kNoVector);
  EXPECT_TRUE(View().queues[0].runs);
  EXPECT_FALSE(View().queues[1].runs);
  driver_.SetUpQueue(1, {32, 0x4000, 0x5000, 0x6000, 1});
  EXPECT_TRUE(View().queues[1].runs);
}

TEST_F(VirtioPciDeviceTest, OnlyIfThatWasAgreed) {
  Run(/*msix=*/false);
  driver_.Set(kQueueReset, 1);
  EXPECT_TRUE(View().queues[1].runs);
  EXPECT_EQ(driver_.Get(kQueueReset), 0u);
}

TEST_F(VirtioPciDeviceTest, KicksTheQueueWhoseAddressIsWritten) {
  driver_.Kick(1);
  driver_.Kick(0);
  driver_.Kick(1);
  guest_.Write(kBar, kNotifyOffset + 8, 0, 2);  // There is no third.
  EXPECT_THAT(kicks_.queues, ElementsAre(1, 0, 1));
  EXPECT_EQ(guest_.Read(kBar, kNotifyOffset, 4), 0u);
}

TEST_F(VirtioPciDeviceTest, InterruptsThroughRegistersWithoutMessages) {
  Run(/*msix=*/false);
  EXPECT_EQ(View().queues[1].route,
            (InterruptRoute{InterruptRoute::Kind::kRegister, 0}));
  InterruptQueue(1);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 1u);
  EXPECT_EQ(guest_.ReadConfig(6, 2) & 8, 8u);
  EXPECT_EQ(driver_.TakeIsr(), kIsrQueue);
  EXPECT_EQ(driver_.TakeIsr(), 0);
  EXPECT_EQ(guest_.ReadConfig(6, 2) & 8, 0u) << "reading lets the level go";
  InterruptQueue(1);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 2u);
}

TEST_F(VirtioPciDeviceTest, InterruptsNobodyBeforeTheDriverIsReady) {
  driver_.Enable(false);
  InterruptQueue(0);
  ShowConfig(/*asked=*/true);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 0u);
  EXPECT_EQ(driver_.TakeIsr(), 0);
}

TEST_F(VirtioPciDeviceTest, RoutesMessagesByMaskAndMaster) {
  using Kind = InterruptRoute::Kind;
  Run(/*msix=*/true);
  EXPECT_EQ(View().queues[0].route, (InterruptRoute{Kind::kNone, 0}));
  EXPECT_EQ(View().queues[1].route, (InterruptRoute{Kind::kRegister, 2}))
      << "masked in the table";
  EXPECT_EQ(View(/*vmm_has_table=*/true).queues[1].route,
            (InterruptRoute{Kind::kMessage, 2}));
  guest_.UnmaskMsix(2);
  EXPECT_EQ(View().queues[1].route, (InterruptRoute{Kind::kMessage, 2}));
  guest_.WriteConfig(pci::kMsixControl.offset(),
                     pci::kMsixEnable | pci::kMsixMaskAll, 2);
  EXPECT_EQ(View().queues[1].route, (InterruptRoute{Kind::kRegister, 2}));
  guest_.WriteConfig(pci::kMsixControl.offset(), pci::kMsixEnable, 2);
  guest_.WriteConfig(pci::kCommand.offset(), pci::kCommandMemory, 2);
  EXPECT_EQ(View(true).queues[1].route, (InterruptRoute{Kind::kRegister, 2}));
}

TEST_F(VirtioPciDeviceTest, AMaskedMessageWaits) {
  Run(/*msix=*/true);
  InterruptQueue(1);
  InterruptQueue(0);  // Without a vector.
  EXPECT_EQ(guest_.msix_count(2), 0u);
  guest_.UnmaskMsix(2);
  EXPECT_EQ(guest_.msix_count(2), 1u);
  EXPECT_EQ(guest_.msix_count(0), 0u);
  EXPECT_EQ(driver_.TakeIsr(), 0);
}

TEST_F(VirtioPciDeviceTest, VectorsThatAreNotThereAreRefused) {
  driver_.Set(kConfigVector, 2);
  EXPECT_EQ(driver_.Get(kConfigVector), 2u);
  driver_.Set(kConfigVector, 3);
  EXPECT_EQ(driver_.Get(kConfigVector), kNoVector);
  driver_.Set(kQueueVector, 0xfffe);
  EXPECT_EQ(driver_.Get(kQueueVector), kNoVector);
}

TEST_F(VirtioPciDeviceTest, ShowsConfigurationAsItWasWhenTheDriverWasTold) {
  Run(/*msix=*/true);
  guest_.UnmaskMsix(0);
  const uint64_t generation = driver_.Get(kConfigGeneration);
  EXPECT_EQ(driver_.ReadConfig(0, 8), 0x0807060504030201u);
  device_.config[0] = 99;
  EXPECT_EQ(driver_.ReadConfig(0, 1), 1u) << "never half a change";
  ShowConfig(/*asked=*/false);
  EXPECT_EQ(driver_.ReadConfig(0, 1), 99u);
  EXPECT_NE(driver_.Get(kConfigGeneration), generation);
  EXPECT_EQ(guest_.msix_count(0), 1u);
  ShowConfig(/*asked=*/false);
  EXPECT_EQ(guest_.msix_count(0), 1u) << "nothing has changed";
  ShowConfig(/*asked=*/true);
  EXPECT_EQ(guest_.msix_count(0), 2u);
}

TEST_F(VirtioPciDeviceTest, SaysOnceThatItNeedsAReset) {
  Run(/*msix=*/false);
  for (int i = 0; i < 2; ++i) {
    EXPECT_OK(registers_->context().Update([&](PciTxn& txn) {
      registers_->SetNeedsReset(txn);
      return absl::OkStatus();
    }));
  }
  EXPECT_EQ(driver_.status() & kNeedsReset, kNeedsReset);
  EXPECT_EQ(guest_.signals(kPciIntxIrq), 1u);
  EXPECT_EQ(driver_.TakeIsr(), kIsrConfig);
  driver_.Reset();
  EXPECT_EQ(driver_.status(), 0);
}

TEST_F(VirtioPciDeviceTest, IsReachedThroughConfigurationSpace) {
  const uint32_t status = kDeviceStatus.offset();
  driver_.WriteThrough(kBar, status, kAcknowledge | kDriver, 1);
  EXPECT_EQ(driver_.status(), kAcknowledge | kDriver);
  EXPECT_EQ(driver_.ReadThrough(kBar, status, 1), kAcknowledge | kDriver);
  EXPECT_EQ(driver_.ReadThrough(kBar, kQueueCount.offset(), 2), 2u);
  EXPECT_EQ(driver_.ReadThrough(kBar, kConfigOffset + 4, 4), 0x08070605u);
  driver_.WriteThrough(kBar, kNotifyOffset + 4, 1, 2);
  EXPECT_THAT(kicks_.queues, ElementsAre(1));
  driver_.WriteThrough(kBar, kConfigOffset + 10, 0x2211, 2);
  EXPECT_EQ(driver_.ReadConfig(10, 2), 0x2211u);
  EXPECT_EQ(device_.config[10], 0x11);
}

TEST_F(VirtioPciDeviceTest, AndNothingElseIs) {
  for (uint32_t size : {0u, 3u, 8u, 0xffffffffu}) {
    driver_.WriteThrough(kBar, kNotifyOffset, 0, size > 4 ? 4 : size);
    guest_.WriteConfig(driver_.access().at + 12u, size, 4);
    guest_.WriteConfig(driver_.access().at + 16u, 0, 4);
    (void)guest_.ReadConfig(driver_.access().at + 16u, 4);
  }
  kicks_.queues.clear();
  driver_.WriteThrough(1, 0, 0, 4);
  driver_.WriteThrough(kBar, kNotifyOffset + 2, 0, 4);  // Not aligned.
  driver_.WriteThrough(kBar, 0xfffffffc, 0, 4);
  EXPECT_THAT(kicks_.queues, IsEmpty());
  EXPECT_EQ(driver_.ReadThrough(kBar, 0xfffffffc, 4), 0xffffffffu);
  EXPECT_EQ(guest_.status(), absl::OkStatus());
}

TEST_F(VirtioPciDeviceTest, ASuccessorGoesOn) {
  Run(/*msix=*/true);
  device_.config[1] = 50;
  guest_.Restart();
  EXPECT_TRUE(View().queues[1].runs);
  EXPECT_EQ(View().queues[1].ring.size, 64);
  EXPECT_EQ(driver_.Get(kQueueVector), 2u);
  EXPECT_EQ(driver_.ReadConfig(1, 1), 2u);
}

}  // namespace
}  // namespace holdfast::virtio_pci

#include "devices/pci_nvme/pci_nvme.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "devices/bus/pci_registers.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::testing::PciGuest;

class PciNvmeTest : public ::testing::Test {
 protected:
  PciNvmeTest() : guest_(NvmeClass(), NvmeGuest()), driver_(guest_) {}

  void SetUp() override {
    driver_.Enable();
    ASSERT_EQ(driver_.status(), kReady);
    driver_.CreateQueue(1);
  }
  void Fill(uint64_t address, size_t size, uint8_t first) {
    for (size_t i = 0; i < size; ++i) {
      guest_.ram()[address + i] = static_cast<uint8_t>(first + i % 251);
    }
  }

  // Another driver, with memory that nobody has used.
  NvmeDriver Anew() {
    std::fill_n(guest_.ram().begin(), NvmeDriver::kData, 0);
    return NvmeDriver(guest_);
  }

  PciGuest guest_;
  NvmeDriver driver_;
};

TEST_F(PciNvmeTest, SaysWhatItIs) {
  EXPECT_EQ(guest_.ReadConfig(0x08, 4), 0x01080201u);
  EXPECT_EQ(guest_.Read(0, kCapabilities.offset(), 8), 0x000000203c0103ffull);
  EXPECT_EQ(guest_.Read32(0, kVersion.offset()), 0x00010400u);
}

TEST_F(PciNvmeTest, WritesAndReads) {
  Fill(NvmeDriver::kData, 1024, 3);
  EXPECT_EQ(driver_.Try(1, NvmeDriver::Io(IoOpcode::kWrite, 4, 2)),
            Status::kSuccess);
  EXPECT_EQ(std::memcmp(driver_.Disk().data() + 2048,
                        driver_.Data(NvmeDriver::kData, 1024).data(), 1024),
            0);
  EXPECT_EQ(driver_.Try(1, NvmeDriver::Io(IoOpcode::kRead, 5, 1,
                                          NvmeDriver::kData + 2 * kPageSize)),
            Status::kSuccess);
  EXPECT_EQ(
      std::memcmp(driver_.Disk().data() + 2560,
                  driver_.Data(NvmeDriver::kData + 2 * kPageSize, 512).data(),
                  512),
      0);
  EXPECT_EQ(driver_.Try(1, NvmeDriver::Io(IoOpcode::kFlush, 0, 1)),
            Status::kSuccess);
  EXPECT_EQ(guest_.msix_count(1), 3u);
}

TEST_F(PciNvmeTest, GoesOnAfterARestart) {
  Fill(NvmeDriver::kData, 512, 3);
  guest_.Restart();
  EXPECT_EQ(driver_.Try(1, NvmeDriver::Io(IoOpcode::kWrite, 0, 1)),
            Status::kSuccess);
  guest_.Restart();
  EXPECT_EQ(driver_.Try(1, NvmeDriver::Io(IoOpcode::kRead, 0, 1,
                                          NvmeDriver::kData + kPageSize)),
            Status::kSuccess);
  EXPECT_EQ(guest_.ram()[NvmeDriver::kData + kPageSize], 3);
  EXPECT_EQ(guest_.function().guest_errors(), 0u);
}

// ---- Registers ----

TEST_F(PciNvmeTest, ResetsWhenItIsDisabled) {
  driver_.SetConfiguration(0);
  EXPECT_EQ(driver_.status(), 0u);
  driver_.RingTail(1);
  EXPECT_EQ(guest_.function().guest_errors(), 0u) << "nobody listens";
  NvmeDriver again = Anew();
  again.Enable();
  EXPECT_EQ(again.status(), kReady);
  EXPECT_EQ(again.Try(0, NvmeDriver::Admin(AdminOpcode::kDeleteSq, 1)),
            Status::kInvalidQueueId)
      << "queues are gone";
}

TEST_F(PciNvmeTest, WhatItDoesNotSupportIsFatalUntilItIsReset) {
  driver_.SetConfiguration(0);
  driver_.SetConfiguration(0x00460011);  // Another command set.
  EXPECT_EQ(driver_.status(), kFatal);
  driver_.SetConfiguration(0);
  EXPECT_EQ(driver_.status(), 0u);
  guest_.Write32(0, kAdminQueues.offset(), 0);  // Of one entry each.
  driver_.SetConfiguration(0x00460001);
  EXPECT_EQ(driver_.status(), kFatal);
}

TEST_F(PciNvmeTest, SaysThatItHasShutDown) {
  driver_.SetConfiguration(0x00464001);
  EXPECT_EQ(driver_.status(), kReady | kShutdownComplete);
  driver_.SetConfiguration(0);
  EXPECT_EQ(driver_.status(), 0u);
}

TEST_F(PciNvmeTest, AFunctionResetEndsItAll) {
  ASSERT_TRUE(guest_.function().Reset().ok());
  EXPECT_EQ(driver_.status(), 0u);
  NvmeDriver again = Anew();
  again.Enable();
  again.CreateQueue(1);
  EXPECT_EQ(again.Try(1, NvmeDriver::Io(IoOpcode::kWrite, 0, 1)),
            Status::kSuccess);
}

TEST_F(PciNvmeTest, QueuesOutOfReachAreFatal) {
  guest_.WriteConfig(0x04, 0x0002, 2);  // No bus master.
  driver_.Submit(1, NvmeDriver::Io(IoOpcode::kFlush, 0, 1));
  driver_.RingTail(1);
  EXPECT_EQ(driver_.status(), kReady | kFatal);
}

// ---- Interrupts by a level ----

TEST(PciNvmeIntx, TheLevelIsThatOfUnseenCompletions) {
  PciGuest guest(NvmeClass(), NvmeGuest());
  NvmeDriver driver(guest);
  driver.Enable();
  guest.WriteConfig(pci::kMsixControl.offset(), 0, 2);
  const auto level = [&guest] {
    return (guest.ReadConfig(0x06, 2) & pci::kStatusIntx) != 0;
  };
  driver.Submit(0, NvmeDriver::Admin(AdminOpcode::kGetFeatures, 0x07));
  driver.RingTail(0);
  EXPECT_TRUE(level());
  guest.Write32(0, kMaskSet.offset(), 1);
  EXPECT_FALSE(level());
  EXPECT_EQ(guest.Read32(0, kMaskClear.offset()), 1u);
  guest.Write32(0, kMaskClear.offset(), 1);
  EXPECT_TRUE(level());
  EXPECT_TRUE(driver.Poll(0).has_value());
  driver.Acknowledge(0);
  EXPECT_FALSE(level());
}

// ---- Queues ----

TEST_F(PciNvmeTest, QueuesGoRoundManyTimes) {
  for (int i = 0; i < 50; ++i) {
    Fill(NvmeDriver::kData, 512, static_cast<uint8_t>(i));
    ASSERT_EQ(driver_.Try(1, NvmeDriver::Io(IoOpcode::kWrite, i % 32, 1)),
              Status::kSuccess);
    if (i % 7 == 0) guest_.Restart();
  }
  EXPECT_EQ(driver_.Disk()[17 * 512], 49);
}

TEST_F(PciNvmeTest, SaysWhichSlotsAreFree) {
  for (int i = 0; i < 5; ++i) {
    driver_.Submit(1, NvmeDriver::Io(IoOpcode::kFlush, 0, 1));
  }
  driver_.RingTail(1);
  for (uint16_t i = 1; i <= 5; ++i) {
    const auto completion = driver_.Poll(1);
    ASSERT_TRUE(completion.has_value());
    EXPECT_EQ(completion->cid, i);
    EXPECT_EQ(completion->sq_id, 1);
    EXPECT_EQ(completion->sq_head, i);
  }
  EXPECT_FALSE(driver_.Poll(1).has_value());
}

TEST_F(PciNvmeTest, AFullCompletionQueueHoldsCommandsUp) {
  // Two entries: room for one completion.
  ASSERT_TRUE(driver_.CreateQueueOfFewCompletions(2));
  for (int i = 0; i < 3; ++i) {
    driver_.Submit(2, NvmeDriver::Io(IoOpcode::kFlush, 0, 1));
  }
  driver_.RingTail(2);
  driver_.ring(2).entries = 2;
  for (uint16_t i = 1; i <= 3; ++i) {
    const auto completion = driver_.Poll(2);
    ASSERT_TRUE(completion.has_value()) << i;
    EXPECT_EQ(completion->cid, i);
    EXPECT_FALSE(driver_.Poll(2).has_value());
    if (i == 2) guest_.Restart();
    driver_.Acknowledge(2);
  }
  EXPECT_FALSE(driver_.Poll(2).has_value());
}

TEST_F(PciNvmeTest, TwoQueuesMayShareACompletionQueue) {
  ASSERT_EQ(
      driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kCreateSq, 15u << 16 | 2,
                                       1u << 16 | 1, NvmeDriver::SqBase(2))),
      Status::kSuccess);
  driver_.Submit(2, NvmeDriver::Io(IoOpcode::kFlush, 0, 1));
  driver_.RingTail(2);
  EXPECT_EQ(driver_.Poll(1)->sq_id, 2);
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kDeleteCq, 1)),
            Status::kInvalidQueueDeletion);
}

struct Refusal {
  AdminOpcode opcode;
  uint32_t cdw10;
  uint32_t cdw11;
  uint64_t prp1;
  Status status;
};

TEST_F(PciNvmeTest, RefusesQueuesThatCannotBe) {
  const std::vector<Refusal> all = {
      {AdminOpcode::kCreateCq, 0x000f0000, 1, 0x4000, Status::kInvalidQueueId},
      {AdminOpcode::kCreateCq, 0x000f0003, 1, 0x4000, Status::kInvalidQueueId},
      {AdminOpcode::kCreateCq, 0x000f0001, 1, 0x4000, Status::kInvalidQueueId},
      {AdminOpcode::kCreateCq, 0x00000002, 1, 0x4000,
       Status::kInvalidQueueSize},
      {AdminOpcode::kCreateCq, 0x04000002, 1, 0x4000,
       Status::kInvalidQueueSize},
      {AdminOpcode::kCreateCq, 0x000f0002, 1, 0x4008,
       Status::kInvalidPrpOffset},
      {AdminOpcode::kCreateCq, 0x000f0002, 0x00030003, 0x4000,
       Status::kInvalidVector},
      {AdminOpcode::kCreateCq, 0x000f0002, 2, 0x4000, Status::kInvalidField},
      {AdminOpcode::kCreateSq, 0x000f0002, 1, 0x4000, Status::kInvalidCq},
      {AdminOpcode::kCreateSq, 0x000f0002, 0x00020001, 0x4000,
       Status::kInvalidCq},
      {AdminOpcode::kCreateSq, 0x000f0002, 0xffff0001, 0x4000,
       Status::kInvalidCq},
      {AdminOpcode::kCreateSq, 0x000f0001, 0x00010001, 0x4000,
       Status::kInvalidQueueId},
      {AdminOpcode::kCreateSq, 0x000fffff, 0x00010001, 0x4000,
       Status::kInvalidQueueId},
      {AdminOpcode::kCreateSq, 0x00000002, 0x00010001, 0x4000,
       Status::kInvalidQueueSize},
      {AdminOpcode::kCreateSq, 0x000f0002, 0x00010001, 0x4004,
       Status::kInvalidPrpOffset},
      {AdminOpcode::kCreateSq, 0x000f0002, 0x00010000, 0x4000,
       Status::kInvalidField},
      {AdminOpcode::kDeleteSq, 0, 0, 0, Status::kInvalidQueueId},
      {AdminOpcode::kDeleteSq, 2, 0, 0, Status::kInvalidQueueId},
      {AdminOpcode::kDeleteSq, 0xffff, 0, 0, Status::kInvalidQueueId},
      {AdminOpcode::kDeleteCq, 0, 0, 0, Status::kInvalidQueueId},
      {AdminOpcode::kDeleteCq, 2, 0, 0, Status::kInvalidQueueId},
      {AdminOpcode::kDeleteCq, 1, 0, 0, Status::kInvalidQueueDeletion},
  };
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(all[i].opcode, all[i].cdw10,
                                               all[i].cdw11, all[i].prp1)),
              all[i].status)
        << "case " << i;
  }
}

TEST_F(PciNvmeTest, AQueueOutsideTheGuestsMemoryIsFatalWhenItIsUsed) {
  ASSERT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kCreateCq, 0x000f0002,
                                             0x00020003, 0x7fff0000)),
            Status::kSuccess);
  ASSERT_EQ(
      driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kCreateSq, 0x000f0002,
                                       0x00020001, NvmeDriver::SqBase(2))),
      Status::kSuccess);
  driver_.Submit(2, NvmeDriver::Io(IoOpcode::kFlush, 0, 1));
  driver_.RingTail(2);
  EXPECT_EQ(driver_.status(), kReady | kFatal);
}

// ---- Admin commands ----

TEST_F(PciNvmeTest, IdentifiesItself) {
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kIdentify, 1, 0,
                                             NvmeDriver::kData)),
            Status::kSuccess);
  ControllerData data;
  std::memcpy(&data, driver_.Data(NvmeDriver::kData, sizeof(data)).data(),
              sizeof(data));
  EXPECT_EQ(std::string(data.model, 13), "Holdfast NVMe");
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kIdentify, 0x77, 0,
                                             NvmeDriver::kData)),
            Status::kInvalidField);
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kIdentify, 1, 0,
                                             NvmeDriver::kRamSize)),
            Status::kDataTransferError);
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kIdentify, 1, 0, 2)),
            Status::kInvalidPrpOffset);
}

TEST_F(PciNvmeTest, KeepsFeatures) {
  const auto get = [this](uint32_t cdw10) {
    return driver_.Do(0, NvmeDriver::Admin(AdminOpcode::kGetFeatures, cdw10))
        .result;
  };
  const auto set = [this](uint32_t cdw10, uint32_t value) {
    return driver_.Try(
        0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, cdw10, value));
  };
  EXPECT_EQ(get(0x06), 1u) << "a write cache";
  EXPECT_EQ(set(0x06, 0), Status::kSuccess);
  EXPECT_EQ(set(0x01, 0x1234), Status::kSuccess);
  guest_.Restart();
  EXPECT_EQ(get(0x06), 0u);
  EXPECT_EQ(get(0x01), 0x1234u);
  EXPECT_EQ(get(0x106), 1u) << "the default";
  EXPECT_EQ(get(0x306), 4u) << "changeable";
  EXPECT_EQ(get(0x07), 0x00010001u) << "two queues";
  EXPECT_EQ(get(0x04), 343u);
  EXPECT_EQ(set(0x80000006, 1), Status::kFeatureNotSaveable);
  EXPECT_EQ(set(0x07, 0x00070007), Status::kCommandSequence) << "too late";
  EXPECT_EQ(set(0x02, 1), Status::kInvalidField) << "no such power state";
  EXPECT_EQ(set(0x7f, 1), Status::kInvalidField);
  EXPECT_EQ(set(0x09, 3), Status::kInvalidField) << "no such vector";
  EXPECT_EQ(set(0x09, 2), Status::kSuccess);
}

TEST(PciNvme, GivesAllItsQueuesToWhoeverAsks) {
  PciGuest guest(NvmeClass(), NvmeGuest());
  NvmeDriver driver(guest);
  driver.Enable();
  EXPECT_EQ(
      driver
          .Do(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x07, 0x00070007))
          .result,
      0x00010001u);
  EXPECT_EQ(driver.Try(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x07,
                                            0xffff0000)),
            Status::kInvalidField);
}

TEST_F(PciNvmeTest, RefusesAdminCommandsThatItHasNot) {
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(static_cast<AdminOpcode>(0x7f))),
            Status::kInvalidOpcode);
  Command command = NvmeDriver::Admin(AdminOpcode::kGetFeatures, 7);
  command.flags = 0x80;
  EXPECT_EQ(driver_.Try(0, command), Status::kInvalidField);
  EXPECT_EQ(
      driver_.Do(0, NvmeDriver::Admin(AdminOpcode::kAbort, 0x00010001)).result,
      1u)
      << "nothing is left to be aborted";
}

// ---- Options ----

TEST(PciNvme, RefusesOptionsThatCannotBe) {
  using Values = std::map<std::string, std::string>;
  for (const Values& values :
       {Values{{"num-queues", "0"}}, Values{{"num-queues", "32"}},
        Values{{"queue-size", "1"}}, Values{{"queue-size", "4097"}},
        Values{{"serial", "123456789012345678901"}},
        Values{{"read-only", "perhaps"}}}) {
    EXPECT_FALSE(PciNvme::Spec(DeviceOptions(values)).ok())
        << values.begin()->first;
  }
  EXPECT_TRUE(PciNvme::Spec(DeviceOptions(Values{{"num-queues", "31"}})).ok());
  EXPECT_EQ(PciNvme::Options().size(), 7u);
}

}  // namespace
}  // namespace holdfast::nvme

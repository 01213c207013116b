// Images that grow and shrink while a guest uses them: what it is told, and
// when. Kills are in pci_nvme_crash_test.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "base/testing/matchers.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/identify_data.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::nvme::testing::RamEngine;
using ::holdfast::testing::PciGuest;
using ::testing::ElementsAre;

constexpr uint64_t kSmall = RamEngine::kSize / 2;  // Bytes.
constexpr uint64_t kLarge = RamEngine::kSize;
constexpr uint32_t kChanged = 0x040002;  // An event's result: attributes.

class PciNvmeResizeTest : public ::testing::Test {
 protected:
  PciNvmeResizeTest()
      : guest_(NvmeClass({{"num-queues", "2"}}, nullptr, kSmall), NvmeGuest()),
        driver_(guest_) {
    driver_.Enable();
    driver_.CreateQueue(1);
  }

  // Asks for notices of namespaces, and for `requests` events.
  void Listen(int requests) {
    EXPECT_EQ(driver_.Try(
                  0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x0b, 0x100)),
              Status::kSuccess);
    for (int i = 0; i < requests; ++i) {
      driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
    }
    driver_.RingTail(0);
  }
  // The event that is there; 0: none.
  uint32_t Event() {
    const std::optional<Completion> event = driver_.Poll(0);
    if (event.has_value()) driver_.Acknowledge(0);
    return event.has_value() ? event->result : 0;
  }
  // Of the namespace, as it is described.
  NamespaceData Identify() {
    Command command =
        NvmeDriver::Admin(AdminOpcode::kIdentify, 0, 0, NvmeDriver::kData);
    command.nsid = 1;
    EXPECT_EQ(driver_.Try(0, command), Status::kSuccess);
    NamespaceData data;
    std::memcpy(&data, driver_.Data(NvmeDriver::kData, sizeof(data)).data(),
                sizeof(data));
    return data;
  }
  // The first two of the list of namespaces that have changed.
  std::array<uint32_t, 2> Changed(uint32_t retain = 0) {
    EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage,
                                               0x03ff0004 | retain, 0,
                                               NvmeDriver::kData)),
              Status::kSuccess);
    std::array<uint32_t, 2> first;
    std::memcpy(first.data(), driver_.Data(NvmeDriver::kData, 8).data(), 8);
    return first;
  }
  Status Try(IoOpcode opcode, uint64_t lba) {
    return driver_.Try(1, NvmeDriver::Io(opcode, lba, 1));
  }
  // Of one range of one block.
  Status Deallocate(uint64_t lba) {
    const Range range = {0, 1, lba};
    std::memcpy(driver_.Data(NvmeDriver::kData, sizeof(range)).data(), &range,
                sizeof(range));
    Command command = NvmeDriver::Io(IoOpcode::kDatasetManagement, 0, 1);
    command.cdw11 = 4;
    return driver_.Try(1, command);
  }

  PciGuest guest_;
  NvmeDriver driver_;
};

TEST_F(PciNvmeResizeTest, WhatGrowsIsThereAtOnce) {
  EXPECT_EQ(Identify().size, kSmall / 512);
  EXPECT_EQ(Try(IoOpcode::kWrite, kSmall / 512), Status::kLbaOutOfRange);
  guest_.ChangeResource(kLarge);
  const NamespaceData grown = Identify();
  EXPECT_EQ(grown.size, kLarge / 512);
  EXPECT_EQ(grown.capacity, kLarge / 512);
  EXPECT_EQ(Try(IoOpcode::kWrite, kSmall / 512), Status::kSuccess);
  EXPECT_EQ(Try(IoOpcode::kRead, kLarge / 512 - 1), Status::kSuccess);
  EXPECT_EQ(Try(IoOpcode::kRead, kLarge / 512), Status::kLbaOutOfRange);
}

TEST_F(PciNvmeResizeTest, BeyondTheNewEndThereIsNothing) {
  guest_.ChangeResource(kLarge);
  guest_.ChangeResource(kSmall);
  EXPECT_EQ(Identify().size, kSmall / 512);
  for (const IoOpcode opcode : {IoOpcode::kRead, IoOpcode::kWrite,
                                IoOpcode::kCompare, IoOpcode::kWriteZeroes}) {
    EXPECT_EQ(Try(opcode, kSmall / 512), Status::kLbaOutOfRange)
        << static_cast<int>(opcode);
    EXPECT_NE(Try(opcode, kSmall / 512 - 1), Status::kLbaOutOfRange)
        << static_cast<int>(opcode);
  }
  EXPECT_EQ(Deallocate(kSmall / 512), Status::kLbaOutOfRange);
  EXPECT_EQ(Deallocate(kSmall / 512 - 1), Status::kSuccess);
  // What is no whole block is left out.
  guest_.ChangeResource(kSmall + 511);
  EXPECT_EQ(Identify().size, kSmall / 512);
}

TEST_F(PciNvmeResizeTest, AnImageOfNothingHasNoBlocks) {
  guest_.ChangeResource(1);
  EXPECT_EQ(Identify().size, 0u);
  EXPECT_EQ(Try(IoOpcode::kRead, 0), Status::kLbaOutOfRange);
  EXPECT_THAT(Changed(), ElementsAre(1, 0));
  guest_.ChangeResource(kSmall);
  EXPECT_THAT(Changed(), ElementsAre(1, 0));
  EXPECT_EQ(Try(IoOpcode::kRead, 0), Status::kSuccess);
}

TEST_F(PciNvmeResizeTest, AGuestThatAskedIsToldOnce) {
  Listen(2);
  EXPECT_EQ(Event(), 0u);
  guest_.ChangeResource(kLarge);
  EXPECT_EQ(Event(), kChanged);
  EXPECT_EQ(Event(), 0u);
  guest_.Restart();
  EXPECT_EQ(Event(), 0u);
  EXPECT_THAT(Changed(/*retain=*/1 << 15), ElementsAre(1, 0));
  EXPECT_THAT(Changed(), ElementsAre(1, 0));
  EXPECT_THAT(Changed(), ElementsAre(0, 0)) << "it is read";
  ASSERT_OK(guest_.function().ResourceChanged());
  EXPECT_EQ(Event(), 0u) << "there is nothing new";
  guest_.ChangeResource(kSmall);
  EXPECT_EQ(Event(), kChanged) << "and nothing is held back any more";
  EXPECT_THAT(Changed(), ElementsAre(1, 0));
}

// Until the list is read no other event of this kind is reported; the list then
// has all that would have been in it.
TEST_F(PciNvmeResizeTest, ChangesBeforeTheListIsReadAreInIt) {
  Listen(2);
  guest_.ChangeResource(kLarge);
  EXPECT_EQ(Event(), kChanged);
  guest_.ChangeResource(kSmall);
  EXPECT_EQ(Event(), 0u);
  EXPECT_EQ(Identify().size, kSmall / 512);
  EXPECT_THAT(Changed(), ElementsAre(1, 0));
  EXPECT_EQ(Event(), 0u) << "the guest knows";
  guest_.ChangeResource(kLarge);
  EXPECT_EQ(Event(), kChanged);
}

TEST_F(PciNvmeResizeTest, AGuestThatDidNotAskFindsItInTheList) {
  driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  driver_.RingTail(0);
  guest_.ChangeResource(kLarge);
  EXPECT_EQ(Event(), 0u);
  EXPECT_THAT(Changed(), ElementsAre(1, 0));
}

TEST_F(PciNvmeResizeTest, AnEventWaitsForARequest) {
  Listen(0);
  guest_.ChangeResource(kLarge);
  guest_.Restart();
  EXPECT_EQ(Event(), 0u);
  driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  driver_.RingTail(0);
  EXPECT_EQ(Event(), kChanged);
}

TEST_F(PciNvmeResizeTest, AGuestThatComesLaterIsToldNothing) {
  driver_.SetConfiguration(0);
  guest_.ChangeResource(kLarge);
  std::fill_n(guest_.ram().begin(), NvmeDriver::kData, 0);
  driver_.ring(0) = NvmeDriver::Ring();
  driver_.Enable();
  Listen(1);
  EXPECT_EQ(Event(), 0u);
  EXPECT_EQ(Identify().size, kLarge / 512);
  EXPECT_THAT(Changed(), ElementsAre(0, 0));
}

}  // namespace
}  // namespace holdfast::nvme

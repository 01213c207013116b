// Log pages, asynchronous events, and the abortion of a request for them.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/status/status.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/error_log.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/hooked_engine.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::HookedEngine;
using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::testing::PciGuest;

constexpr uint64_t kBadBlock = 7;

class PciNvmeEventsTest : public ::testing::Test {
 protected:
  PciNvmeEventsTest()
      : guest_(NvmeClass({{"num-queues", "2"}}, &HookedEngine::Make),
               NvmeGuest()),
        driver_(guest_) {
    HookedEngine::hook() = [](uint64_t offset) {
      return offset == kBadBlock * 512 ? absl::UnknownError("worn out")
                                       : absl::OkStatus();
    };
    driver_.Enable();
    driver_.CreateQueue(1);
  }
  ~PciNvmeEventsTest() override { HookedEngine::hook() = nullptr; }

  // Another driver, with memory that nobody has used.
  NvmeDriver Anew() {
    std::fill_n(guest_.ram().begin(), NvmeDriver::kData, 0);
    return NvmeDriver(guest_);
  }
  // Bytes of a log page.
  template <typename T>
  T Page(LogPage page, size_t at = 0) {
    const uint32_t cdw10 = 0x00ff0000u | static_cast<uint32_t>(page);
    EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage, cdw10,
                                               0, NvmeDriver::kData)),
              Status::kSuccess);
    T value;
    std::memcpy(&value, driver_.Data(NvmeDriver::kData + at, sizeof(T)).data(),
                sizeof(T));
    return value;
  }
  Status SetFeature(Feature feature, uint32_t value) {
    return driver_.Try(
        0, NvmeDriver::Admin(AdminOpcode::kSetFeatures,
                             static_cast<uint32_t>(feature), value));
  }
  // A request for an event; its identifier.
  uint16_t Await() {
    const uint16_t cid =
        driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
    driver_.RingTail(0);
    return cid;
  }
  uint32_t Abort(uint16_t queue, uint16_t cid) {
    return driver_
        .Do(0,
            NvmeDriver::Admin(AdminOpcode::kAbort, uint32_t{cid} << 16 | queue))
        .result;
  }

  PciGuest guest_;
  NvmeDriver driver_;
};

TEST_F(PciNvmeEventsTest, GivesLogPages) {
  const auto get = [this](uint32_t cdw10) {
    return driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage, cdw10, 0,
                                            NvmeDriver::kData));
  };
  EXPECT_EQ(get(0x007f0002), Status::kSuccess) << "SMART";
  EXPECT_EQ(guest_.ram()[NvmeDriver::kData + 3], 100);
  EXPECT_EQ(get(0x007f0003), Status::kSuccess) << "firmware";
  EXPECT_EQ(guest_.ram()[NvmeDriver::kData + 8], '1');
  EXPECT_EQ(get(0x00000001), Status::kSuccess) << "errors";
  EXPECT_EQ(get(0xffff0004), Status::kSuccess) << "more than there is";
  EXPECT_EQ(get(0x007f0077), Status::kInvalidLogPage);
  Command command = NvmeDriver::Admin(AdminOpcode::kGetLogPage, 0x007f0002, 0,
                                      NvmeDriver::kData);
  command.cdw12 = 516;
  EXPECT_EQ(driver_.Try(0, command), Status::kInvalidField);
  command.cdw12 = 2;
  EXPECT_EQ(driver_.Try(0, command), Status::kInvalidField);
  command.cdw12 = 508;
  EXPECT_EQ(driver_.Try(0, command), Status::kSuccess);
  command.nsid = 5;
  EXPECT_EQ(driver_.Try(0, command), Status::kInvalidNamespace);
}

TEST_F(PciNvmeEventsTest, CountsWhatItMovesForAsLongAsItLives) {
  const auto counter = [](NvmeDriver& driver, size_t at) {
    EXPECT_EQ(
        driver.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage, 0x007f0002, 0,
                                        NvmeDriver::kData + kPageSize)),
        Status::kSuccess);
    uint64_t value;
    std::memcpy(&value,
                driver.Data(NvmeDriver::kData + kPageSize + at, 8).data(),
                sizeof(value));
    return value;
  };
  for (int i = 0; i < 3; ++i) {
    driver_.Try(1, NvmeDriver::Io(IoOpcode::kWrite, 0, 2));
  }
  guest_.Restart();
  driver_.Try(1, NvmeDriver::Io(IoOpcode::kRead, 0, 1));
  driver_.Try(1, NvmeDriver::Io(IoOpcode::kRead, 1 << 20, 1));  // Fails.
  EXPECT_EQ(counter(driver_, 64), 1u);
  EXPECT_EQ(counter(driver_, 80), 3u);
  EXPECT_EQ(counter(driver_, 32), 1u) << "thousands, rounded up";
  EXPECT_EQ(counter(driver_, 48), 1u);
  driver_.SetConfiguration(0);
  NvmeDriver again = Anew();
  again.Enable();
  again.CreateQueue(1);
  again.Try(1, NvmeDriver::Io(IoOpcode::kRead, 0, 1));
  EXPECT_EQ(counter(again, 64), 2u);
  EXPECT_EQ(counter(again, 80), 3u);
}

TEST_F(PciNvmeEventsTest, TellsOfDoorbellsThatAreWrong) {
  driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  driver_.RingTail(0);
  EXPECT_FALSE(driver_.Poll(0).has_value()) << "they wait";
  guest_.Restart();
  guest_.Write32(0, kDoorbells.offset() + 8, 16);
  auto completion = driver_.Poll(0);
  ASSERT_TRUE(completion.has_value());
  EXPECT_EQ(completion->result, 0x010100u) << "a wrong value";
  driver_.Acknowledge(0);
  guest_.Write32(0, kDoorbells.offset() + 16, 0);
  EXPECT_FALSE(driver_.Poll(0).has_value()) << "until the page was read";
  guest_.Restart();
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage,
                                             0x000f8001, 0, NvmeDriver::kData)),
            Status::kSuccess)
      << "which does not count if it is retained";
  EXPECT_FALSE(driver_.Poll(0).has_value());
  EXPECT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage,
                                             0x000f0001, 0, NvmeDriver::kData)),
            Status::kSuccess);
  completion = driver_.Poll(0);
  ASSERT_TRUE(completion.has_value());
  EXPECT_EQ(completion->result, 0x010000u) << "no such queue";
}

TEST_F(PciNvmeEventsTest, OnlySoManyEventRequestsWait) {
  for (int i = 0; i < 5; ++i) {
    driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  }
  driver_.RingTail(0);
  const auto completion = driver_.Poll(0);
  ASSERT_TRUE(completion.has_value());
  EXPECT_EQ(completion->status >> 1 & 0x7ff,
            static_cast<int>(Status::kAsyncEventLimit));
  EXPECT_FALSE(driver_.Poll(0).has_value());
}

// ---- Errors ----

TEST_F(PciNvmeEventsTest, LogsCommandsThatFailOnceEach) {
  driver_.Try(1, NvmeDriver::Io(IoOpcode::kRead, 1 << 20, 1));
  driver_.Submit(1, NvmeDriver::Io(IoOpcode::kRead, kBadBlock, 1));
  driver_.RingTail(1);
  guest_.Restart();
  const auto page = Page<ErrorLog::Page>(LogPage::kErrors);
  EXPECT_EQ(page[0].count, 2u) << "the newest comes first";
  EXPECT_EQ(page[0].sq_id, 1);
  EXPECT_EQ(page[0].cid, 2);
  EXPECT_EQ(page[0].status >> 1, static_cast<int>(Status::kUnrecoveredRead));
  EXPECT_EQ(page[0].lba, kBadBlock);
  EXPECT_EQ(page[0].nsid, 1u);
  EXPECT_EQ(page[1].count, 1u);
  EXPECT_EQ(page[1].lba, uint64_t{1} << 20);
  EXPECT_EQ(page[2].count, 0u);
  EXPECT_EQ(Page<uint64_t>(LogPage::kSmart, 160), 1u) << "of the medium";
  EXPECT_EQ(Page<uint64_t>(LogPage::kSmart, 176), 2u) << "all";
}

TEST_F(PciNvmeEventsTest, KeepsTheLastErrors) {
  for (uint64_t i = 0; i < 2 * kErrorLogEntries; ++i) {
    driver_.Try(1, NvmeDriver::Io(IoOpcode::kRead, (1 << 20) + i, 1));
  }
  const auto page = Page<ErrorLog::Page>(LogPage::kErrors);
  for (uint64_t i = 0; i < page.size(); ++i) {
    EXPECT_EQ(page[i].count, 2 * kErrorLogEntries - i);
    EXPECT_EQ(page[i].lba, (1 << 20) + page[i].count - 1);
  }
}

TEST_F(PciNvmeEventsTest, WhatDriversTryIsNoError) {
  driver_.Try(0, NvmeDriver::Admin(static_cast<AdminOpcode>(0x7f)));
  driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kIdentify, 0x7f));
  EXPECT_EQ(Page<uint64_t>(LogPage::kSmart, 176), 0u);
}

// ---- Temperature ----

TEST_F(PciNvmeEventsTest, TellsOfTemperaturesIfAskedTo) {
  Await();
  EXPECT_EQ(SetFeature(Feature::kTemperatureThreshold, 300), Status::kSuccess);
  EXPECT_FALSE(driver_.Poll(0).has_value()) << "nobody asked";
  EXPECT_EQ(Page<uint8_t>(LogPage::kSmart), 1u << 1) << "but the page says so";
  driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x0b, 0x02));
  driver_.RingTail(0);
  guest_.Restart();
  ASSERT_TRUE(driver_.Poll(0).has_value()) << "of the command";
  driver_.Acknowledge(0);
  const auto event = driver_.Poll(0);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->result, 0x020101u);
  driver_.Acknowledge(0);
  EXPECT_EQ(SetFeature(Feature::kTemperatureThreshold, 301), Status::kSuccess);
  EXPECT_EQ(Page<uint8_t>(LogPage::kSmart), 0u);
}

TEST_F(PciNvmeEventsTest, KeepsAThresholdFromBelowToo) {
  constexpr uint32_t kBelow = 1u << 20;
  const auto get = [this](uint32_t which) {
    return driver_
        .Do(0, NvmeDriver::Admin(AdminOpcode::kGetFeatures, 0x04, which))
        .result;
  };
  EXPECT_EQ(get(kBelow), 0u);
  EXPECT_EQ(SetFeature(Feature::kTemperatureThreshold, kBelow | 310),
            Status::kSuccess);
  EXPECT_EQ(get(kBelow) & 0xffff, 310u);
  EXPECT_EQ(get(0) & 0xffff, 343u);
  EXPECT_EQ(Page<uint8_t>(LogPage::kSmart), 1u << 1);
}

// ---- Abort ----

TEST_F(PciNvmeEventsTest, ARequestThatWaitsIsAborted) {
  const uint16_t first = Await();
  const uint16_t second = Await();
  guest_.Restart();
  driver_.Submit(
      0, NvmeDriver::Admin(AdminOpcode::kAbort, uint32_t{second} << 16));
  driver_.RingTail(0);
  const auto aborted = driver_.Poll(0);
  ASSERT_TRUE(aborted.has_value());
  EXPECT_EQ(aborted->cid, second);
  EXPECT_EQ(aborted->status >> 1, static_cast<int>(Status::kAborted));
  driver_.Acknowledge(0);
  const auto abort = driver_.Poll(0);
  ASSERT_TRUE(abort.has_value());
  EXPECT_EQ(abort->status >> 1, 0);
  EXPECT_EQ(abort->result, 0u) << "it was aborted";
  driver_.Acknowledge(0);
  guest_.Write32(0, kDoorbells.offset() + 8, 16);
  const auto event = driver_.Poll(0);
  ASSERT_TRUE(event.has_value()) << "the other one waits on";
  EXPECT_EQ(event->cid, first);
}

TEST_F(PciNvmeEventsTest, NothingElseIsAborted) {
  const uint16_t cid = Await();
  EXPECT_EQ(Abort(1, cid), 1u) << "of another queue";
  EXPECT_EQ(Abort(0, cid + 7), 1u) << "there is none";
  EXPECT_FALSE(driver_.Poll(0).has_value());
}

TEST_F(PciNvmeEventsTest, RequestsEndWithTheControllersLife) {
  Await();
  driver_.SetConfiguration(0);
  NvmeDriver again = Anew();
  again.Enable();
  guest_.Restart();
  guest_.Write32(0, kDoorbells.offset() + 8, 16);
  EXPECT_FALSE(again.Poll(0).has_value()) << "nobody has asked";
}

}  // namespace
}  // namespace holdfast::nvme

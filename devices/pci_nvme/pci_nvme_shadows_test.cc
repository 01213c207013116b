// Shadow doorbells, against a driver that rings as Linux does.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/identify_data.h"
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

constexpr uint64_t kShadows = 0xa000;
constexpr uint64_t kEvents = 0xb000;

class ShadowsTest : public ::testing::Test {
 protected:
  ShadowsTest()
      // No helpers: a slow machine would call one in inside a test's hook.
      : guest_(NvmeClass({{"num-queues", "2"},
                          {"shadow-doorbells", "on"},
                          {"workers", "1"}},
                         &HookedEngine::Make),
               NvmeGuest()),
        driver_(guest_) {
    driver_.Enable();
    driver_.CreateQueue(1);
  }
  ~ShadowsTest() override { HookedEngine::hook() = nullptr; }

  Status Configure(uint64_t shadows = kShadows, uint64_t events = kEvents) {
    Command command = NvmeDriver::Admin(AdminOpcode::kDoorbellBuffers);
    command.prp1 = shadows;
    command.prp2 = events;
    return driver_.Try(0, command);
  }

  uint32_t Word(uint64_t address) {
    uint32_t word;
    std::memcpy(&word, guest_.ram().data() + address, sizeof(word));
    return word;
  }
  void SetWord(uint64_t address, uint32_t word) {
    std::memcpy(guest_.ram().data() + address, &word, sizeof(word));
  }
  // Section B.5, as drivers do it. True: rung.
  bool Update(uint32_t doorbell, uint16_t value) {
    const auto old = static_cast<uint16_t>(Word(kShadows + 4 * doorbell));
    SetWord(kShadows + 4 * doorbell, value);
    const auto event = static_cast<uint16_t>(Word(kEvents + 4 * doorbell));
    if (static_cast<uint16_t>(value - event - 1) >=
        static_cast<uint16_t>(value - old)) {
      return false;
    }
    guest_.Write32(0, kDoorbells.offset() + 4 * doorbell, value);
    return true;
  }
  bool UpdateTail(uint16_t queue) {
    return Update(2 * queue, driver_.ring(queue).tail);
  }
  bool UpdateHead(uint16_t queue) {
    return Update(2 * queue + 1, driver_.ring(queue).head);
  }
  static Command Read(uint64_t lba) {
    return NvmeDriver::Io(IoOpcode::kRead, lba, 1);
  }

  PciGuest guest_;
  NvmeDriver driver_;
};

TEST_F(ShadowsTest, AnIdleQueueIsRungFor) {
  ASSERT_EQ(driver_.Try(1, Read(0)), Status::kSuccess);
  ASSERT_EQ(Configure(), Status::kSuccess);
  EXPECT_EQ(Word(kShadows + 8), 1u) << "where the queue is by now";
  EXPECT_EQ(Word(kShadows + 12), 1u);
  for (int i = 0; i < 50; ++i) {
    driver_.Submit(1, Read(1));
    EXPECT_TRUE(UpdateTail(1)) << i;
    ASSERT_TRUE(driver_.Poll(1).has_value()) << i;
    UpdateHead(1);
  }
}

TEST_F(ShadowsTest, ABusyQueueIsNotRungFor) {
  ASSERT_EQ(Configure(), Status::kSuccess);
  int left = 10;  // Less than once round.
  HookedEngine::hook() = [&](uint64_t) {
    while (driver_.Poll(1).has_value()) UpdateHead(1);
    if (left-- <= 0) return absl::OkStatus();
    driver_.Submit(1, Read(2));
    EXPECT_FALSE(UpdateTail(1));
    return absl::OkStatus();
  };
  driver_.Submit(1, Read(1));
  ASSERT_TRUE(UpdateTail(1));
  EXPECT_LT(left, 0);
  EXPECT_TRUE(driver_.Poll(1).has_value());
  EXPECT_FALSE(driver_.Poll(1).has_value()) << "all of the others are taken";
  driver_.Submit(1, Read(1));
  EXPECT_TRUE(UpdateTail(1)) << "it rests again";
}

// The queue may have gone on by the time that a doorbell comes.
TEST_F(ShadowsTest, WhatARungDoorbellSaysMayBeOld) {
  ASSERT_EQ(Configure(), Status::kSuccess);
  for (int i = 0; i < 3; ++i) driver_.Submit(1, Read(1));
  ASSERT_TRUE(UpdateTail(1));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(driver_.Poll(1).has_value());
  guest_.Write32(0, kDoorbells.offset() + 8, 1);
  EXPECT_FALSE(driver_.Poll(1).has_value());
  UpdateHead(1);
  guest_.Write32(0, kDoorbells.offset() + 12, 1);
  driver_.Submit(1, Read(1));
  ASSERT_TRUE(UpdateTail(1));
  EXPECT_TRUE(driver_.Poll(1).has_value());
  EXPECT_FALSE(driver_.Poll(1).has_value());
}

// The guest did not ring, since who served the queue was to look; it died.
TEST_F(ShadowsTest, ASuccessorLooks) {
  ASSERT_EQ(Configure(), Status::kSuccess);
  SetWord(kEvents + 8, 0xffff);
  driver_.Submit(1, Read(1));
  ASSERT_FALSE(UpdateTail(1));
  EXPECT_FALSE(driver_.Poll(1).has_value());
  guest_.Restart();
  EXPECT_TRUE(driver_.Poll(1).has_value());
  driver_.Submit(1, Read(1));
  EXPECT_TRUE(UpdateTail(1)) << "it has left an event of its own";
  EXPECT_TRUE(driver_.Poll(1).has_value());
}

TEST_F(ShadowsTest, WhoWaitsForRoomIsRungFor) {
  ASSERT_TRUE(driver_.CreateQueueOfFewCompletions(2));
  ASSERT_EQ(Configure(), Status::kSuccess);
  for (int i = 0; i < 3; ++i) driver_.Submit(2, Read(1));
  ASSERT_TRUE(UpdateTail(2));
  driver_.ring(2).entries = 2;  // The completion queue goes round in two.
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(driver_.Poll(2).has_value()) << i;
    // Of the last one nobody waits.
    EXPECT_TRUE(UpdateHead(2) || i == 2) << i;
  }
}

TEST_F(ShadowsTest, ALevelFallsWhenAllIsSeen) {
  guest_.WriteConfig(pci::kMsixControl.offset(), 0, 2);
  const auto level = [this] {
    return (guest_.ReadConfig(0x06, 2) & pci::kStatusIntx) != 0;
  };
  ASSERT_EQ(Configure(), Status::kSuccess);
  for (int i = 0; i < 20; ++i) {
    driver_.Submit(1, Read(1));
    ASSERT_TRUE(UpdateTail(1));
    EXPECT_TRUE(level());
    ASSERT_TRUE(driver_.Poll(1).has_value());
    EXPECT_TRUE(UpdateHead(1));
    EXPECT_FALSE(level());
  }
}

// ---- A life as Linux leads it: the order of drivers/nvme/host/pci.c ----

// Queues first, then Doorbell Buffer Config with memory of zeros; commands in
// batches with one ring each, completions taken in batches; the controller
// reset and set up again in the same memory, which is cleared.
class GuestLife : public ShadowsTest {
 protected:
  void SetUp() override { SetUpController(); }

  void SetUpController() {
    driver_.SetConfiguration(0);
    ASSERT_EQ(driver_.status(), 0u);
    // The pages of the queues and of both buffers.
    std::fill_n(guest_.ram().begin(), NvmeDriver::kData, 0);
    std::fill_n(guest_.ram().begin() + kShadows, 2 * kPageSize, 0);
    for (uint16_t i = 0; i < NvmeDriver::kQueues; ++i) {
      driver_.ring(i) = NvmeDriver::Ring();
    }
    guest_.Write32(0, kAdminQueues.offset(), 0x000f000f);
    // A 64-bit register is written in halves.
    for (const auto& [at, value] :
         {std::make_pair(kAdminSq.offset(), NvmeDriver::SqBase(0)),
          std::make_pair(kAdminCq.offset(), NvmeDriver::CqBase(0))}) {
      guest_.Write32(0, at, static_cast<uint32_t>(value));
      guest_.Write32(0, at + 4, static_cast<uint32_t>(value >> 32));
    }
    driver_.SetConfiguration(0x00460001);
    ASSERT_EQ(driver_.status(), kReady);
    Command identify =
        NvmeDriver::Admin(AdminOpcode::kIdentify, 1, 0, NvmeDriver::kData);
    ASSERT_EQ(driver_.Try(0, identify), Status::kSuccess);
    ControllerData data;
    std::memcpy(&data, driver_.Data(NvmeDriver::kData, sizeof(data)).data(),
                sizeof(data));
    ASSERT_NE(data.admin_commands & 0x100, 0) << "it is offered";
    ASSERT_EQ(driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 7,
                                               0x00010001)),
              Status::kSuccess);
    // As many vectors as queues: they are taken away and given back.
    guest_.WriteConfig(pci::kMsixControl.offset(), 0, 2);
    guest_.EnableMsix();
    for (const uint16_t queue : {1, 2}) driver_.CreateQueue(queue);
    ASSERT_EQ(Configure(), Status::kSuccess);
    for (uint32_t doorbell = 0; doorbell < 6; ++doorbell) {
      EXPECT_EQ(Word(kShadows + 4 * doorbell), 0u) << doorbell;
      EXPECT_EQ(Word(kEvents + 4 * doorbell), 0u) << doorbell;
    }
    ASSERT_EQ(driver_.Try(
                  0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x0b, 0x100)),
              Status::kSuccess);
    driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
    driver_.RingTail(0);
  }

  // Commands of a queue, told of at once.
  void Batch(uint16_t queue, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      awaited_[queue].insert(driver_.Submit(queue, Read(i)));
    }
    UpdateTail(queue);
  }
  // All that is there; at an interrupt's end the head is told once.
  void Reap(uint16_t queue) {
    bool any = false;
    while (const auto completion = driver_.Poll(queue)) {
      EXPECT_EQ(completion->status >> 1, 0);
      EXPECT_EQ(awaited_[queue].erase(completion->cid), 1u) << "twice";
      any = true;
    }
    if (any) UpdateHead(queue);
  }

  std::array<std::set<uint16_t>, NvmeDriver::kQueues> awaited_;
};

TEST_F(GuestLife, EveryCommandIsCompletedOnceOverDeathsAndResets) {
  std::mt19937 random(7);
  uint32_t unrung = 0;
  uint32_t more = 0;  // That come while a queue is served.
  uint16_t busy = 1;
  HookedEngine::hook() = [&](uint64_t) {
    if (more == 0) return absl::OkStatus();
    --more;
    awaited_[busy].insert(driver_.Submit(busy, Read(1)));
    unrung += UpdateTail(busy) ? 0 : 1;
    return absl::OkStatus();
  };
  for (int round = 0; round < 600 && !HasFailure(); ++round) {
    busy = static_cast<uint16_t>(1 + random() % 2);
    more = random() % 4;
    Batch(busy, 1 + random() % 4);
    more = 0;
    if (random() % 8 == 0) guest_.Restart();
    Reap(busy);
    EXPECT_TRUE(awaited_[busy].empty()) << "round " << round;
    if (random() % 50 == 0) SetUpController();
  }
  EXPECT_GT(unrung, 100u) << "a busy queue is not rung for";
}

// The control: a successor leaves events and looks; a driver that died with its
// ring unread is not seen by one that does neither.
TEST_F(GuestLife, WithoutARingNothingHappensUntilSomebodyLooks) {
  awaited_[1].insert(driver_.Submit(1, Read(1)));
  SetWord(kShadows + 8, driver_.ring(1).tail);
  Reap(1);
  EXPECT_FALSE(awaited_[1].empty());
  guest_.Restart();
  Reap(1);
  EXPECT_TRUE(awaited_[1].empty());
}

TEST(Shadows, AreOfferedOnlyIfAskedFor) {
  PciGuest guest(NvmeClass(), NvmeGuest());
  NvmeDriver driver(guest);
  driver.Enable();
  Command command = NvmeDriver::Admin(AdminOpcode::kDoorbellBuffers);
  command.prp1 = kShadows;
  command.prp2 = kEvents;
  EXPECT_EQ(driver.Try(0, command), Status::kInvalidOpcode);
}

TEST_F(ShadowsTest, RefusesWhatIsNoPage) {
  EXPECT_EQ(Configure(kShadows + 4), Status::kInvalidField);
  EXPECT_EQ(Configure(kShadows, kEvents + 4), Status::kInvalidField);
  EXPECT_EQ(Configure(0), Status::kInvalidField);
  EXPECT_EQ(Configure(kShadows, uint64_t{1} << 40), Status::kDataTransferError);
  EXPECT_EQ(driver_.Try(1, Read(1)), Status::kSuccess) << "registers go on";
}

TEST_F(ShadowsTest, ValuesOutOfRangeAreNone) {
  ASSERT_EQ(Configure(), Status::kSuccess);
  SetWord(kShadows + 8, 0xffffffff);
  SetWord(kShadows + 12, 4096);
  guest_.Restart();
  EXPECT_FALSE(driver_.Poll(1).has_value());
  EXPECT_EQ(driver_.status(), kReady);
}

TEST_F(ShadowsTest, TheyEndWithTheControllersLife) {
  ASSERT_EQ(Configure(), Status::kSuccess);
  driver_.SetConfiguration(0);
  std::fill_n(guest_.ram().begin(), NvmeDriver::kData, 0);
  std::fill_n(guest_.ram().begin() + kShadows, 2 * kPageSize, 0xff);
  NvmeDriver again(guest_);
  again.Enable();
  again.CreateQueue(1);
  EXPECT_EQ(again.Try(1, Read(1)), Status::kSuccess);
  guest_.Restart();
  EXPECT_EQ(again.Try(1, Read(1)), Status::kSuccess);
  EXPECT_EQ(Word(kEvents + 8), 0xffffffffu) << "nobody writes there";
}

}  // namespace
}  // namespace holdfast::nvme

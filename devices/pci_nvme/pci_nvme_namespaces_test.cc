// Several namespaces: what each number names, and what a guest finds again.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::nvme::testing::NvmeOfParts;
using ::holdfast::testing::PciGuest;

constexpr uint64_t kFirst = 0x2000;   // Bytes.
constexpr uint64_t kSecond = 0x1000;  // Bytes.

class NamespacesTest : public ::testing::Test {
 protected:
  NamespacesTest()
      : guest_(NvmeOfParts({kFirst, kSecond}), NvmeGuest()), driver_(guest_) {
    driver_.Enable();
    driver_.CreateQueue(1);
  }

  Status Try(IoOpcode opcode, uint32_t nsid, uint64_t lba) {
    Command command = NvmeDriver::Io(opcode, lba, 1);
    command.nsid = nsid;
    return driver_.Try(1, command);
  }

  PciGuest guest_;
  NvmeDriver driver_;
};

TEST_F(NamespacesTest, EachNumberIsADiskOfItsOwn) {
  for (const uint8_t nsid : {1, 2}) {
    std::memset(driver_.Data(NvmeDriver::kData, 512).data(), nsid, 512);
    EXPECT_EQ(Try(IoOpcode::kWrite, nsid, 1), Status::kSuccess);
  }
  EXPECT_EQ(driver_.Disk()[512], 1);
  EXPECT_EQ(driver_.Disk()[kFirst + 512], 2);
  EXPECT_EQ(Try(IoOpcode::kRead, 1, 1), Status::kSuccess);
  EXPECT_EQ(driver_.Data(NvmeDriver::kData, 512)[511], 1);
}

TEST_F(NamespacesTest, EachHasItsOwnEnd) {
  EXPECT_EQ(Try(IoOpcode::kRead, 1, kSecond / 512), Status::kSuccess);
  EXPECT_EQ(Try(IoOpcode::kRead, 2, kSecond / 512 - 1), Status::kSuccess);
  EXPECT_EQ(Try(IoOpcode::kRead, 2, kSecond / 512), Status::kLbaOutOfRange);
  EXPECT_EQ(Try(IoOpcode::kRead, 1, kFirst / 512), Status::kLbaOutOfRange);
}

TEST_F(NamespacesTest, OthersAreNotThere) {
  for (const uint32_t nsid : {0u, 3u, 9u, 0xfffffffeu, 0xffffffffu}) {
    EXPECT_EQ(Try(IoOpcode::kWrite, nsid, 0), Status::kInvalidNamespace)
        << nsid;
  }
  EXPECT_EQ(Try(IoOpcode::kFlush, 3, 0), Status::kInvalidNamespace);
  EXPECT_EQ(Try(IoOpcode::kFlush, 0xffffffff, 0), Status::kSuccess) << "all";
}

// As a guest meets a process that was given other images.
class ChangedTest : public NamespacesTest {
 protected:
  void TakeOver(std::vector<uint64_t> sizes) {
    const auto memory = guest_.memory();
    left_.assign(memory.size() + kPage, 0);
    const size_t skew = reinterpret_cast<uintptr_t>(left_.data()) % kPage;
    const absl::Span<uint8_t> copy =
        absl::MakeSpan(left_).subspan((kPage - skew) % kPage, memory.size());
    std::memcpy(copy.data(), memory.data(), memory.size());
    successor_.emplace(NvmeOfParts(sizes), NvmeGuest(), PciGuest::Detached());
    successor_->set_next_id(guest_.record().done);
    successor_->Attach(copy);
  }
  NvmeDriver Driver() { return NvmeDriver(*successor_, driver_.rings()); }

  static constexpr size_t kPage = 4096;
  std::vector<uint8_t> left_;
  std::optional<PciGuest> successor_;
};

TEST_F(ChangedTest, AnImageMayHaveGrown) {
  TakeOver({kFirst, 2 * kSecond});
  Command command = NvmeDriver::Io(IoOpcode::kRead, kSecond / 512, 1);
  command.nsid = 2;
  EXPECT_EQ(Driver().Try(1, command), Status::kSuccess);
}

// The driver is told, and what it knows from then on is the new size.
TEST_F(ChangedTest, AGuestThatAskedIsToldOfAnotherSize) {
  EXPECT_EQ(
      driver_.Try(0, NvmeDriver::Admin(AdminOpcode::kSetFeatures, 0x0b, 0x100)),
      Status::kSuccess);
  for (int i = 0; i < 2; ++i) {
    driver_.Submit(0, NvmeDriver::Admin(AdminOpcode::kAsyncEvent));
  }
  driver_.RingTail(0);
  TakeOver({kFirst, 2 * kSecond});
  NvmeDriver driver = Driver();
  const auto event = driver.Poll(0);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->result, 0x040002u) << "a namespace's attributes";
  driver.Acknowledge(0);
  const auto changed = [&driver] {
    EXPECT_EQ(driver.Try(0, NvmeDriver::Admin(AdminOpcode::kGetLogPage,
                                              0x03ff0004, 0, 0x7000)),
              Status::kSuccess);
    return std::pair<uint8_t, uint8_t>(driver.Data(0x7000, 8)[0],
                                       driver.Data(0x7000, 8)[4]);
  };
  EXPECT_EQ(changed(), std::make_pair(uint8_t{2}, uint8_t{0}));
  EXPECT_EQ(changed(), std::make_pair(uint8_t{0}, uint8_t{0})) << "it is read";
  successor_->Restart();
  EXPECT_FALSE(driver.Poll(0).has_value()) << "it was told";
}

TEST_F(ChangedTest, AnotherListIsAnotherController) {
  TakeOver({kFirst});
  NvmeDriver driver = Driver();
  EXPECT_EQ(driver.status(), kReady | kFatal);
  const uint8_t before = driver.Disk()[0];
  std::memset(driver.Data(NvmeDriver::kData, 512).data(), before + 1, 512);
  driver.Submit(1, NvmeDriver::Io(IoOpcode::kWrite, 0, 1));
  driver.RingTail(1);
  EXPECT_EQ(driver.Disk()[0], before) << "it executes nothing";
  EXPECT_FALSE(driver.Poll(1).has_value());

  std::fill_n(successor_->ram().begin(), NvmeDriver::kData, 0);
  driver.SetConfiguration(0);
  NvmeDriver again(*successor_);
  again.Enable();
  EXPECT_EQ(again.status(), kReady) << "the driver asks anew";
  again.CreateQueue(1);
  EXPECT_EQ(again.Try(1, NvmeDriver::Io(IoOpcode::kWrite, 0, 1)),
            Status::kSuccess);
}

}  // namespace
}  // namespace holdfast::nvme

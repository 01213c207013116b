// Images that get another size under devices served over vfio-user: the guest
// is told, wherever the device dies between the word and the message.
// HOLDFAST_KILLS=<n> kills each n times.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "base/shared_access.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/region_device.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "devices/virtio_pci/testing/virtio_pci_driver.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::nvme::AdminOpcode;
using ::holdfast::nvme::Command;
using ::holdfast::nvme::Completion;
using ::holdfast::vfio_user::Client;

constexpr uint64_t kSector = 512;

int Kills() {
  const char* const wanted = std::getenv("HOLDFAST_KILLS");
  return wanted == nullptr ? 40 : std::max(1, std::atoi(wanted));
}

// A disk, the file below it, and a client that has connected.
class ResizeTest : public ::testing::Test {
 protected:
  void Start(ManagedDevice::Options options) {
    file_.Reset(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    SetSize(64 * kSector);
    options.policy_includes = {"sandbox/policies"};
    options.store_program = "statestore/store/holdfast-store";
    options.resources = {{"image", path_}};
    auto device = ManagedDevice::Start(options);
    ASSERT_OK(device);
    device_ = *std::move(device);
    auto client = Client::Connect(device_->socket_path());
    ASSERT_OK(client);
    client_ = *std::move(client);
    ASSERT_OK(client_->Negotiate());
  }
  // `vector`: of message interrupts, listened to.
  void EnableInterrupts(uint32_t vector) {
    ASSERT_OK(client_->Write(kPciConfigRegion, pci::kCommand.offset(),
                             pci::kCommandMemory | pci::kCommandMaster, 2));
    auto interrupt = client_->Listen(kPciMsixIrq, vector);
    ASSERT_OK(interrupt);
    interrupt_ = *std::move(interrupt);
    ASSERT_OK(client_->Write(kPciConfigRegion, pci::kMsixControl.offset(),
                             pci::kMsixEnable, 2));
  }
  // Takes what was signalled.
  bool TakeInterrupt() {
    uint64_t signals = 0;
    return read(interrupt_.get(), &signals, sizeof(signals)) > 0;
  }

  void SetSize(uint64_t size) {
    size_ = size;
    ASSERT_EQ(ftruncate(file_.get(), static_cast<off_t>(size)), 0);
  }
  // Grows and shrinks by turns.
  void ChangeSize(int round) {
    SetSize(round % 3 == 2 ? size_ - kSector : size_ + 2 * kSector);
  }
  void KillAndReplace() {
    ASSERT_OK(device_->Kill(SIGKILL));
    ASSERT_OK(device_->AddStandby());
  }
  // A word, and a death that it may or may not survive.
  void SayAndKill(std::mt19937& random) {
    ASSERT_OK(device_->TellResourceChanged());
    usleep(random() % 300);
    KillAndReplace();
  }

  TempDir directory_;
  const std::string path_ = directory_.File("image");
  UniqueFd file_;
  uint64_t size_ = 0;  // Bytes.
  std::unique_ptr<ManagedDevice> device_;
  std::unique_ptr<Client> client_;
  UniqueFd interrupt_;
};

// ---- NVMe ----

// A driver that has enabled the controller, asked for notices of namespaces and
// requested one event.
class NvmeResize : public ResizeTest {
 protected:
  static constexpr uint64_t kSq = 0;
  static constexpr uint64_t kCq = 0x1000;
  static constexpr uint64_t kData = 0x2000;
  static constexpr uint32_t kEntries = 16;

  void SetUp() override {
    ManagedDevice::Options options;
    options.program = "devices/pci_nvme/holdfast-pci-nvme";
    options.policy = "devices/pci_nvme/pci_nvme.policy";
    ASSERT_NO_FATAL_FAILURE(Start(options));
    auto memory = CreateSealedMemfd("guest", kData + 0x1000);
    ASSERT_OK(memory);
    auto mapping = MapShared(*memory, 0, kData + 0x1000, MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    memory_ = *std::move(mapping);
    ASSERT_OK(client_->Map(0, *memory, 0, memory_.size()));
    EnableInterrupts(0);
    Set(nvme::kAdminQueues.offset(), (kEntries - 1) << 16 | (kEntries - 1));
    Set(nvme::kAdminSq.offset(), kSq, 8);
    Set(nvme::kAdminCq.offset(), kCq, 8);
    Set(nvme::kConfiguration.offset(), 0x00460001);
    ASSERT_TRUE(PollUntil([this] {
      const auto status = client_->Read(0, nvme::kStatus.offset(), 4);
      return status.ok() && (*status & nvme::kReady) != 0;
    }));
    Do(AdminOpcode::kSetFeatures, 0x0b, 0x100);
    event_ = Submit(AdminOpcode::kAsyncEvent);
  }

  void Set(uint64_t offset, uint64_t value, uint32_t size = 4) {
    EXPECT_OK(client_->Write(0, offset, value, size));
  }
  uint16_t Submit(AdminOpcode opcode, uint32_t cdw10 = 0, uint32_t cdw11 = 0) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.cid = ++cid_;
    command.nsid = 1;
    command.prp1 = kData;
    command.cdw10 = cdw10;
    command.cdw11 = cdw11;
    std::memcpy(memory_.data() + kSq + tail_ * sizeof(command), &command,
                sizeof(command));
    tail_ = (tail_ + 1) % kEntries;
    EXPECT_OK(client_->PostWrite(0, nvme::kDoorbells.offset(), tail_, 4));
    return cid_;
  }
  // The next completion.
  Completion Await() {
    const uint8_t* const entry =
        memory_.data() + kCq + head_ * sizeof(Completion);
    EXPECT_TRUE(PollUntil([&] {
      const uint32_t last = SharedAccess::LoadAcquire(
          reinterpret_cast<const uint32_t*>(entry + 12));
      return (last >> 16 & 1) == phase_;
    })) << "nothing is completed";
    Completion completion;
    std::memcpy(&completion, entry, sizeof(completion));
    head_ = (head_ + 1) % kEntries;
    if (head_ == 0) phase_ ^= 1;
    EXPECT_OK(client_->PostWrite(0, nvme::kDoorbells.offset() + 4, head_, 4));
    EXPECT_EQ(completion.status >> 1, 0);
    return completion;
  }
  // A command, which is answered next: no event comes before.
  void Do(AdminOpcode opcode, uint32_t cdw10 = 0, uint32_t cdw11 = 0) {
    const uint16_t cid = Submit(opcode, cdw10, cdw11);
    EXPECT_EQ(Await().cid, cid) << "an event for nothing";
  }
  // The event, which must come; then the list and the size, and a request for
  // the next one.
  void ExpectTold() {
    const Completion event = Await();
    ASSERT_EQ(event.cid, event_);
    EXPECT_EQ(event.result, 0x040002u) << "a namespace's attributes";
    EXPECT_TRUE(PollUntil([this] { return TakeInterrupt(); }));
    Do(AdminOpcode::kGetLogPage, 0x00010004);
    uint32_t changed;
    std::memcpy(&changed, memory_.data() + kData, sizeof(changed));
    EXPECT_EQ(changed, 1u);
    EXPECT_EQ(Blocks(), size_ / kSector);
    event_ = Submit(AdminOpcode::kAsyncEvent);
  }
  uint64_t Blocks() {
    Do(AdminOpcode::kIdentify);
    uint64_t blocks;
    std::memcpy(&blocks, memory_.data() + kData, sizeof(blocks));
    return blocks;
  }

  Mapping memory_;
  uint32_t tail_ = 0;
  uint32_t head_ = 0;
  uint32_t phase_ = 1;
  uint16_t cid_ = 0;
  uint16_t event_ = 0;
};

// Each change once: a second event would come before the next answer.
TEST_F(NvmeResize, IsToldOnceOverKillsAtRandom) {
  std::mt19937 random(1);
  for (int round = 0; round < Kills() && !HasFailure(); ++round) {
    ChangeSize(round);
    SayAndKill(random);
    ExpectTold();
  }
}

TEST_F(NvmeResize, IsToldByALivingProcess) {
  ChangeSize(0);
  ASSERT_OK(device_->TellResourceChanged());
  ExpectTold();
  ASSERT_OK(device_->TellResourceChanged());
  EXPECT_EQ(Blocks(), size_ / kSector) << "and nothing is told of nothing";
}

// The control: neither of the two is told by anything else. A standby had
// looked when it was made.
TEST_F(NvmeResize, IsToldByASuccessorAndBeforeByNobody) {
  const uint64_t before = size_;
  ChangeSize(0);
  EXPECT_EQ(Blocks(), before / kSector);
  KillAndReplace();
  ExpectTold();
  KillAndReplace();
  EXPECT_EQ(Blocks(), size_ / kSector);
}

// ---- virtio-blk ----

// The driver's accesses as the client makes them.
class Bus {
 public:
  explicit Bus(Client& client) : client_(client) {}
  uint64_t Read(uint32_t region, uint64_t offset, size_t size) {
    const auto value =
        client_.Read(region, offset, static_cast<uint32_t>(size));
    EXPECT_OK(value);
    return value.ok() ? *value : 0;
  }
  void Write(uint32_t region, uint64_t offset, uint64_t value, size_t size) {
    EXPECT_OK(
        client_.Write(region, offset, value, static_cast<uint32_t>(size)));
  }

 private:
  Client& client_;
};

class VirtioResize : public ResizeTest {
 protected:
  void SetUp() override {
    ManagedDevice::Options options;
    options.program = "devices/virtio_blk/holdfast-virtio-blk";
    options.arguments = {"--protocol=vfio-user"};
    options.policy = "devices/virtio_blk/virtio_blk_pci.policy";
    ASSERT_NO_FATAL_FAILURE(Start(options));
    EnableInterrupts(0);
    bus_ = std::make_unique<Bus>(*client_);
    driver_ = std::make_unique<VirtioPciDriver<Bus>>(*bus_);
    driver_->Probe();
    ASSERT_TRUE(driver_->Negotiate(virtio::kFeatureVersion1));
    driver_->Set(virtio_pci::kConfigVector, 0);
    driver_->Go();
    EXPECT_EQ(Capacity(), size_ / kSector);
    EXPECT_FALSE(TakeInterrupt());
  }

  uint64_t Generation() { return driver_->Get(virtio_pci::kConfigGeneration); }
  uint64_t Capacity() { return driver_->ReadConfig(0, 8); }
  // An interrupt, and what it says.
  void ExpectTold() {
    EXPECT_TRUE(PollUntil([this] { return TakeInterrupt(); }));
    EXPECT_EQ(Capacity(), size_ / kSector);
  }

  std::unique_ptr<Bus> bus_;
  std::unique_ptr<VirtioPciDriver<Bus>> driver_;
};

TEST_F(VirtioResize, IsToldOverKillsAtRandom) {
  std::mt19937 random(1);
  for (int round = 0; round < Kills() && !HasFailure(); ++round) {
    const uint64_t generation = Generation();
    ChangeSize(round);
    SayAndKill(random);
    ExpectTold();
    EXPECT_NE(Generation(), generation);
    // One interrupt for a change, or more: this one has been answered.
    Capacity();
    TakeInterrupt();
  }
}

TEST_F(VirtioResize, IsToldByALivingProcess) {
  ChangeSize(0);
  ASSERT_OK(device_->TellResourceChanged());
  ExpectTold();
}

TEST_F(VirtioResize, IsToldByASuccessorAndBeforeByNobody) {
  const uint64_t before = size_;
  ChangeSize(0);
  EXPECT_EQ(Capacity(), before / kSector);
  EXPECT_FALSE(TakeInterrupt());
  KillAndReplace();
  ExpectTold();
}

}  // namespace
}  // namespace holdfast::testing

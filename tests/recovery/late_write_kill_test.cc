// A VMM that does late what a dead NVMe process had asked it to write: a driver
// that disables the controller, or deletes a queue, gets its memory back after
// that and not before.
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/testing/temp_dir.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/region_device.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Client;

constexpr uint64_t kSq = 0;
constexpr uint64_t kCq = 0x1000;
constexpr uint64_t kData = 0x2000;

// Memory that the device can reach by asking for it only.
class LateWrite : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(image_).close();
    ASSERT_EQ(truncate(image_.c_str(), 1 << 20), 0);
    ManagedDevice::Options options;
    options.program = "devices/pci_nvme/holdfast-pci-nvme";
    options.policy = "devices/pci_nvme/pci_nvme.policy";
    options.policy_includes = {"sandbox/policies"};
    options.store_program = "statestore/store/holdfast-store";
    options.resources = {{"image", image_}};
    auto device = ManagedDevice::Start(options);
    ASSERT_OK(device);
    device_ = *std::move(device);
    auto client = Client::Connect(device_->socket_path());
    ASSERT_OK(client);
    client_ = *std::move(client);
    ASSERT_OK(client_->Negotiate());
    ASSERT_OK(client_->MapByMessage(0, absl::MakeSpan(memory_)));
    ASSERT_OK(client_->Write(kPciConfigRegion, pci::kCommand.offset(),
                             pci::kCommandMemory | pci::kCommandMaster, 2));
    Set(nvme::kAdminQueues.offset(), 15u << 16 | 15);
    Set(nvme::kAdminSq.offset(), kSq, 8);
    Set(nvme::kAdminCq.offset(), kCq, 8);
    Set(nvme::kConfiguration.offset(), 0x00460001);
    ASSERT_TRUE(PollUntil([this] { return IsReady(); }));
  }

  void Set(uint64_t offset, uint64_t value, uint32_t size = 4) {
    EXPECT_OK(client_->Write(0, offset, value, size));
  }
  bool IsReady() {
    const auto status = client_->Read(0, nvme::kStatus.offset(), 4);
    EXPECT_OK(status);
    return status.ok() && (*status & nvme::kReady) != 0;
  }
  // Identify, as the first command of the admin queue; the device's write of
  // the data is taken and not done.
  void HoldAWrite() {
    nvme::Command command = {};
    command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kIdentify);
    command.cdw10 = 1;
    command.prp1 = kData;
    std::memcpy(&memory_[kSq], &command, sizeof(command));
    Set(nvme::kDoorbells.offset(), 1);
    // The command is asked for, and answered.
    ASSERT_OK(client_->AnswerAsks(1));
    client_->HoldAnswers(true);
    ASSERT_TRUE(PollUntil([this] {
      IsReady();
      return client_->held() > 0;
    }));
    ASSERT_EQ(memory_[kData], 0);
  }

  TempDir directory_;
  const std::string image_ = directory_.File("image");
  std::vector<uint8_t> memory_ = std::vector<uint8_t>(0x3000);
  std::unique_ptr<ManagedDevice> device_;
  std::unique_ptr<Client> client_;
};

TEST_F(LateWrite, OfADeadProcessIsDoneBeforeTheControllerIsDisabled) {
  HoldAWrite();
  ASSERT_OK(device_->Kill(SIGKILL));
  Set(nvme::kConfiguration.offset(), 0x00460000);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(IsReady()) << "a write is owed";
    usleep(500);
  }
  client_->HoldAnswers(false);
  ASSERT_OK(client_->AnswerHeld());
  EXPECT_NE(memory_[kData], 0);
  EXPECT_TRUE(PollUntil([this] { return !IsReady(); }));
}

// The VMM's own reset waits for nothing: it knows what it was asked.
TEST_F(LateWrite, DoesNotHoldUpAResetOfTheDevice) {
  HoldAWrite();
  ASSERT_OK(device_->Kill(SIGKILL));
  Set(nvme::kConfiguration.offset(), 0x00460000);
  ASSERT_OK(client_->Ask(vfio_user::Command::kDeviceReset, {}));
  EXPECT_FALSE(IsReady());
  client_->HoldAnswers(false);
  ASSERT_OK(client_->AnswerHeld());
}

}  // namespace
}  // namespace holdfast::testing

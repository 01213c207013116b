// A change of configuration space reaches the driver, wherever the device dies
// between the change and the message.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "devices/runtime/config_notice.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vhost_user/testing/front_end.h"
#include "devices/vhost_user/testing/message_builder.h"
#include "gtest/gtest.h"
#include "statestore/segment.h"

namespace holdfast::testing {
namespace {

using FrontEndBuffer = FrontEnd::Buffer;

constexpr uint64_t kSector = 512;

class ConfigChange : public ::testing::Test {
 protected:
  void Start(const std::string& program, const std::string& policy,
             const std::string& resource) {
    file_.Reset(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    Grow(64 * kSector);
    ManagedDevice::Options options;
    options.program = program;
    options.policy = policy;
    options.policy_includes = {"sandbox/policies"};
    options.store_program = "statestore/store/holdfast-store";
    options.resources = {{resource, path_}};
    auto device = ManagedDevice::Start(options);
    ASSERT_OK(device);
    device_ = *std::move(device);
    auto vmm = FrontEnd::Connect(device_->socket_path(), {});
    ASSERT_OK(vmm);
    vmm_ = *std::move(vmm);
    ASSERT_OK(vmm_->Start());
    EXPECT_FALSE(IsTold());
  }

  void StartDisk() {
    Start("devices/virtio_blk/holdfast-virtio-blk",
          "devices/virtio_blk/virtio_blk.policy", "image");
  }

  void Grow(uint64_t size) {
    size_ = size;
    ASSERT_EQ(ftruncate(file_.get(), static_cast<off_t>(size)), 0);
  }

  void SayThatItHasGrown() { ASSERT_OK(device_->TellResourceChanged()); }

  // Whether a message for the VMM is there.
  bool IsTold() {
    pollfd poll = {vmm_->backend_channel().get(), POLLIN, 0};
    return ::poll(&poll, 1, 0) == 1;
  }

  // The first eight bytes.
  uint64_t Config() {
    uint64_t value = 0;
    const auto bytes = vmm_->GetConfig(0, sizeof(value));
    EXPECT_OK(bytes);
    if (bytes.ok()) std::memcpy(&value, bytes->data(), sizeof(value));
    return value;
  }

  void ExpectTold() {
    const auto message = vmm_->ReceiveBackendRequest();
    ASSERT_OK(message);
    EXPECT_EQ(
        message->header.request,
        static_cast<uint32_t>(vhost_user::BackendRequestType::kConfigChange));
  }

  TempDir directory_;
  const std::string path_ = directory_.File("resource");
  UniqueFd file_;
  uint64_t size_ = 0;
  std::unique_ptr<ManagedDevice> device_;
  std::unique_ptr<FrontEnd> vmm_;
};

class GrowingDevice : public ConfigChange {
 protected:
  // The active child dies with the wish to tell; its successor measured the
  // file after it had grown, so that nothing looks new to it.
  void DieWithTheWishToTell(bool forget) {
    Start("tests/recovery/growing_device",
          "devices/virtio_rng/virtio_rng.policy", "file");
    ASSERT_OK(device_->Kill(SIGKILL));
    ASSERT_OK(vmm_->Transact(0, {FrontEndBuffer::Writable(1)}));
    Grow(size_ * 2);
    ASSERT_OK(device_->AddStandby());
    if (forget) Forget();
    SayThatItHasGrown();
    ASSERT_OK(device_->AwaitRecovery());
    // The answer of the successor: it has taken over completely.
    EXPECT_EQ(Config(), size_);
  }

  // As if nobody had remembered what was told.
  void Forget() {
    const auto mapping =
        MapShared(device_->segment(), 0, *FileSize(device_->segment()),
                  MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    const auto segment = Segment::Attach(mapping->span());
    ASSERT_OK(segment);
    const absl::Span<uint8_t> record = segment->section(SectionType::kSession);
    ASSERT_EQ(record.size(), sizeof(SessionRecord));
    std::memset(record.data(), 0, record.size());
  }
};

TEST_F(GrowingDevice, IsToldByTheSuccessorOfOneThatDiedBefore) {
  DieWithTheWishToTell(/*forget=*/false);
  EXPECT_TRUE(IsTold());
  ExpectTold();
  // And once is enough.
  ASSERT_OK(device_->AddStandby());
  ASSERT_OK(device_->Kill(SIGKILL));
  EXPECT_EQ(Config(), size_);
  EXPECT_FALSE(IsTold());
}

// The control: this test would notice.
TEST_F(GrowingDevice, TheNewsIsLostWithoutTheRecord) {
  DieWithTheWishToTell(/*forget=*/true);
  EXPECT_FALSE(IsTold());
}

// A standby that was parked before the file grew, and a launcher whose message
// died with the active child.
TEST_F(GrowingDevice, AStandbyLooksAgain) {
  Start("tests/recovery/growing_device", "devices/virtio_rng/virtio_rng.policy",
        "file");
  Grow(size_ * 2);
  ASSERT_OK(device_->Kill(SIGKILL));
  ExpectTold();
  EXPECT_EQ(Config(), size_);
}

// The driver has been told, and uses the new part at once. The standby was
// parked before: it looks again before it serves the first message, and before
// it executes the first request.
TEST_F(ConfigChange, NobodyServesWithTheSizeOfBefore) {
  StartDisk();
  const uint64_t old_sectors = size_ / kSector;
  Grow(size_ * 2);
  SayThatItHasGrown();
  ExpectTold();
  ASSERT_EQ(Config(), 2 * old_sectors);

  // Stands still, so that both wait for the successor.
  siginfo_t info;
  ASSERT_EQ(kill(device_->active_pid(), SIGSTOP), 0);
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(device_->active_pid()), &info,
                   WSTOPPED | WNOWAIT),
            0);
  ASSERT_OK(vmm_->SendRaw(vhost_user::Message(
      vhost_user::RequestType::kGetConfig,
      vhost_user::ConfigPayload(0, 0, std::vector<uint8_t>(8)))));
  std::vector<uint8_t> read(16);  // VIRTIO 1.2, 5.2.6: type, 0, sector.
  std::memcpy(&read[8], &old_sectors, sizeof(old_sectors));
  const auto request = vmm_->driver(0).Post({FrontEndBuffer::Readable(read),
                                             FrontEndBuffer::Writable(kSector),
                                             FrontEndBuffer::Writable(1)});
  ASSERT_TRUE(request.has_value());
  ASSERT_OK(vmm_->Kick(0));
  ASSERT_OK(device_->Kill(SIGKILL));

  const auto reply = vmm_->Receive();
  ASSERT_OK(reply);
  uint64_t sectors = 0;
  ASSERT_EQ(reply->payload.size(),
            sizeof(vhost_user::ConfigHeader) + sizeof(sectors));
  std::memcpy(&sectors,
              reply->payload.data() + sizeof(vhost_user::ConfigHeader),
              sizeof(sectors));
  EXPECT_EQ(sectors, 2 * old_sectors);
  std::vector<FrontEnd::Answer> answers;
  while (answers.empty()) {
    ASSERT_OK(vmm_->WaitForCall(0));
    answers = vmm_->driver(0).Collect();
  }
  ASSERT_EQ(answers[0].data.size(), kSector + 1);
  EXPECT_EQ(answers[0].data.back(), 0) << "VIRTIO_BLK_S_OK";
}

TEST_F(ConfigChange, ReachesTheGuestOverKillsAtRandom) {
  StartDisk();
  const char* const scale = getenv("HOLDFAST_KILLS");
  const int rounds = scale != nullptr ? atoi(scale) : 40;
  std::mt19937 random(1);
  for (int round = 0; round < rounds; ++round) {
    Grow(size_ + kSector);
    SayThatItHasGrown();
    usleep(random() % 300);
    ASSERT_OK(device_->Kill(SIGKILL));
    ASSERT_OK(device_->AddStandby());
    // One message for a change, or two.
    ExpectTold();
    EXPECT_EQ(Config(), size_ / kSector);
    while (IsTold()) ExpectTold();
  }
}

}  // namespace
}  // namespace holdfast::testing

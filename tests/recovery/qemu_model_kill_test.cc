// A device that is killed at every message of a QEMU's session. The model of
// QEMU must send what it sends to a device that nobody kills, which is what a
// real one was recorded to send, and its guest must see nothing.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "devices/vfio_user/testing/qemu_model.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Bytes;
using ::holdfast::vfio_user::QemuModel;
using ::holdfast::vfio_user::QemuWire;

// When the device dies, seen from a message of QEMU's.
enum class Death { kNever, kBefore, kAfter };

// A QEMU's socket. Kills the device around every message.
class DeadlyWire final : public QemuWire {
 public:
  DeadlyWire(ManagedDevice& device, Death death)
      : device_(device),
        death_(death),
        memory_(*CreateSealedMemfd("qemu-memory", QemuModel::kMemorySize)),
        socket_(*ConnectTo(device.socket_path())) {}

  int kills() const { return kills_; }

  bool Send(const Bytes& message, Attached attached) override {
    if (death_ == Death::kBefore) Kill();
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    events_.emplace_back(event);
    std::vector<int> descriptors;
    if (attached == Attached::kMemory) descriptors = {memory_.get()};
    if (attached == Attached::kEvent) descriptors = {event};
    const ssize_t sent = SendFds(socket_, message, descriptors, 0);
    if (sent != static_cast<ssize_t>(message.size())) return false;
    if (death_ == Death::kAfter) Kill();
    return true;
  }

  // QEMU waits 5 s by the clock; a busy machine's clock says nothing.
  Came Receive(Bytes& bytes, size_t& descriptors) override {
    pollfd readable = {socket_.get(), POLLIN, 0};
    constexpr int kMostMs = 120000;
    if (poll(&readable, 1, kMostMs) != 1) return Came::kNothing;
    uint8_t buffer[65536];
    UniqueFd fds[16];
    const Received got =
        ReceiveFds(socket_, {buffer, sizeof(buffer)}, absl::MakeSpan(fds), 0);
    if (got.size <= 0) return Came::kEnd;
    bytes.insert(bytes.end(), buffer, buffer + got.size);
    descriptors += got.fd_count;
    return Came::kBytes;
  }

 private:
  void Kill() {
    EXPECT_OK(device_.Kill(SIGKILL).status());
    EXPECT_OK(device_.AddStandby());
    ++kills_;
  }

  ManagedDevice& device_;
  const Death death_;
  UniqueFd memory_;
  UniqueFd socket_;
  std::vector<UniqueFd> events_;
  int kills_ = 0;
};

ManagedDevice::Options OptionsOf(const std::string& program,
                                 const std::string& policy) {
  ManagedDevice::Options options;
  options.program = program;
  options.policy = policy;
  options.policy_includes = {"sandbox/policies"};
  options.store_program = "statestore/store/holdfast-store";
  return options;
}

std::string Golden(const std::string& name) {
  std::ifstream file("devices/vfio_user/golden/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Sent(const QemuModel& qemu) {
  return absl::StrJoin(qemu.sent(), "\n") + "\n";
}

ManagedDevice::Options HelloPci() {
  return OptionsOf("examples/hello_pci/hello_pci",
                   "examples/hello_pci/hello_pci.policy");
}

// Plugged in, squares a number, reboots, squares another one.
void LiveASession(QemuModel& qemu) {
  ASSERT_TRUE(qemu.Realize());
  EXPECT_EQ(Sent(qemu), Golden("qemu_realize_msix.txt"));
  for (const uint32_t number : {7, 9}) {
    qemu.Write(/*region=*/7, 0x04, 0x6, 2);
    qemu.Write(/*region=*/0, 0x04, number, 4);
    EXPECT_EQ(qemu.Read(0, 0x08, 4), number * number);
    EXPECT_EQ(qemu.Read(0, 0x0c, 4), 1u);
    qemu.Write(/*region=*/0, 0x0c, 1, 4);
    EXPECT_EQ(qemu.Read(0, 0x0c, 4), 0u);
    qemu.Reset();
    EXPECT_EQ(qemu.Read(0, 0x08, 4), 0u);
  }
}

void ExpectNothingSeen(const QemuModel& qemu) {
  EXPECT_EQ(absl::StrJoin(qemu.said(), "; "), "");
  EXPECT_EQ(qemu.timeouts(), 0);
  EXPECT_FALSE(qemu.dead());
}

class QemuModelKills : public ::testing::TestWithParam<Death> {};

TEST_P(QemuModelKills, AreNotSeen) {
  const auto device = ManagedDevice::Start(HelloPci());
  ASSERT_OK(device);
  ASSERT_OK((*device)->AddStandby());
  DeadlyWire wire(**device, GetParam());
  QemuModel qemu(wire);
  LiveASession(qemu);
  ExpectNothingSeen(qemu);
  EXPECT_EQ(wire.kills(), GetParam() == Death::kNever
                              ? 0
                              : static_cast<int>(qemu.sent().size()));
}

INSTANTIATE_TEST_SUITE_P(Deaths, QemuModelKills,
                         ::testing::Values(Death::kNever, Death::kBefore,
                                           Death::kAfter));

TEST(QemuModelSession, APlainDeviceIsToldWhatARealQemuTellsIt) {
  const auto device = ManagedDevice::Start(OptionsOf(
      "devices/pci_edu/holdfast-pci-edu", "devices/pci_edu/pci_edu.policy"));
  ASSERT_OK(device);
  DeadlyWire wire(**device, Death::kNever);
  QemuModel qemu(wire);
  EXPECT_TRUE(qemu.Realize());
  EXPECT_EQ(Sent(qemu), Golden("qemu_realize_intx.txt"));
  ExpectNothingSeen(qemu);
}

}  // namespace
}  // namespace holdfast::testing

// A device that is killed at every message of a client's session. The model of
// QEMU must send what it sends to a device that nobody kills, which is what a
// real one was recorded to send, the model of Cloud Hypervisor what its source
// says, and their guests must see nothing.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vfio_user/testing/client_wire.h"
#include "devices/vfio_user/testing/cloud_hypervisor_model.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "devices/vfio_user/testing/qemu_model.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vfio_user::Bytes;
using ::holdfast::vfio_user::ClientWire;
using ::holdfast::vfio_user::CloudHypervisorModel;
using ::holdfast::vfio_user::QemuModel;

// When the device dies, seen from a message of the client's.
enum class Death { kNever, kBefore, kAfter };

// A client's socket. Kills the device around every message.
class DeadlyWire final : public ClientWire {
 public:
  DeadlyWire(ManagedDevice& device, Death death)
      : device_(device),
        death_(death),
        memory_(*CreateSealedMemfd("guest-memory", QemuModel::kMemorySize)),
        socket_(*ConnectTo(device.socket_path())) {}

  int kills() const { return kills_; }

  bool Send(const Bytes& message, Attached attached, size_t count) override {
    if (death_ == Death::kBefore) Kill();
    std::vector<int> descriptors;
    for (size_t i = 0; i < count && attached == Attached::kEvent; ++i) {
      events_.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      descriptors.push_back(events_.back().get());
    }
    if (attached == Attached::kMemory) descriptors = {memory_.get()};
    const ssize_t sent = SendFds(socket_, message, descriptors, 0);
    if (sent != static_cast<ssize_t>(message.size())) return false;
    if (death_ == Death::kAfter) Kill();
    return true;
  }

  // Events that the last `count` descriptors were sent of have come.
  bool Interrupted(size_t count) {
    for (size_t i = events_.size() - count; i < events_.size(); ++i) {
      uint64_t signals = 0;
      if (read(events_[i].get(), &signals, sizeof(signals)) > 0) return true;
    }
    return false;
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

template <typename Model>
std::string Sent(const Model& model) {
  return absl::StrJoin(model.sent(), "\n") + "\n";
}

ManagedDevice::Options HelloPci() {
  return OptionsOf("examples/hello_pci/hello_pci",
                   "examples/hello_pci/hello_pci.policy");
}

// What was sent since the last call.
class Tail {
 public:
  explicit Tail(const QemuModel& qemu) : qemu_(qemu) {}
  std::string Next() {
    std::string text;
    while (taken_ < qemu_.sent().size()) {
      absl::StrAppend(&text, qemu_.sent()[taken_++], "\n");
    }
    return text;
  }

 private:
  const QemuModel& qemu_;
  size_t taken_ = 0;
};

// Plugged in and switched on, squares a number, reboots, squares another one.
void LiveASession(QemuModel& qemu, DeadlyWire& wire) {
  Tail tail(qemu);
  ASSERT_TRUE(qemu.Realize());
  EXPECT_EQ(tail.Next(), Golden("qemu_realize_msix.txt"));
  qemu.BootFirmware();
  EXPECT_EQ(tail.Next(), Golden("qemu_firmware_msix.txt"));
  qemu.EnableMsix();
  qemu.UnmaskAgain();
  qemu.DisableMsix();
  EXPECT_EQ(tail.Next(), Golden("qemu_vectors_msix.txt"));
  for (const uint32_t number : {7, 9}) {
    qemu.Write(/*region=*/7, 0x04, 0x6, 2);
    qemu.EnableMsix();
    qemu.Write(/*region=*/0, 0x04, number, 4);
    EXPECT_EQ(qemu.Read(0, 0x08, 4), number * number);
    EXPECT_TRUE(wire.Interrupted(1));
    EXPECT_EQ(qemu.Read(0, 0x0c, 4), 1u);
    qemu.Write(/*region=*/0, 0x0c, 1, 4);
    EXPECT_EQ(qemu.Read(0, 0x0c, 4), 0u);
    qemu.DisableMsix();
    qemu.Reset();
    EXPECT_EQ(qemu.Read(0, 0x08, 4), 0u);
  }
}

void ExpectNothingSeen(const QemuModel& qemu) {
  EXPECT_EQ(absl::StrJoin(qemu.said(), "; "), "");
  EXPECT_EQ(qemu.timeouts(), 0);
  EXPECT_FALSE(qemu.dead());
}

class ClientModelKills : public ::testing::TestWithParam<Death> {};

TEST_P(ClientModelKills, AreNotSeen) {
  const auto device = ManagedDevice::Start(HelloPci());
  ASSERT_OK(device);
  ASSERT_OK((*device)->AddStandby());
  DeadlyWire wire(**device, GetParam());
  QemuModel qemu(wire);
  LiveASession(qemu, wire);
  ExpectNothingSeen(qemu);
  EXPECT_EQ(wire.kills(), GetParam() == Death::kNever
                              ? 0
                              : static_cast<int>(qemu.sent().size()));
}

INSTANTIATE_TEST_SUITE_P(Deaths, ClientModelKills,
                         ::testing::Values(Death::kNever, Death::kBefore,
                                           Death::kAfter));

// Added, squares a number by a vector, and another one without.
void LiveASession(CloudHypervisorModel& machine, DeadlyWire& wire) {
  ASSERT_TRUE(machine.Add());
  EXPECT_EQ(Sent(machine), Golden("cloud_hypervisor_add_msix.txt"));
  machine.EnableMsix(true);
  machine.Write(/*region=*/7, 0x04, 0x6, 2);
  EXPECT_EQ(machine.ReadConfig(0x00), 0x00ff1b36u);
  machine.Write(/*region=*/0, 0x04, 7, 4);
  EXPECT_EQ(machine.Read(0, 0x08, 4), 49u);
  EXPECT_TRUE(wire.Interrupted(1)) << "the table was never written";
  machine.EnableMsix(false);
  machine.Write(/*region=*/0, 0x04, 9, 4);
  EXPECT_EQ(machine.Read(0, 0x08, 4), 81u);
}

TEST_P(ClientModelKills, AreNotSeenByCloudHypervisor) {
  const auto device = ManagedDevice::Start(HelloPci());
  ASSERT_OK(device);
  ASSERT_OK((*device)->AddStandby());
  DeadlyWire wire(**device, GetParam());
  CloudHypervisorModel machine(wire);
  LiveASession(machine, wire);
  EXPECT_EQ(absl::StrJoin(machine.said(), "; "), "");
  EXPECT_FALSE(machine.stands_still());
  EXPECT_EQ(wire.kills(), GetParam() == Death::kNever
                              ? 0
                              : static_cast<int>(machine.sent().size()));
}

TEST(ClientModelSession, APlainDeviceIsToldWhatARealQemuTellsIt) {
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

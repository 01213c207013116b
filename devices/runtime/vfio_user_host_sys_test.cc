#include "devices/runtime/vfio_user_host_sys.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "devices/pci_edu/pci_edu.h"
#include "devices/runtime/testing/edu_rig_sys.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::vfio_user::Command;
using ::holdfast::vfio_user::IrqSet;
using ::holdfast::vfio_user::Join;

constexpr uint64_t kMemory = 64 << 10;

class VfioUserHostTest : public testing::EduRig {
 protected:
  VfioUserHostTest() {
    memory_.Reset(memfd_create("vmm-memory", MFD_CLOEXEC));
    EXPECT_EQ(ftruncate(memory_.get(), kMemory), 0);
    bytes_ =
        static_cast<uint8_t*>(mmap(nullptr, kMemory, PROT_READ | PROT_WRITE,
                                   MAP_SHARED, memory_.get(), 0));
    Connect();
  }
  ~VfioUserHostTest() override { munmap(bytes_, kMemory); }

  // The device dies, and its successor takes over.
  void Succeed() {
    rig_.Die();
    ASSERT_OK(rig_.Run());
  }

  // A transfer between memory at `address` and the buffer; waits for its end.
  void Transfer(uint64_t address, bool from_buffer) {
    Order(address, from_buffer);
    for (int i = 0; i < 10000 && (Read(0x98) & 1) != 0; ++i) usleep(100);
    EXPECT_EQ(Read(0x98) & 1, 0u);
  }
  void FillMemory(uint64_t offset, uint8_t first) {
    for (size_t i = 0; i < 4096; ++i) {
      bytes_[offset + i] = static_cast<uint8_t>(first + i);
    }
  }
  bool SameMemory(uint64_t a, uint64_t b) {
    return std::memcmp(bytes_ + a, bytes_ + b, 4096) == 0;
  }

  absl::Status SetIrq(uint32_t flags, const std::vector<int>& fds = {}) {
    return client_
        ->Ask(Command::kDeviceSetIrqs, Join(IrqSet{20, flags, 0, 0, 1}), fds)
        .status();
  }
  // Signals that come soon.
  static uint64_t Taken(const UniqueFd& event, int patience_ms = 20) {
    pollfd poll_fd = {event.get(), POLLIN, 0};
    if (poll(&poll_fd, 1, patience_ms) != 1) return 0;
    uint64_t count = 0;
    return read(event.get(), &count, sizeof(count)) < 0 ? 0 : count;
  }
  static constexpr int kLong = 20000;
  // Bytes that the client has sent and the device has not taken out.
  int Left() {
    int left = -1;
    EXPECT_EQ(ioctl(client_->socket().get(), SIOCOUTQ, &left), 0);
    return left;
  }

  UniqueFd memory_;
  uint8_t* bytes_ = nullptr;
};

TEST_F(VfioUserHostTest, RegistersOutliveTheProcess) {
  Write(0x04, 0x12345678);
  EXPECT_EQ(Read(0x04), ~0x12345678u);
  Succeed();
  EXPECT_EQ(Read(0x04), ~0x12345678u);
  EXPECT_EQ(Read(0x00), edu::kVersion);
}

// The device looks at requests and lets them lie. A client that waits for room
// would wait for ever.
TEST_F(VfioUserHostTest, ASocketThatIsSilentIsEmptied) {
  for (int i = 0; i < 100; ++i) {
    Write(0x04, i);
    EXPECT_EQ(Read(0x04), ~static_cast<uint32_t>(i));
    if (i % 10 != 0) continue;
    while (Left() != 0) usleep(1000);
  }
}

// With the smallest send buffer that Linux has, two requests that lie there are
// too much for a client that asks whether there is room.
TEST_F(VfioUserHostTest, AClientWithLittleRoomWaitsForSilenceOnly) {
  const int smallest = 1;
  ASSERT_EQ(setsockopt(client_->socket().get(), SOL_SOCKET, SO_SNDBUF,
                       &smallest, sizeof(smallest)),
            0);
  const auto has_room = [this](int patience_ms) {
    pollfd poll_fd = {client_->socket().get(), POLLOUT, 0};
    return poll(&poll_fd, 1, patience_ms) == 1;
  };
  for (int i = 0; i < 3; ++i) {
    // So that nothing is left of what was before.
    ASSERT_TRUE(has_room(kLong));
    while (Left() != 0) usleep(1000);
    rig_.settles = false;
    for (int j = 0; j < 2; ++j) EXPECT_EQ(Read(0x00), edu::kVersion);
    EXPECT_FALSE(has_room(100)) << "it is emptied without silence";
    // Two more still fit. Whoever has waited for them notices the silence.
    rig_.settles = true;
    EXPECT_EQ(Read(0x00), edu::kVersion);
    EXPECT_TRUE(has_room(kLong)) << "silence was not noticed";
  }
}

// Or the client would get ECONNRESET instead of the end of the stream.
TEST_F(VfioUserHostTest, AProcessThatEndsEmptiesTheSocket) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Read(0x00), edu::kVersion);
    rig_.Die();
    EXPECT_EQ(Left(), 0);
    ASSERT_OK(rig_.Run());
  }
}

TEST_F(VfioUserHostTest, ARequestIsServedThatCameWhileNobodyServed) {
  rig_.Die();
  Write(0x04, 7);
  ASSERT_OK(rig_.Run());
  while (Left() != 0) usleep(1000);
  rig_.Die();
  ASSERT_OK(rig_.Run());
  EXPECT_EQ(Read(0x04), ~7u);
}

TEST_F(VfioUserHostTest, WindowsOutliveTheProcess) {
  // Two windows of one file, the second not where it lies in the file.
  ASSERT_OK(client_->Map(0x10000, memory_, 0, 0x2000));
  ASSERT_OK(client_->Map(0x40000000 >> 4, memory_, 0x8000, 0x1000));
  FillMemory(0, 3);
  Transfer(0x10000, false);
  Succeed();
  Transfer(0x40000000 >> 4, true);
  EXPECT_TRUE(SameMemory(0, 0x8000));
}

TEST_F(VfioUserHostTest, AFileIsMappedAndKeptOnce) {
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_OK(client_->Map(0x10000 + i * 0x2000, memory_, i * 0x1000, 0x1000));
  }
  std::ifstream maps("/proc/self/maps");
  int found = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:vmm-memory") != std::string::npos) ++found;
  }
  EXPECT_EQ(found, 2);  // With the one of this test.
  EXPECT_EQ(rig_.keeper().session_slots(), 1u);
  // Gone with the last window.
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_OK(client_->Unmap(0x10000 + i * 0x2000, 0x1000));
  }
  EXPECT_EQ(rig_.keeper().session_slots(), 0u);
}

TEST_F(VfioUserHostTest, AWindowThatIsTakenAwayIsNotUsed) {
  ASSERT_OK(client_->Map(0x10000, memory_, 0, 0x2000));
  FillMemory(0, 3);
  Transfer(0x10000, false);
  ASSERT_OK(client_->Unmap(0x10000, 0x2000));
  std::memset(bytes_, 0, 4096);
  Transfer(0x10000, true);
  EXPECT_EQ(bytes_[1], 0);
  // And may come again, elsewhere in the file.
  ASSERT_OK(client_->Map(0x10000, memory_, 0x4000, 0x1000));
  Transfer(0x10000, true);
  EXPECT_EQ(bytes_[0x4001], 4);
}

TEST_F(VfioUserHostTest, AWindowThatCannotBeIsRefused) {
  EXPECT_FALSE(client_->Map(0x10000, memory_, 0, kMemory + 0x1000).ok());
  const UniqueFd read_only(
      open(absl::StrCat("/proc/self/fd/", memory_.get()).c_str(),
           O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(client_->Map(0x10000, read_only, 0, 0x1000).ok());
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(client_->Map(0x10000, null, 0, 0x1000).ok());
  ASSERT_OK(client_->Map(0x10000, memory_, 0, 0x1000));
  EXPECT_EQ(rig_.keeper().session_slots(), 1u);
  EXPECT_EQ(Read(0x00), edu::kVersion);
}

// The window is the device's, but there is no memory in it.
TEST_F(VfioUserHostTest, AFileThatWasCutIsNotTouchedByASuccessor) {
  ASSERT_OK(client_->Map(0x10000, memory_, 0, 0x2000));
  munmap(bytes_, kMemory);
  ASSERT_EQ(ftruncate(memory_.get(), 0), 0);
  bytes_ = static_cast<uint8_t*>(
      mmap(nullptr, kMemory, PROT_READ, MAP_SHARED, memory_.get(), 0));
  Succeed();
  Transfer(0x10000, true);
  EXPECT_EQ(Read(0x00), edu::kVersion);
  ASSERT_OK(client_->Unmap(0x10000, 0x2000));
}

TEST_F(VfioUserHostTest, ALevelInterruptsOnceUntilItIsLetThrough) {
  using namespace vfio_user;
  const auto event = client_->Listen(kPciIntxIrq, 0);
  ASSERT_OK(event);
  Write(0x60, 1);
  EXPECT_EQ(Taken(*event, kLong), 1u);
  Write(0x60, 2);
  EXPECT_EQ(Read(0x24), 3u);
  EXPECT_EQ(Taken(*event), 0u);
  // Still asserted when it is let through; then no more.
  ASSERT_OK(SetIrq(kIrqDataNone | kIrqActionUnmask));
  EXPECT_EQ(Taken(*event, kLong), 1u);
  Write(0x64, 3);
  ASSERT_OK(SetIrq(kIrqDataNone | kIrqActionUnmask));
  EXPECT_EQ(Taken(*event), 0u);
  // Masked by the VMM it waits.
  ASSERT_OK(SetIrq(kIrqDataNone | kIrqActionMask));
  Write(0x60, 1);
  EXPECT_EQ(Read(0x24), 1u);
  EXPECT_EQ(Taken(*event), 0u);
  ASSERT_OK(SetIrq(kIrqDataNone | kIrqActionUnmask));
  EXPECT_GE(Taken(*event, kLong), 1u);
}

TEST_F(VfioUserHostTest, ALevelIsLetThroughByDescriptor) {
  using namespace vfio_user;
  const auto event = client_->Listen(kPciIntxIrq, 0);
  ASSERT_OK(event);
  const UniqueFd unmask(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_OK(SetIrq(kIrqDataEventFd | kIrqActionUnmask, {unmask.get()}));
  Write(0x60, 1);
  EXPECT_EQ(Taken(*event, kLong), 1u);
  eventfd_write(unmask.get(), 1);
  EXPECT_EQ(Taken(*event, kLong), 1u);
  Succeed();
  EXPECT_EQ(Taken(*event, kLong), 1u);  // It may not have been signalled.
  eventfd_write(unmask.get(), 1);
  EXPECT_EQ(Taken(*event, kLong), 1u);
}

// QEMU stops a machine whose device signals an error.
TEST_F(VfioUserHostTest, ASuccessorSignalsNothingThatNobodyRaised) {
  const auto error = client_->Listen(kPciErrorIrq, 0);
  const auto level = client_->Listen(kPciIntxIrq, 0);
  const auto message = client_->Listen(kPciMsiIrq, 0);
  ASSERT_OK(error);
  ASSERT_OK(level);
  ASSERT_OK(message);
  for (int i = 0; i < 3; ++i) {
    Succeed();
    EXPECT_EQ(Read(0x00), edu::kVersion);
  }
  EXPECT_EQ(Taken(*error) + Taken(*level) + Taken(*message), 0u);
}

TEST_F(VfioUserHostTest, TheNextClientFindsAResetDevice) {
  ASSERT_OK(client_->Map(0x10000, memory_, 0, 0x2000));
  ASSERT_OK(client_->Listen(kPciIntxIrq, 0));
  Write(0x04, 7);
  EXPECT_EQ(Read(0x04), ~7u);
  client_.reset();
  for (int i = 0; i < 10000 && rig_.keeper().closed().empty(); ++i) usleep(500);
  EXPECT_EQ(rig_.keeper().closed(), std::vector<uint64_t>{1});
  EXPECT_EQ(rig_.keeper().session_slots(), 0u);
  Connect();
  EXPECT_EQ(Read(0x04), 0u);
  Write(0x04, 9);
  Succeed();
  EXPECT_EQ(Read(0x04), ~9u);
}

TEST_F(VfioUserHostTest, WhoBreaksTheProtocolIsHungUpOn) {
  const std::string noise(64, '\xee');
  ASSERT_EQ(write(client_->socket().get(), noise.data(), noise.size()), 64);
  for (int i = 0; i < 10000 && rig_.keeper().closed().empty(); ++i) {
    (void)!write(client_->socket().get(), noise.data(), noise.size());
    usleep(500);
  }
  Connect();
  EXPECT_EQ(Read(0x00), edu::kVersion);
}

TEST_F(VfioUserHostTest, AStandbyMapsAheadAndTakesOver) {
  ASSERT_OK(client_->Map(0x10000, memory_, 0, 0x2000));
  FillMemory(0, 9);
  Transfer(0x10000, false);
  const auto standby = rig_.NewProcess();
  ASSERT_OK(standby->AttachSegment(rig_.segment()));
  ASSERT_OK(standby->Build());
  standby->MapAhead();
  while (standby->TouchSome()) {
  }
  rig_.Die();
  ASSERT_OK(standby->Promote(100));
  standby->Quiesce();
}

}  // namespace
}  // namespace holdfast

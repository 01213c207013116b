// The segment as a device process takes it: mapped, locked, formatted once.

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <memory>
#include <string>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/bus/pci_device.h"
#include "devices/bus/virtio_device.h"
#include "devices/runtime/command_line.h"
#include "devices/runtime/device_process_sys.h"
#include "devices/runtime/pci_class.h"
#include "devices/runtime/vhost_user_host_sys.h"
#include "devices/runtime/virtio_class.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/lane.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

// With as many queues as there can be.
class Wide final : public VirtioDevice {
 public:
  static VirtioSpec Spec() {
    VirtioSpec spec(virtio::kDeviceIdBlock);
    for (size_t i = 0; i < VirtioSpec::kMaxQueues; ++i) {
      spec.Queue("queue" + std::to_string(i), VirtioSpec::kMaxQueueSize);
    }
    return spec;
  }
  explicit Wide(VirtioContext&) {}
  absl::Status OnRequest(Request&, Txn&) override { return absl::OkStatus(); }
};

// With an area of so many bytes, and nothing else.
template <uint32_t kBytes>
class WithArea final : public PciDevice {
 public:
  static PciSpec Spec() {
    return PciSpec(PciId{0x1234, 0x5678}).Area("area", kBytes);
  }
  explicit WithArea(PciContext&) {}
};

class DeviceSegmentTest : public ::testing::Test {
 protected:
  static std::unique_ptr<DeviceHost> Host() {
    return *OverVhostUser(VirtioClassOf<Wide>()).open(DeviceOptions());
  }

  const CommandLine line_{};
  DeviceProcess process_{Host(), line_, "wide"};
};

size_t LockedKib() {
  std::ifstream status("/proc/self/status");
  std::string word;
  size_t kib = 0;
  while (status >> word) {
    if (word == "VmLck:") status >> kib;
  }
  return kib;
}

// Runs `body` in a process that may lock `limit` bytes and is nobody; its exit
// status, or -1 where one cannot become nobody.
int AsNobody(size_t limit, const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const rlimit lock{limit, limit};
    setrlimit(RLIMIT_MEMLOCK, &lock);
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(99);
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status) == 99 ? -1 : WEXITSTATUS(status);
}

TEST_F(DeviceSegmentTest, LocksWhatItUsesOfASegmentLargerThanTheLimit) {
  const auto segment = CreateSealedMemfd("test", size_t{16} << 20);
  ASSERT_OK(segment);
  const auto needed = process_.SegmentBytes();
  ASSERT_OK(needed);
  const int result = AsNobody(size_t{8} << 20, [&] {
    if (!process_.AttachSegment(*segment).ok()) return 1;
    return LockedKib() * 1024 >= *needed ? 0 : 2;
  });
  if (result < 0) GTEST_SKIP() << "cannot become another user here";
  EXPECT_EQ(result, 0);
}

TEST_F(DeviceSegmentTest, LocksTheLaneAloneWhenTheLimitIsTooSmallForAll) {
  const auto segment = CreateSealedMemfd("test", size_t{16} << 20);
  ASSERT_OK(segment);
  const size_t lane = LaneSize(VhostUserHost::Sizes());
  const size_t limit = lane + 65536;
  ASSERT_GT(*process_.SegmentBytes(), limit);
  const int result = AsNobody(limit, [&] {
    if (!process_.AttachSegment(*segment).ok()) return 1;
    return LockedKib() * 1024 >= lane ? 0 : 2;
  });
  if (result < 0) GTEST_SKIP() << "cannot become another user here";
  EXPECT_EQ(result, 0);
}

// A journal that may be missing would lose requests unnoticed.
TEST_F(DeviceSegmentTest, DoesNotServeWithALaneThatIsNotLocked) {
  const auto segment = CreateSealedMemfd("test", size_t{16} << 20);
  ASSERT_OK(segment);
  const int result = AsNobody(0, [&] {
    const absl::Status status = process_.AttachSegment(*segment);
    return absl::IsResourceExhausted(status) ? 0 : 1;
  });
  if (result < 0) GTEST_SKIP() << "cannot become another user here";
  EXPECT_EQ(result, 0);
}

TEST_F(DeviceSegmentTest, RefusesASegmentThatCanBeCutOrIsTooSmall) {
  const UniqueFd open_ended(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(open_ended.get(), 16 << 20), 0);
  EXPECT_THAT(process_.AttachSegment(open_ended),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not a memfd sealed")));
  const auto small = CreateSealedMemfd("test", 4096);
  EXPECT_THAT(process_.AttachSegment(*small),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("raise segment_bytes")));
}

// What is in areas is described nowhere, so their size is all that can be seen.
// A standby that does not fit is refused as one, and not when it is needed.
TEST_F(DeviceSegmentTest, RefusesASegmentWithOtherAreas) {
  const auto segment = CreateSealedMemfd("test", size_t{1} << 20);
  ASSERT_OK(segment);
  const auto attach = [&](auto device_class) {
    DeviceProcess process(*OverVfioUser(device_class).open(DeviceOptions()),
                          line_, "wide");
    return process.AttachSegment(*segment);
  };
  ASSERT_OK(attach(PciClassOf<WithArea<128>>()));
  EXPECT_OK(attach(PciClassOf<WithArea<128>>()));
  for (const absl::Status& refused : {attach(PciClassOf<WithArea<64>>()),
                                      attach(PciClassOf<WithArea<192>>())}) {
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("128 bytes of areas")));
  }
}

// Every byte of a header that somebody has scribbled over: refused or
// tolerated, but never a crash.
TEST_F(DeviceSegmentTest, SurvivesEveryFlippedByteOfTheFirstPages) {
  const auto size = process_.SegmentBytes();
  ASSERT_OK(size);
  const auto segment = CreateSealedMemfd("test", *size);
  ASSERT_OK(segment);
  ASSERT_OK(process_.AttachSegment(*segment));
  const auto view = MapShared(*segment, 0, *size, MapAccess::kReadWrite);
  ASSERT_OK(view);
  size_t refused = 0;
  for (size_t i = 0; i < 512; ++i) {
    view->data()[i] ^= 0xff;
    DeviceProcess other(Host(), line_, "wide");
    if (!other.AttachSegment(*segment).ok()) ++refused;
    view->data()[i] ^= 0xff;
  }
  EXPECT_GT(refused, 100u);
  DeviceProcess last(Host(), line_, "wide");
  EXPECT_OK(last.AttachSegment(*segment));
}

}  // namespace
}  // namespace holdfast

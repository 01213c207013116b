#include "devices/runtime/device_process_sys.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "devices/runtime/testing/process_rig_sys.h"
#include "devices/runtime/virtio_host_sys.h"
#include "gtest/gtest.h"
#include "statestore/store/protocol.h"

namespace holdfast {
namespace {

using ::holdfast::testing::ProcessRig;
using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class DeviceProcessTest : public ::testing::Test {
 protected:
  // What a process with these options says to the rig's segment.
  absl::Status Attach(const ProcessRig::Options& options) {
    return rig_.NewProcess(options)->AttachSegment(rig_.segment());
  }
  Mapping MapSegment() {
    return *MapShared(rig_.segment(), 0, *FileSize(rig_.segment()),
                      MapAccess::kReadWrite);
  }
  // A standby that has prepared itself for what it finds now.
  std::unique_ptr<DeviceProcess> Standby() {
    auto standby = rig_.NewProcess();
    EXPECT_OK(standby->AttachSegment(rig_.segment()));
    EXPECT_OK(standby->Build());
    standby->MapAhead();
    return standby;
  }
  // The running process dies, and the standby answers this VMM.
  void ExpectTakesOver(DeviceProcess& standby, testing::FrontEnd& vmm) {
    while (standby.TouchSome()) {
    }
    rig_.Die();
    ASSERT_OK(standby.Promote(100));
    ASSERT_TRUE(vmm.driver(0)
                    .Post({testing::FrontEnd::Buffer::Writable(8)})
                    .has_value());
    ASSERT_OK(vmm.Kick(0));
    EXPECT_TRUE(PollUntil([&] { return !vmm.driver(0).Collect().empty(); }));
    standby.Quiesce();
  }

  ProcessRig rig_;
};

TEST_F(DeviceProcessTest, FormatsANewSegmentAndFindsItAgain) {
  ASSERT_OK(Attach({}));
  const Mapping memory = MapSegment();
  const std::vector<uint8_t> formatted(memory.span().begin(),
                                       memory.span().end());
  ASSERT_OK(Attach({}));
  EXPECT_EQ(std::memcmp(memory.data(), formatted.data(), formatted.size()), 0);
}

// Active and standby start together. Processes, since the lock that keeps them
// apart does not do so for threads of one.
TEST_F(DeviceProcessTest, ManyMayAttachAtOnce) {
  const std::unique_ptr<DeviceProcess> process = rig_.NewProcess();
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const absl::Status status = process->AttachSegment(rig_.segment());
      if (!status.ok()) std::cerr << status << std::endl;
      _exit(status.ok() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

TEST_F(DeviceProcessTest, SaysHowLargeASegmentMustBe) {
  const auto process = rig_.NewProcess();
  const auto needed = process->SegmentBytes();
  ASSERT_OK(needed);
  const auto small = CreateSealedMemfd("small", 4096);
  ASSERT_OK(small);
  EXPECT_THAT(process->AttachSegment(*small),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("has 4096 bytes"),
                             HasSubstr(std::to_string(*needed)),
                             HasSubstr("raise segment_bytes"))));
}

TEST_F(DeviceProcessTest, RefusesTheSegmentOfAnother) {
  ProcessRig::Options options;
  options.compat_version = 2;
  ASSERT_OK(Attach(options));
  ProcessRig::Options other = options;
  other.name = "other";
  EXPECT_THAT(Attach(other), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("is of a 'rig'")));
  other = options;
  other.queues = 2;
  EXPECT_THAT(Attach(other), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("has 1 queues")));
}

TEST_F(DeviceProcessTest, GuestKeepsTheCompatVersionThatItWasStartedWith) {
  ProcessRig::Options options;
  options.compat_version = 2;
  ASSERT_OK(Attach(options));
  ProcessRig::Options other = options;
  other.compat_version = 3;  // A newer build...
  EXPECT_OK(Attach(other));
  other.pinned_version = 2;
  EXPECT_OK(Attach(other));
  other.pinned_version = 3;  // ... that is to show itself as such.
  EXPECT_THAT(Attach(other),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("was started with compat version 2"),
                             HasSubstr("give --compat-version=2"))));
  other = options;
  other.compat_version = 1;  // An older build.
  EXPECT_THAT(Attach(other), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("this binary serves 1 to 1")));
}

TEST_F(DeviceProcessTest, RefusesGarbage) {
  ASSERT_OK(Attach({}));
  const Mapping memory = MapSegment();
  for (size_t at : {8, 40, 64, 140, 300}) {
    SCOPED_TRACE(at);
    memory.data()[at] ^= 0xff;
    EXPECT_FALSE(Attach({}).ok());
    memory.data()[at] ^= 0xff;
  }
  EXPECT_OK(Attach({}));
}

TEST_F(DeviceProcessTest, DepositsOneInFlightRegionForLife) {
  const auto first = rig_.NewProcess();
  ASSERT_OK(first->AttachSegment(rig_.segment()));
  EXPECT_FALSE(rig_.keeper().Holds(VirtioHost::kInflightSlot));
  ASSERT_OK(first->Build());
  EXPECT_TRUE(rig_.keeper().Holds(VirtioHost::kInflightSlot));
  const int region = first->descriptors().Get(VirtioHost::kInflightSlot).get();
  ASSERT_EQ(pwrite(region, "mine", 4, 100), 4);
  // The next one finds it in its slots.
  const auto second = rig_.NewProcess();
  ASSERT_OK(second->AttachSegment(rig_.segment()));
  ASSERT_OK(second->Build());
  char text[4];
  ASSERT_EQ(pread(second->descriptors().Get(VirtioHost::kInflightSlot).get(),
                  text, 4, 100),
            4);
  EXPECT_EQ(std::memcmp(text, "mine", 4), 0);
}

// A process that was overtaken must not serve.
TEST_F(DeviceProcessTest, OnlyAHigherEpochIsPromoted) {
  const auto make = [&] {
    auto process = rig_.NewProcess();
    EXPECT_OK(process->AttachSegment(rig_.segment()));
    EXPECT_OK(process->Build());
    return process;
  };
  const auto first = make();
  const auto second = make();
  EXPECT_FALSE(first->active());
  ASSERT_OK(first->Promote(5));
  EXPECT_TRUE(first->active());
  // By a new store that has not heard of it.
  EXPECT_OK(first->Promote(5));
  EXPECT_THAT(second->Promote(5), StatusIs(absl::StatusCode::kAborted,
                                           HasSubstr("another process")));
  EXPECT_FALSE(second->active());
  ASSERT_OK(second->Promote(6));
}

TEST_F(DeviceProcessTest, MapAheadSurvivesASegmentThatWasNeverUsed) {
  const auto process = rig_.NewProcess();
  ASSERT_OK(process->AttachSegment(rig_.segment()));
  ASSERT_OK(process->Build());
  process->MapAhead();
  EXPECT_FALSE(process->TouchSome());
}

// What the standby maps is what the VMM has given to the active one.
TEST_F(DeviceProcessTest, MapAheadMapsTheMemoryOfTheActiveProcess) {
  ASSERT_OK(rig_.Run());
  const auto vmm = rig_.Connect();
  ASSERT_OK(vmm->Start());
  const auto standby = Standby();
  ExpectTakesOver(*standby, *vmm);
}

// The next VMM says just what the last one said, of other memory. A standby
// that is slow sees what it has said before it sees its descriptors.
TEST_F(DeviceProcessTest, AStandbyIsNotDeceivedByTheNextVmm) {
  ASSERT_OK(rig_.Run());
  auto vmm = rig_.Connect();
  ASSERT_OK(vmm->Start());
  const auto standby = Standby();
  vmm.reset();
  ASSERT_TRUE(PollUntil([&] { return !rig_.keeper().closed().empty(); }));
  vmm = rig_.Connect();
  ASSERT_OK(vmm->Start());
  // As the store tells it: first that the last VMM's are not needed any more.
  standby->descriptors().RetainSession(
      std::array<uint64_t, store::kSlotCount / 64>{});
  standby->MapAhead();
  rig_.keeper().GiveTo(standby->descriptors());
  standby->MapAhead();
  ExpectTakesOver(*standby, *vmm);
}

TEST_F(DeviceProcessTest, QuiesceAnswersWhatIsInFlight) {
  const auto process = rig_.NewProcess();
  ASSERT_OK(process->AttachSegment(rig_.segment()));
  ASSERT_OK(process->Build());
  process->Quiesce();  // Before anything runs.
  ASSERT_OK(process->Promote(1));
  process->Quiesce();
  process->Quiesce();
}

}  // namespace
}  // namespace holdfast

// What holdfast status says of the work of a real device: under I/O, killed,
// after a poisoned request, and after somebody wrote garbage into its segment.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/shm_sys.h"
#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/testing/launcher_process.h"
#include "statestore/format.h"
#include "statestore/queue_stats.h"
#include "statestore/segment.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::FrontEnd;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::string DirectoryOf(const std::string& runfile) {
  return std::filesystem::path(Runfile(runfile)).parent_path().string();
}

class StatusTest : public ::testing::Test {
 protected:
  StatusTest()
      : launcher_({"--api=" + Runfile("launcher/api/holdfast-api"),
                   "--api-policy=" + Runfile("launcher/api/api.policy"),
                   "--allow-binary-dir=" +
                       DirectoryOf("tests/recovery/crashy_device")}) {}

  void SetUp() override {
    LaunchSpec spec = launcher_.Spec("disk0");
    spec.binary = Runfile("tests/recovery/crashy_device");
    spec.segment_bytes = 1 << 20;
    ASSERT_OK(launcher_.Run(spec));
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
    auto vmm = FrontEnd::Connect(spec.socket_path, {});
    ASSERT_OK(vmm);
    vmm_ = *std::move(vmm);
    ASSERT_OK(vmm_->Start());
  }

  static std::vector<FrontEnd::Buffer> Request(uint8_t first) {
    return {FrontEnd::Buffer::Readable({first}), FrontEnd::Buffer::Writable(1)};
  }
  void Serve(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_OK(vmm_->Transact(0, Request('a')));
    }
  }

  std::string Status(const std::string& option = "") {
    const std::string command =
        Runfile("launcher/cli/holdfast") + " status disk0 --run-dir=" +
        std::filesystem::path(launcher_.File("x")).parent_path().string() +
        " " + option + " 2>&1";
    FILE* const pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return "";
    std::string text;
    for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) {
      text += static_cast<char>(c);
    }
    EXPECT_EQ(pclose(pipe), 0) << text;
    return text;
  }

  // The segment, for writing, as its device has it.
  Mapping MapSegment() {
    const auto status = launcher_.AwaitWhole("disk0");
    EXPECT_OK(status);
    UniqueFd segment;
    EXPECT_OK(launcher_.Ask([&](CoreClient& core) -> absl::Status {
      auto fd = core.StateDump("disk0");
      if (fd.ok()) segment = *std::move(fd);
      return fd.status();
    }));
    // The core hands it out for reading only; root may ask for more.
    const UniqueFd writable(
        open(("/proc/self/fd/" + std::to_string(segment.get())).c_str(),
             O_RDWR | O_CLOEXEC));
    auto mapping = MapShared(writable, 0, 1 << 20, MapAccess::kReadWrite);
    EXPECT_OK(mapping);
    return mapping.ok() ? *std::move(mapping) : Mapping();
  }

  LauncherProcess launcher_;
  std::unique_ptr<FrontEnd> vmm_;
};

TEST_F(StatusTest, CountsTheRequestsOfARunningDevice) {
  EXPECT_THAT(Status(), ContainsRegex("\n0 +0 +0 +- +0 +0 +0\n"));
  Serve(25);
  EXPECT_THAT(Status(), AllOf(HasSubstr("epoch:          1\n"),
                              HasSubstr("last loss:      -\n"),
                              ContainsRegex("\n0 +25 +0 +[0-9a-z]+ ")));
  EXPECT_THAT(Status("--json"), AllOf(HasSubstr("\"requests\":\"25\""),
                                      HasSubstr("\"error\":\"\"")));
}

TEST_F(StatusTest, GoesOnCountingOverAKillAndNamesIt) {
  Serve(5);
  const auto before = launcher_.AwaitWhole("disk0");
  ASSERT_OK(before);
  kill(before->active_pid, SIGKILL);
  Serve(5);
  ASSERT_OK(launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.standby_ready && !s.last_exit_cause.empty();
  }));
  EXPECT_THAT(Status(),
              AllOf(HasSubstr("epoch:          2\n"), ContainsRegex("\n0 +10 "),
                    ContainsRegex(
                        "recoveries: +1 \\(last [^,]+, median [^,]+, longest"),
                    HasSubstr("last loss:      SIGKILL, pid " +
                              std::to_string(before->active_pid) + ", 20"),
                    Not(HasSubstr("poisoned:"))));
}

TEST_F(StatusTest, NamesThePoisonedRequest) {
  ASSERT_TRUE(vmm_->driver(0).Post(Request('X')).has_value());
  ASSERT_OK(vmm_->Kick(0));
  // Two processes die of it, the third answers it.
  ASSERT_OK(launcher_.Await("disk0", [](const InstanceStatus& s) {
    return s.epoch == 3 && s.standby_ready;
  }));
  Serve(1);
  EXPECT_EQ(vmm_->driver(0).outstanding(), 0u);
  EXPECT_THAT(
      Status(),
      AllOf(ContainsRegex("poisoned: queue 0: the request at descriptor [0-9]+ "
                          "killed 2 processes and was answered with an error"),
            HasSubstr("2 x SIGSEGV")));
}

TEST_F(StatusTest, GarbageInTheSegmentIsAnErrorInItsFieldAndNothingElse) {
  Serve(1);
  const Mapping mapping = MapSegment();
  ASSERT_TRUE(mapping.valid());
  const auto segment = Segment::Attach(mapping.span());
  ASSERT_OK(segment);
  auto* const stamp = reinterpret_cast<QueueStamp*>(
      segment->section(SectionType::kStamps).data());
  stamp->poisoned_ns = ~uint64_t{0};
  EXPECT_THAT(Status(), AllOf(HasSubstr("queue 0: what its device wrote cannot "
                                        "be: a time that is to come"),
                              HasSubstr("state:          RUNNING\n")));
  // The header, which is read again by whoever looks from outside.
  for (size_t i = 0; i < kPageSize; ++i) mapping.data()[i] ^= 0xa5;
  EXPECT_THAT(Status(), AllOf(HasSubstr("figures: none: segment: "),
                              HasSubstr("state:          RUNNING\n")));
  EXPECT_THAT(Status("--json"), HasSubstr("\"error\":\"segment: "));
  for (const LaunchEvent& event : launcher_.Events()) {
    EXPECT_NE(event.type, "api-lost") << event.cause;
  }
}

}  // namespace
}  // namespace holdfast::launcher

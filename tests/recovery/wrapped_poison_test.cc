// A program that knows nothing of requests which end it, wrapped: the second
// such end makes them suspect, the third one proves it, and the rest goes on.
#include <signal.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/vhost_user/testing/front_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::FrontEnd;
using ::testing::HasSubstr;

constexpr uint8_t kIoError = 1;

std::string DirectoryOf(const std::string& runfile) {
  return std::filesystem::path(Runfile(runfile)).parent_path().string();
}

class WrappedPoisonTest : public ::testing::Test {
 protected:
  WrappedPoisonTest()
      : launcher_(
            {"--policy-dir=" + DirectoryOf("sandbox/policies/common.policy"),
             "--policy-dir=" + DirectoryOf("devices/keeper/keeper.policy"),
             "--allow-binary-dir=" +
                 DirectoryOf("devices/keeper/holdfast-keeper"),
             "--allow-binary-dir=" +
                 DirectoryOf("tests/recovery/crashy_device")}) {}

  void Start(const std::string& kick_back, bool standby) {
    LaunchSpec spec = launcher_.Spec("disk0");
    spec.binary = Runfile("devices/keeper/holdfast-keeper");
    spec.policy = Runfile("devices/keeper/keeper.policy");
    spec.args = {"--tracking=shadow", "--kick-back=" + kick_back};
    spec.segment_bytes = 1 << 20;
    spec.backend.binary = Runfile("tests/recovery/crashy_device");
    spec.backend.args = {"--fd={fd}"};
    spec.backend.standby = standby;
    ASSERT_OK(launcher_.Run(spec));
    ASSERT_OK(launcher_.AwaitWhole("disk0"));
    auto vmm = FrontEnd::Connect(spec.socket_path, {});
    ASSERT_OK(vmm);
    vmm_ = *std::move(vmm);
    ASSERT_OK(vmm_->Start());
  }
  uint64_t Post(uint8_t first) {
    const auto posted = vmm_->driver(0).Post(
        {FrontEnd::Buffer::Readable({first}), FrontEnd::Buffer::Writable(1)});
    EXPECT_TRUE(posted.has_value());
    EXPECT_OK(vmm_->Kick(0));
    return posted.value_or(0);
  }
  // What the next requests are answered with.
  std::map<uint64_t, uint8_t> Answers(size_t count) {
    std::map<uint64_t, uint8_t> answers;
    while (answers.size() < count && vmm_->WaitForCall(0).ok()) {
      for (const auto& answer : vmm_->driver(0).Collect()) {
        answers[answer.request] = answer.data.at(0);
      }
    }
    return answers;
  }

  LauncherProcess launcher_;
  std::unique_ptr<FrontEnd> vmm_;
};

class Standby : public WrappedPoisonTest,
                public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Lives, Standby, ::testing::Bool());

TEST_P(Standby, TheRequestIsRefusedAndTheDeviceGoesOn) {
  Start("block", GetParam());
  for (const uint8_t first : {'a', 'X', 'b', 'c'}) Post(first);
  const auto answers = Answers(4);
  ASSERT_EQ(answers.size(), 4u);
  for (const auto& [number, byte] : answers) {
    EXPECT_EQ(byte, number == 2 ? kIoError : '.') << number;
  }
  const auto event = launcher_.AwaitEvent("request-refused");
  ASSERT_OK(event);
  EXPECT_THAT(event->detail, HasSubstr("a request of ring 0 ends its lives"));
  // Another one, after work as ever.
  for (int i = 0; i < 20; ++i) Post('a');
  for (const auto& [number, byte] : Answers(20)) EXPECT_EQ(byte, '.') << number;
  Post('X');
  EXPECT_EQ(Answers(1).begin()->second, kIoError);
  EXPECT_THAT(vmm_->driver(0).violations(), ::testing::IsEmpty());
}

// However often and however fast.
TEST_P(Standby, NobodyIsRefusedForWhatOthersDo) {
  Start("block", GetParam());
  int pid = 0;
  for (int kills = 0; kills < 20; ++kills) {
    for (int i = 0; i < 8; ++i) Post('a');
    const auto status =
        launcher_.Await("disk0", [&](const InstanceStatus& found) {
          return found.backend.pid != 0 && found.backend.pid != pid;
        });
    ASSERT_OK(status);
    pid = status->backend.pid;
    kill(pid, SIGKILL);
    const auto answers = Answers(8);
    ASSERT_EQ(answers.size(), 8u);
    for (const auto& [number, byte] : answers) ASSERT_EQ(byte, '.') << number;
  }
  for (const LaunchEvent& event : launcher_.Events()) {
    EXPECT_NE(event.type, "request-refused");
  }
}

// The mechanism off.
TEST_F(WrappedPoisonTest, ItEndsThemAll) {
  Start("never", /*standby=*/false);
  Post('X');
  ASSERT_OK(launcher_.Await("disk0", [](const InstanceStatus& status) {
    return status.backend.lives >= 6;
  }));
  EXPECT_EQ(vmm_->driver(0).outstanding(), 1u);
  EXPECT_EQ(vmm_->driver(0).Collect().size(), 0u);
}

}  // namespace
}  // namespace holdfast::launcher

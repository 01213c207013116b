// The directory of text specs as the core sees it: the test stands in for an
// api, which may die or lie.

#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/process_sys.h"
#include "launcher/spec.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// No program: the core keeps trying to start it, and the test takes its place.
constexpr char kNoApi[] = "--api=/no-such-program";

std::vector<std::string> Refusals(LauncherProcess& launcher) {
  std::vector<std::string> all;
  for (const LaunchEvent& event : launcher.Events()) {
    if (event.type == "spec-refused") all.push_back(event.detail);
  }
  return all;
}

class TextSpecs : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(specs_.File(name)) << text;
  }
  std::string Dir() const { return "--spec-dir=" + specs_.path(); }
  static SpecFile Next(LauncherProcess& launcher) {
    SpecFile file;
    EXPECT_OK(launcher.Ask([&](CoreClient& core) -> absl::Status {
      ASSIGN_OR_RETURN(file, core.NextSpec());
      return absl::OkStatus();
    }));
    return file;
  }
  // The core's one answer.
  static absl::Status Read(LauncherProcess& launcher, const std::string& file,
                           const absl::StatusOr<LaunchSpec>& spec) {
    absl::Status status;
    EXPECT_OK(launcher.Ask([&](CoreClient& core) {
      status = core.SpecIsRead(file, spec);
      return absl::OkStatus();
    }));
    return status;
  }

  testing::TempDir specs_;
};

TEST_F(TextSpecs, AreHandedOutUntilTheyAreReadAndRunOnce) {
  Write("b.textproto", "bbb");
  Write("a.textproto", "aaa");
  LauncherProcess launcher({Dir(), kNoApi});
  EXPECT_EQ(Next(launcher).name, "a.textproto");
  // As if that api had died.
  EXPECT_EQ(Next(launcher).text, "aaa");
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_path.clear();
  EXPECT_OK(Read(launcher, "a.textproto", spec));
  EXPECT_OK(launcher.AwaitWhole("disk0"));
  // The same answer of an earlier api is not taken for the next file.
  EXPECT_TRUE(absl::IsNotFound(Read(launcher, "a.textproto", spec)));
  EXPECT_EQ(Next(launcher).text, "bbb");
  EXPECT_OK(Read(launcher, "b.textproto", spec));
  EXPECT_EQ(Next(launcher).name, "");
  EXPECT_THAT(Refusals(launcher),
              ElementsAre(StartsWith("b.textproto: instance 'disk0' exists")));
}

TEST_F(TextSpecs, WhatTheApiSaysOfThemIsOnePlainLine) {
  Write("a.textproto", "");
  LauncherProcess launcher({Dir(), kNoApi});
  EXPECT_OK(Read(launcher, "a.textproto",
                 absl::InvalidArgumentError("a.textproto:1: x\n\x1b[2J\xff")));
  EXPECT_THAT(Refusals(launcher), ElementsAre("a.textproto:1: x; ?[2J?"));
}

TEST_F(TextSpecs, AnApiThatNeverReadsOneDoesNotKeepTheOthersBack) {
  Write("a.textproto", "");
  Write("b.textproto", "");
  LauncherProcess launcher({Dir(), kNoApi});
  std::string name = "a.textproto";
  for (int i = 0; i < 100 && name == "a.textproto"; ++i) {
    name = Next(launcher).name;
  }
  EXPECT_EQ(name, "b.textproto");
  EXPECT_THAT(Refusals(launcher),
              ElementsAre(StartsWith("a.textproto: the api died 8 times")));
}

TEST_F(TextSpecs, FilesThatAreNoneAreRefusedAtOnce) {
  Write("a.textproto", std::string(70'000, ' '));
  ASSERT_EQ(mkfifo(specs_.File("b.textproto").c_str(), 0600), 0);
  std::filesystem::create_symlink("nowhere", specs_.File("c.textproto"));
  Write("d.textproto", "ddd");
  Write("e.text", "another kind of file");
  LauncherProcess launcher({Dir(), kNoApi});
  EXPECT_EQ(Next(launcher).text, "ddd");
  EXPECT_THAT(Refusals(launcher),
              ElementsAre(AllOf(StartsWith("a.textproto: has more than"),
                                HasSubstr("65535 bytes")),
                          "b.textproto: is not a regular file",
                          StartsWith("c.textproto: open: ")));
}

// It asks for all of them again, and runs what is not there yet.
TEST_F(TextSpecs, CoreThatDiesLeavesTheRestToTheNext) {
  Write("a.textproto", "aaa");
  Write("b.textproto", "bbb");
  LauncherProcess launcher({Dir(), kNoApi});
  LaunchSpec disk0 = launcher.Spec("disk0");
  LaunchSpec disk1 = launcher.Spec("disk1");
  disk0.socket_path.clear();
  disk1.socket_path.clear();
  EXPECT_EQ(Next(launcher).name, "a.textproto");
  EXPECT_OK(Read(launcher, "a.textproto", disk0));
  const auto core = launcher.AwaitEvent("core-started");
  ASSERT_OK(core);
  kill(core->pid, SIGKILL);
  ASSERT_OK(launcher.AwaitEvent("core-started", core->sequence));
  EXPECT_EQ(Next(launcher).name, "a.textproto");
  EXPECT_OK(Read(launcher, "a.textproto", disk0));
  EXPECT_EQ(Next(launcher).name, "b.textproto");
  EXPECT_OK(Read(launcher, "b.textproto", disk1));
  EXPECT_OK(launcher.AwaitWhole("disk0"));
  EXPECT_OK(launcher.AwaitWhole("disk1"));
  EXPECT_THAT(Refusals(launcher), ElementsAre());
  // All of it is done: the next core runs nothing again.
  EXPECT_OK(launcher.Ask([](CoreClient& c) { return c.Stop("disk0"); }));
  const auto second = launcher.AwaitEvent("core-started");
  ASSERT_OK(second);
  kill(second->pid, SIGKILL);
  ASSERT_OK(launcher.AwaitEvent("core-started", second->sequence));
  EXPECT_EQ(Next(launcher).name, "");
}

TEST_F(TextSpecs, CoreKilledWhileItLoadsSpecsForgetsNone) {
  LauncherProcess launcher({Dir()});
  ASSERT_OK(launcher.AwaitEvent("core-started"));
  constexpr int kSpecs = 8;
  for (int i = 0; i < kSpecs; ++i) {
    LaunchSpec spec = launcher.Spec("disk" + std::to_string(i));
    spec.standby = false;
    const std::vector<uint8_t> bytes = EncodeSpec(spec);
    Write(spec.name + ".spec", std::string(bytes.begin(), bytes.end()));
  }
  for (size_t killed_at : {1, 4, 7}) {
    ASSERT_EQ(launcher.Stop(), 0);
    launcher.StartAgain();
    // Parent, core, store, and as many devices.
    ASSERT_TRUE(PollUntil(
        [&] { return launcher.Processes().size() >= 3 + killed_at; }));
    const std::vector<int> children = ChildrenOf(launcher.pid());
    ASSERT_EQ(children.size(), 1u);
    kill(children[0], SIGKILL);
    for (int i = 0; i < kSpecs; ++i) {
      EXPECT_OK(launcher.Await(
          "disk" + std::to_string(i),
          [](const InstanceStatus& s) { return s.state == "RUNNING"; }));
    }
    EXPECT_THAT(Refusals(launcher), ElementsAre());
  }
}

TEST_F(TextSpecs, NeedAnApi) {
  Write("a.textproto", "");
  Write("b.textproto", "");
  LauncherProcess launcher({Dir()});
  EXPECT_EQ(Next(launcher).name, "");
  EXPECT_THAT(Refusals(launcher),
              ElementsAre(StartsWith("a.textproto: needs --api to be read"),
                          StartsWith("b.textproto: needs --api to be read")));
}

}  // namespace
}  // namespace holdfast::launcher

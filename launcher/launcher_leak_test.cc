// Nothing is left of a launcher: not after an ordered end, and not after the
// start that follows a SIGKILL of everything.

#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/poll.h"
#include "base/text_file_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cgroup_plan.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::Not;

// What there is of the launcher of `directory`. A memfd or a socket without a
// name is there only as long as a process is that holds it.
std::vector<std::string> Traces(const LauncherProcess& launcher) {
  const std::string directory = launcher.File("");
  std::vector<std::string> all;
  for (pid_t pid : launcher.Processes()) {
    all.push_back("process " + std::to_string(pid));
  }
  for (const auto& entry : fs::directory_iterator(directory)) {
    all.push_back(entry.path().string());
  }
  if (ReadTextFile("/proc/net/unix").find(directory) != std::string::npos) {
    all.push_back("a socket");
  }
  const std::string run_dir = directory.substr(0, directory.size() - 1);
  for (const CgroupHome& home :
       FindCgroupHomes(ReadTextFile("/proc/self/mountinfo"),
                       ReadTextFile("/proc/self/cgroup"))) {
    const std::string tree = home.directory + "/" + CgroupNameOf(run_dir);
    if (fs::exists(tree)) all.push_back(tree);
  }
  return all;
}

size_t OwnDescriptors() {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    count += !entry.path().empty();
  }
  return count;
}

void Fill(LauncherProcess& launcher) {
  for (const char* name : {"disk0", "disk1"}) {
    ASSERT_OK(launcher.Run(launcher.Spec(name)));
    ASSERT_OK(launcher.AwaitWhole(name));
  }
}

// Whole again and again: what one kills is born while others are killed.
void KillEverything(LauncherProcess& launcher) {
  EXPECT_TRUE(PollUntil([&launcher] {
    const std::vector<pid_t> all = launcher.Processes();
    for (pid_t pid : all) kill(pid, SIGKILL);
    launcher.ReapOrphans();
    return all.size() <= 1;
  }));
  launcher.Wait();
}

TEST(LauncherLeak, TwentyLivesLeaveNothing) {
  LauncherProcess launcher;
  Fill(launcher);
  EXPECT_EQ(launcher.Stop(), 0);
  const size_t descriptors = OwnDescriptors();
  EXPECT_THAT(Traces(launcher), IsEmpty());
  for (int life = 0; life < 20; ++life) {
    SCOPED_TRACE(life);
    launcher.StartAgain();
    Fill(launcher);
    EXPECT_THAT(Traces(launcher), Not(IsEmpty()));
    if (life % 2 == 0) {
      KillEverything(launcher);
      EXPECT_THAT(launcher.Processes(), IsEmpty());
      // Names are left, which the next start makes use of or removes.
      EXPECT_THAT(Traces(launcher), Not(IsEmpty()));
      launcher.StartAgain();
      Fill(launcher);
    }
    EXPECT_EQ(launcher.Stop(), 0);
    EXPECT_THAT(Traces(launcher), IsEmpty());
    EXPECT_EQ(OwnDescriptors(), descriptors);
  }
}

}  // namespace
}  // namespace holdfast::launcher

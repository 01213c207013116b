// Who may connect to an instance's socket: asked by processes of other users.

#include <grp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "base/testing/matchers.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uid_t kVmmUser = 64055;
constexpr uid_t kOtherUser = 64056;
constexpr gid_t kVmmGroup = 64104;
constexpr gid_t kOtherGroup = 64105;

// Whether a process of these ids can connect to `path`.
bool CanConnect(const std::string& path, uid_t user, gid_t group) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (setgroups(0, nullptr) != 0 || setgid(group) != 0 || setuid(user) != 0) {
      _exit(2);
    }
    _exit(ConnectTo(path).ok() ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) < 2) << status;
  return status == 0;
}

mode_t ModeOf(const std::string& path) {
  struct stat file = {};
  return stat(path.c_str(), &file) == 0 ? file.st_mode & 07777 : 0;
}

TEST(LauncherSocket, IsForRootAloneUnlessTheSpecSaysMore) {
  LauncherProcess launcher;
  const LaunchSpec spec = launcher.Spec("disk0");
  ASSERT_OK(launcher.Run(spec));
  EXPECT_EQ(ModeOf(spec.socket_path), 0600u);
  EXPECT_FALSE(CanConnect(spec.socket_path, kVmmUser, kVmmGroup));
  EXPECT_TRUE(CanConnect(spec.socket_path, 0, 0));
}

TEST(LauncherSocket, OwnerConnectsAndNobodyElse) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_owner = std::to_string(kVmmUser);
  ASSERT_OK(launcher.Run(spec));
  EXPECT_TRUE(CanConnect(spec.socket_path, kVmmUser, kOtherGroup));
  EXPECT_FALSE(CanConnect(spec.socket_path, kOtherUser, kVmmGroup));
}

TEST(LauncherSocket, GroupConnectsAndNobodyElse) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_group = std::to_string(kVmmGroup);
  ASSERT_OK(launcher.Run(spec));
  EXPECT_EQ(ModeOf(spec.socket_path), 0660u);
  EXPECT_TRUE(CanConnect(spec.socket_path, kOtherUser, kVmmGroup));
  EXPECT_FALSE(CanConnect(spec.socket_path, kVmmUser, kOtherGroup));
}

TEST(LauncherSocket, ModeIsTheSpecsWhateverTheUmask) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_mode = 0666;
  ASSERT_OK(launcher.Run(spec));
  EXPECT_EQ(ModeOf(spec.socket_path), 0666u);
  EXPECT_TRUE(CanConnect(spec.socket_path, kOtherUser, kOtherGroup));
}

TEST(LauncherSocket, UserIsFoundByName) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_owner = "nobody";
  ASSERT_OK(launcher.Run(spec));
  EXPECT_TRUE(CanConnect(spec.socket_path, 65534, kOtherGroup));
}

TEST(LauncherSocket, UnknownNamesAreRefusedWithTheirField) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_owner = "no-such-user";
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("socket_owner: 'no-such-user' is not in "
                                 "/etc/passwd")));
  spec.socket_owner.clear();
  spec.socket_group = "no-such-group";
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("socket_group: 'no-such-group' is not in "
                                 "/etc/group")));
  EXPECT_FALSE(std::filesystem::exists(spec.socket_path));
}

// The socket is made anew when core and store were both replaced.
TEST(LauncherSocket, AccessSurvivesCoreAndStore) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  spec.socket_owner = std::to_string(kVmmUser);
  ASSERT_OK(launcher.Run(spec));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  const auto core = launcher.AwaitEvent("core-started");
  ASSERT_OK(core);
  kill(core->pid, SIGKILL);
  ASSERT_OK(launcher.AwaitEvent("core-started", core->sequence));
  ASSERT_OK(launcher.Ask([](CoreClient& client) {
    return client.Inject("", Fault::kKill, FaultTarget::kStore);
  }));
  ASSERT_OK(launcher.AwaitEvent("redeposited"));
  EXPECT_TRUE(CanConnect(spec.socket_path, kVmmUser, kOtherGroup));
  EXPECT_FALSE(CanConnect(spec.socket_path, kOtherUser, kVmmGroup));
}

TEST(LauncherSocket, NeitherAFileNorALivingSocketIsReplaced) {
  LauncherProcess launcher;
  LaunchSpec spec = launcher.Spec("disk0");
  std::ofstream(spec.socket_path) << "precious";
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("socket_path: " + spec.socket_path),
                             HasSubstr("is not a socket"))));
  EXPECT_EQ(std::filesystem::file_size(spec.socket_path), 8u);
  std::filesystem::remove(spec.socket_path);
  auto living = ListenAt(spec.socket_path);
  ASSERT_OK(living);
  EXPECT_THAT(launcher.RunOnce(spec),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       HasSubstr("another process listens on")));
  EXPECT_OK(ConnectTo(spec.socket_path));
  living->Reset();
  EXPECT_OK(launcher.Run(spec));
}

// VMMs of other users must get through it to their sockets; what else is in it
// is for root alone.
TEST(LauncherSocket, RunDirectoryThatIsMadeLetsOthersThrough) {
  testing::TempDir dir;
  chmod(dir.path().c_str(), 0755);
  const std::string run = dir.File("run");
  LauncherProcess launcher({"--run-dir=" + run});
  for (int i = 0; i < 1000 && !std::filesystem::exists(run + "/core.sock");
       ++i) {
    usleep(10000);
  }
  EXPECT_EQ(ModeOf(run), 0755u);
  EXPECT_EQ(ModeOf(run + "/core.sock"), 0600u);
  EXPECT_EQ(ModeOf(run + "/holdfastd.lock"), 0600u);
}

}  // namespace
}  // namespace holdfast::launcher

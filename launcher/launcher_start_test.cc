// A holdfastd that cannot start: its exit status, and what it says to whom has
// typed the command.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/text_file_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/process_sys.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class LauncherStart : public ::testing::Test {
 protected:
  struct Ending {
    int status = -1;   // Exit status.
    std::string said;  // On standard error.
  };

  // Of a holdfastd that is to end by itself.
  Ending Start(const std::vector<std::string>& arguments) {
    const std::string log = dir_.File("log");
    const std::vector<int> before = DescendantsOf(getpid());
    std::ofstream{log};
    LauncherProcess launcher(arguments, [&log] {
      dup2(open(log.c_str(), O_WRONLY | O_APPEND), STDERR_FILENO);
    });
    const int status = launcher.Wait();
    Ending ending;
    if (WIFEXITED(status)) ending.status = WEXITSTATUS(status);
    ending.said = ReadTextFile(log);
    for (int pid : launcher.Processes()) {
      EXPECT_THAT(before, Contains(pid)) << "it left a process";
    }
    return ending;
  }

  testing::TempDir dir_;
};

TEST_F(LauncherStart, RunDirectoryThatCannotBeMadeIsNamed) {
  const std::string inner = dir_.File("none") + "/run";
  const Ending ending = Start({"--run-dir=" + inner});
  EXPECT_EQ(ending.status, 1);
  EXPECT_THAT(ending.said, HasSubstr("mkdir " + inner + ": No such file"));
}

TEST_F(LauncherStart, FileInThePlaceOfTheRunDirectoryIsLeftAlone) {
  std::ofstream(dir_.File("file")) << "precious";
  const Ending ending = Start({"--run-dir=" + dir_.File("file")});
  EXPECT_EQ(ending.status, 1);
  EXPECT_THAT(ending.said, HasSubstr(dir_.File("file")));
  EXPECT_EQ(ReadTextFile(dir_.File("file")), "precious");
}

// Somebody may have put it there, in a directory that is not root's alone.
TEST_F(LauncherStart, LinkInThePlaceOfTheLockIsNotFollowed) {
  const std::string run = dir_.File("run");
  std::filesystem::create_directory(run);
  std::ofstream(dir_.File("target")) << "precious";
  std::filesystem::create_symlink(dir_.File("target"), run + "/holdfastd.lock");
  const Ending ending = Start({"--run-dir=" + run});
  EXPECT_EQ(ending.status, 1);
  EXPECT_THAT(ending.said, HasSubstr("holdfastd.lock: Too many levels"));
  EXPECT_EQ(ReadTextFile(dir_.File("target")), "precious");
  EXPECT_TRUE(std::filesystem::is_symlink(run + "/holdfastd.lock"));
}

TEST_F(LauncherStart, RunDirectoryTooLongForASocketSaysSo) {
  const Ending ending =
      Start({"--run-dir=" + dir_.File(std::string(100, 'x'))});
  EXPECT_EQ(ending.status, 1);
  EXPECT_THAT(ending.said, HasSubstr("core.sock is longer than 107 bytes: use "
                                     "a shorter --run-dir"));
}

TEST_F(LauncherStart, MissingDirectoriesAreNamedWithTheirOption) {
  for (const char* option : {"--allow-binary-dir=", "--allow-resource-dir=",
                             "--allow-socket-dir=", "--policy-dir="}) {
    const Ending ending = Start({option + dir_.File("none")});
    EXPECT_EQ(ending.status, 1);
    EXPECT_THAT(ending.said,
                HasSubstr(option + dir_.File("none") + ": No such file"));
  }
}

TEST_F(LauncherStart, ProgramAndPolicyOfTheStoreAreNamedWithTheirOption) {
  std::ofstream(dir_.File("text")) << "open\n";
  struct Mistake {
    std::string option;
    std::string said;
  };
  for (const Mistake& mistake : std::vector<Mistake>{
           {"--store=" + dir_.File("none"), "No such file or directory"},
           {"--store=" + dir_.File("text"), "Permission denied"},
           {"--store-policy=" + dir_.File("none"), "No such file or directory"},
           {"--store-policy=" + dir_.File("text"), "text:1: "}}) {
    const Ending ending = Start({mistake.option});
    EXPECT_EQ(ending.status, 1);
    const std::string option =
        mistake.option.substr(0, mistake.option.find('='));
    EXPECT_THAT(ending.said,
                AllOf(HasSubstr(" " + option + ": "), HasSubstr(mistake.said)));
  }
}

TEST_F(LauncherStart, WrongUsageIsToldFromFailure) {
  const Ending unknown = Start({"--colour=/x"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.said, HasSubstr("--colour: unknown option (see holdfastd "
                                      "--help)"));
  EXPECT_EQ(Start({"--help"}).status, 0);
}

// What one that could not start leaves must not keep the next one out.
TEST_F(LauncherStart, FailureLeavesNothingInTheWayOfTheNext) {
  const std::string run = dir_.File("run");
  EXPECT_EQ(Start({"--run-dir=" + run, "--store=" + dir_.File("none")}).status,
            1);
  EXPECT_THAT(std::filesystem::directory_iterator(run),
              std::filesystem::directory_iterator());
  LauncherProcess next;
  ASSERT_OK(next.Run(next.Spec("disk0")));
  EXPECT_OK(next.AwaitWhole("disk0"));
}

TEST_F(LauncherStart, SecondOneOfARunDirectorySaysWhoIsInItsWay) {
  LauncherProcess first;
  ASSERT_OK(first.Run(first.Spec("disk0")));
  ASSERT_OK(first.AwaitWhole("disk0"));
  const std::string run =
      std::filesystem::path(first.File("x")).parent_path().string();
  const Ending second = Start({"--run-dir=" + run});
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.said,
              AllOf(HasSubstr("another holdfastd uses " + run),
                    HasSubstr("stop it, or use another --run-dir")));
  EXPECT_OK(first.AwaitWhole("disk0"));
}

// The store's socket pair and files of a launcher that was killed are in the
// way of nobody.
TEST_F(LauncherStart, StaleFilesOfAKilledOneAreReplaced) {
  LauncherProcess launcher;
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  ASSERT_OK(launcher.AwaitWhole("disk0"));
  launcher.KillWhole();
  EXPECT_TRUE(std::filesystem::exists(launcher.File("core.sock")));
  EXPECT_TRUE(std::filesystem::exists(launcher.File("holdfastd.lock")));
  launcher.StartAgain();
  ASSERT_OK(launcher.Run(launcher.Spec("disk0")));
  EXPECT_OK(launcher.AwaitWhole("disk0"));
}

}  // namespace
}  // namespace holdfast::launcher

#include "launcher/cli/library.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::cli {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

auto NotFound(const std::string& text) {
  return StatusIs(absl::StatusCode::kNotFound, HasSubstr(text));
}

// A LIB with two profiles, and a program to wrap.
class Library : public ::testing::Test {
 protected:
  Library() {
    fs::create_directories(dir_.File("lib/profiles"));
    Write("lib/profiles/one.textproto", "summary: 'first'");
    Write("lib/profiles/two.textproto",
          "summary: 'second' socket { text: '--fd={fd}' } standby: true");
    Write("lib/profiles/README", "not one");
    Write("lib/holdfast-keeper", "");
    Write("bin/backend", "");
    fs::permissions(dir_.File("bin/backend"), fs::perms::owner_all);
    command_.verb = Command::Verb::kRun;
    command_.lib_dir = dir_.File("lib");
    command_.profile = "two";
    command_.wrapped = {dir_.File("bin/backend"), "-v"};
  }

  void Write(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(dir_.File(name)).parent_path());
    std::ofstream(dir_.File(name)) << text;
  }

  absl::StatusOr<v1::LaunchSpec> Spec() {
    std::string text = "of a spec before";
    const auto spec = SpecToRun(command_, text);
    EXPECT_EQ(text, "");
    return spec;
  }

  testing::TempDir dir_;
  Command command_;
};

TEST_F(Library, ProfilesAreFoundByNameAndByPath) {
  EXPECT_THAT(FindProfile(command_.lib_dir, "one"),
              IsOkAndHolds(dir_.File("lib/profiles/one.textproto")));
  EXPECT_THAT(FindProfile(command_.lib_dir, "./mine"), IsOkAndHolds("./mine"));
}

TEST_F(Library, UnknownProfileNamesThoseThatThereAre) {
  EXPECT_THAT(FindProfile(command_.lib_dir, "three"),
              NotFound("no profile 'three': there is one, two; "));
  EXPECT_THAT(FindProfile(dir_.File("no"), "three"),
              AllOf(NotFound("there is none in " + dir_.File("no/profiles")),
                    NotFound("--lib-dir")));
}

TEST_F(Library, AllProfilesAreReadInOrder) {
  const auto list = ReadProfiles(command_.lib_dir);
  ASSERT_OK(list);
  ASSERT_EQ(list->profiles_size(), 2);
  EXPECT_EQ(list->profiles(0).name(), "one");
  EXPECT_EQ(list->profiles(1).profile().summary(), "second");
  EXPECT_THAT(list->profiles(1).path(), EndsWith("/profiles/two.textproto"));
  EXPECT_THAT(ReadProfiles(dir_.File("no")), NotFound("is not there"));
}

TEST_F(Library, OneThatIsWrongIsNamed) {
  Write("lib/profiles/wrong.textproto", "sumary: 'x'");
  EXPECT_THAT(ReadProfiles(command_.lib_dir),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("profiles/wrong.textproto:1:")));
  Write("lib/profiles/wrong.textproto", std::string(100'000, ' '));
  EXPECT_THAT(ReadProfiles(command_.lib_dir),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("more than")));
}

TEST_F(Library, IsWhereTheCommandSays) {
  EXPECT_EQ(LibraryDirectory(command_), dir_.File("lib"));
}

TEST_F(Library, ProgramsAreFoundAsAShellDoes) {
  Write("other/backend", "not to be executed");
  const std::string search =
      "relative:" + dir_.File("other") + "::" + dir_.File("bin");
  EXPECT_THAT(FindProgram("backend", search),
              IsOkAndHolds(dir_.File("bin/backend")));
  EXPECT_THAT(FindProgram(dir_.File("x/../bin/backend"), ""),
              IsOkAndHolds(dir_.File("bin/backend")));
  EXPECT_THAT(FindProgram("fly", search),
              NotFound("fly: no such program in PATH (" + search + ")"));
  EXPECT_THAT(FindProgram("./fly", search), NotFound("/fly: no such program"));
  EXPECT_THAT(FindProgram("backend", dir_.File("other")),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("other/backend: is not executable")));
  EXPECT_THAT(FindProgram(dir_.path() + "/bin", ""),
              NotFound("no such program"));
}

TEST_F(Library, SpecIsMadeOfProfileAndArguments) {
  const auto spec = Spec();
  ASSERT_OK(spec);
  EXPECT_EQ(spec->name(), "backend");
  EXPECT_EQ(spec->socket_path(), "/run/holdfast/backend.sock");
  EXPECT_EQ(spec->binary(), dir_.File("lib/holdfast-keeper"));
  EXPECT_EQ(spec->policy(), dir_.File("lib/policies/keeper.policy"));
  EXPECT_EQ(spec->backend().binary(), dir_.File("bin/backend"));
  EXPECT_THAT(spec->backend().args(), ElementsAre("-v", "--fd={fd}"));
  EXPECT_TRUE(spec->backend().standby());
}

TEST_F(Library, OptionsChangeTheSpec) {
  command_.instance = "disk0";
  command_.run_dir = "/r";
  command_.no_standby = true;
  EXPECT_EQ(Spec()->socket_path(), "/r/disk0.sock");
  EXPECT_FALSE(Spec()->backend().standby());
  command_.socket_path = "/s/vmm.sock";
  EXPECT_EQ(Spec()->name(), "disk0");
  EXPECT_EQ(Spec()->socket_path(), "/s/vmm.sock");
}

TEST_F(Library, TheRulesOfSpecsHold) {
  command_.instance = "Disk 0";
  EXPECT_THAT(Spec(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("name: 'Disk 0'"),
                                     HasSubstr("--name"))));
  command_.instance = "disk0";
  command_.wrapped.resize(100, "x");
  EXPECT_THAT(Spec(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("backend.args")));
}

TEST_F(Library, WhatIsMissingIsNamed) {
  fs::remove(dir_.File("lib/holdfast-keeper"));
  EXPECT_THAT(Spec(), NotFound(dir_.File("lib/holdfast-keeper")));
  command_.wrapped[0] = dir_.File("bin/fly");
  EXPECT_THAT(Spec(), NotFound("bin/fly: no such program"));
  command_.profile = "three";
  EXPECT_THAT(Spec(), NotFound("there is one, two"));
  command_.profile = dir_.File("mine");
  EXPECT_THAT(Spec(), NotFound("mine: cannot be read"));
}

TEST_F(Library, AFileIsASpecWithItsText) {
  Command run;
  run.file = dir_.File("disk0.textproto");
  Write("disk0.textproto", "name: 'disk0' binary: '/bin/true'");
  std::string text;
  const auto spec = SpecToRun(run, text);
  ASSERT_OK(spec);
  EXPECT_EQ(spec->binary(), "/bin/true");
  EXPECT_EQ(text, "name: 'disk0' binary: '/bin/true'");
}

TEST_F(Library, ProfilesArePrintedForPeopleAndPrograms) {
  const auto printed = [&] {
    std::ostringstream out;
    EXPECT_OK(PrintProfiles(command_, out));
    return out.str();
  };
  command_.verb = Command::Verb::kProfileList;
  EXPECT_EQ(printed(), "NAME  SUMMARY\none   first\ntwo   second\n");
  command_.verb = Command::Verb::kProfileShow;
  command_.profile = "one";
  EXPECT_EQ(printed(), "summary: 'first'");
  command_.json = true;
  EXPECT_THAT(printed(), HasSubstr("\"summary\":\"first\""));
  command_.verb = Command::Verb::kProfileList;
  EXPECT_THAT(printed(), HasSubstr("\"name\":\"two\""));
}

}  // namespace
}  // namespace holdfast::cli

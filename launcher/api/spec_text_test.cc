#include "launcher/api/spec_text.h"

#include <string>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kGood[] = R"(# A disk.
name: "disk0"
binary: "/usr/lib/holdfast/holdfast-virtio-blk"
resources {
  name: "image"
  path: "/srv/a.img"
}
restart { budget: 3 }
)";

auto Refused(const std::string& start) {
  return StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(start));
}

std::string Replaced(std::string text, const std::string& from,
                     const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(SpecText, GoodTextIsTaken) {
  const auto spec = ParseSpecText(kGood, "a.textproto");
  ASSERT_OK(spec);
  EXPECT_EQ(spec->name(), "disk0");
  EXPECT_EQ(spec->resources(0).path(), "/srv/a.img");
  EXPECT_EQ(spec->restart().budget(), 3u);
}

TEST(SpecText, UnknownFieldIsNamedWithItsPlace) {
  EXPECT_THAT(
      ParseSpecText(Replaced(kGood, "binary", "binry"), "a.textproto"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(StartsWith("a.textproto:3:"), HasSubstr("binry"))));
}

TEST(SpecText, WrongValueIsNamedWithItsPlace) {
  EXPECT_THAT(ParseSpecText(Replaced(kGood, "budget: 3", "budget: -3"), "a"),
              Refused("a:8:"));
  EXPECT_THAT(ParseSpecText("name: \"disk0\nbinary: 3", "a"), Refused("a:1:"));
}

TEST(SpecText, RefusedFieldIsNamedWithItsLine) {
  EXPECT_THAT(ParseSpecText(Replaced(kGood, "disk0", "Disk 0"), "a"),
              Refused("a:2: name: 'Disk 0'"));
  EXPECT_THAT(ParseSpecText(Replaced(kGood, "/srv/a.img", "a.img"), "a"),
              Refused("a:6: resources[0].path: 'a.img' is not absolute"));
}

TEST(SpecText, PermissionsAreOctalAndSayHowWhenTheyAreNot) {
  const std::string socket = std::string(kGood) + "socket_path: \"/s\"\n";
  const auto spec = ParseSpecText(socket + "socket_mode: 0660\n", "a");
  ASSERT_OK(spec);
  EXPECT_EQ(spec->socket_mode(), 0660u);
  EXPECT_THAT(ParseSpecText(socket + "socket_mode: 660\n", "a"),
              Refused("a:10: socket_mode: 660 is 01224: write it in octal"));
  EXPECT_THAT(
      ParseSpecText(std::string(kGood) + "socket_owner: \"kvm\"\n", "a"),
      Refused("a:9: socket_owner: needs a socket_path"));
}

TEST(SpecText, FieldsWithAUnitInTheirNameAreFoundToo) {
  EXPECT_THAT(
      ParseSpecText(Replaced(kGood, "budget: 3", "\nbackoff_max_ms: 100000000"),
                    "a"),
      Refused("a:9: restart.backoff_max:"));
}

TEST(SpecText, AbsentFieldIsBlamedOnTheMessageAroundItOrTheFile) {
  EXPECT_THAT(ParseSpecText("name: \"disk0\"\n", "a"), Refused("a: binary: "));
  EXPECT_THAT(
      ParseSpecText(Replaced(kGood, "  path: \"/srv/a.img\"\n", ""), "a"),
      Refused("a:4: resources[0].path: "));
}

TEST(SpecText, AnyBytesGiveAnAnswer) {
  for (const std::string& text :
       {std::string(), std::string(3, '\0'), std::string("\xff\xfe{"),
        std::string("resources { resources { }"), std::string(5000, '{'),
        std::string("name: ") + std::string(2 << 20, 'x')}) {
    EXPECT_FALSE(ParseSpecText(text, "a").ok());
  }
}

TEST(SpecText, ErrorsOfTheCoreGetTheirPlace) {
  const char text[] =
      "name: \"d\"\nbinary: \"/b\"\nresources {\n  name: \"a\"\n}\n"
      "resources {\n  name: \"b\"\n  path: \"/p\"\n}\n";
  EXPECT_EQ(WithPlace("binary: no such file", text, "f"),
            "f:2: binary: no such file");
  EXPECT_EQ(WithPlace("resources[1]: in use", text, "f"),
            "f:6: resources[1]: in use");
  EXPECT_EQ(WithPlace("resources[1].path: in use", text, "f"),
            "f:8: resources[1].path: in use");
  // Of what stands in no line, or in nobody's.
  for (const char* message :
       {"uid: taken", "resources[2]: x", "resources[-1]: x",
        "instance 'd' exists: stop it", "", ": "}) {
    EXPECT_EQ(WithPlace(message, text, "f"), message);
  }
  EXPECT_EQ(WithPlace("binary: x", "no spec {", "f"), "binary: x");
}

}  // namespace
}  // namespace holdfast::launcher

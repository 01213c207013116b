#include "launcher/api/startup_specs.h"

#include <deque>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class FakeSource final : public SpecSource {
 public:
  absl::StatusOr<SpecFile> NextSpec() override {
    if (!next_error.ok()) return next_error;
    return files.empty() ? SpecFile() : files.front();
  }
  absl::Status SpecIsRead(const std::string& file,
                          const absl::StatusOr<LaunchSpec>& spec) override {
    EXPECT_EQ(file, files.front().name);
    files.pop_front();
    if (!read_error.ok()) return read_error;
    if (spec.ok()) {
      run.push_back(spec->name);
    } else {
      refused.emplace_back(spec.status().message());
    }
    return absl::OkStatus();
  }

  std::deque<SpecFile> files;
  absl::Status next_error, read_error;
  std::vector<std::string> run, refused;
};

std::string Good(const std::string& name) {
  return "name: \"" + name + "\"\nbinary: \"/bin/disk\"\n";
}

TEST(ReadNextSpec, NoneIsLeft) {
  FakeSource core;
  EXPECT_THAT(ReadNextSpec(core), IsOkAndHolds(false));
}

TEST(ReadNextSpec, OneBadSpecKeepsNoneOfTheOthersBack) {
  FakeSource core;
  core.files = {{"a.textproto", Good("a")},
                {"b.textproto", "name: \"b\"\nbinnary: \"/bin/disk\"\n"},
                {"c.textproto", "name: \"c\"\n\nbinary: \"disk\"\n"},
                {"d.textproto", Good("d")}};
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(ReadNextSpec(core), IsOkAndHolds(true));
  }
  EXPECT_THAT(ReadNextSpec(core), IsOkAndHolds(false));
  EXPECT_THAT(core.run, ElementsAre("a", "d"));
  EXPECT_THAT(core.refused, ElementsAre(StartsWith("b.textproto:2:"),
                                        StartsWith("c.textproto:3: binary: ")));
}

TEST(ReadNextSpec, WhatAnEarlierApiHasDoneIsNoError) {
  FakeSource core;
  core.files = {{"a.textproto", Good("a")}, {"b.textproto", Good("b")}};
  core.read_error = absl::NotFoundError("not the next");
  EXPECT_THAT(ReadNextSpec(core), IsOkAndHolds(true));
  core.read_error = absl::OkStatus();
  EXPECT_THAT(ReadNextSpec(core), IsOkAndHolds(true));
  EXPECT_THAT(core.run, ElementsAre("b"));
}

TEST(ReadNextSpec, ErrorsOfTheCoreAreGivenOn) {
  FakeSource core;
  core.files = {{"a.textproto", Good("a")}};
  core.next_error = absl::UnavailableError("gone");
  EXPECT_THAT(ReadNextSpec(core),
              StatusIs(absl::StatusCode::kUnavailable, "gone"));
  core.next_error = absl::OkStatus();
  core.read_error = absl::UnavailableError("gone");
  EXPECT_THAT(ReadNextSpec(core),
              StatusIs(absl::StatusCode::kUnavailable, "gone"));
  EXPECT_THAT(core.run, IsEmpty());
}

}  // namespace
}  // namespace holdfast::launcher

#include "launcher/options.h"

#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<Options> Parse(std::vector<std::string> args) {
  return ParseOptions(args);
}

TEST(Options, DefaultsAllowNothing) {
  const auto options = Parse({});
  ASSERT_OK(options);
  EXPECT_EQ(options->run_dir, "/run/holdfast");
  EXPECT_TRUE(options->binary_dirs.empty());
  EXPECT_TRUE(options->resource_dirs.empty());
}

TEST(Options, ListsMayBeRepeated) {
  const auto options = Parse({"--allow-binary-dir=/a", "--allow-binary-dir=/b",
                              "--allow-resource-dir=/c", "--policy-dir=/d",
                              "--run-dir=/e", "--uid-base=7", "--uid-count=9"});
  ASSERT_OK(options);
  EXPECT_THAT(options->binary_dirs, ElementsAre("/a", "/b"));
  EXPECT_THAT(options->resource_dirs, ElementsAre("/c"));
  EXPECT_THAT(options->policy_dirs, ElementsAre("/d"));
  EXPECT_EQ(options->run_dir, "/e");
  EXPECT_EQ(options->uid_base, 7u);
  EXPECT_EQ(options->uid_count, 9u);
}

TEST(Options, HelpIsAsked) { EXPECT_TRUE(Parse({"--help"})->help); }

TEST(Options, MistakesAreNamed) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"--nonsense=/x", "--nonsense: unknown option"},
      {"--run-dir", "--run-dir: unknown, or lacks its =VALUE"},
      {"--run-dir=", "--run-dir=: has no value"},
      {"--run-dir=x", "--run-dir=x: is not an absolute path"},
      {"--uid-base=x", "--uid-base=x: is not a number"},
      {"--uid-base=0", "--uid-base=0: is not a number"},
      {"--uid-count=1", "--uid-count: leaves no user"},
      {"--uid-base=2147483646", "--uid-count: leaves no user"},
      {"disk.img", "disk.img: unknown"}};
  for (const auto& [argument, message] : mistakes) {
    EXPECT_THAT(Parse({argument}), StatusIs(absl::StatusCode::kInvalidArgument,
                                            StartsWith(message)));
  }
}

TEST(Options, HelpKnowsEveryOption) {
  for (const char* option :
       {"--run-dir", "--spec-dir", "--allow-binary-dir", "--allow-resource-dir",
        "--allow-socket-dir", "--policy-dir", "--store=", "--store-policy",
        "--api=", "--api-policy", "--uid-base", "--uid-count", "examples:"}) {
    EXPECT_THAT(kHelp, HasSubstr(option));
  }
}

}  // namespace
}  // namespace holdfast::launcher

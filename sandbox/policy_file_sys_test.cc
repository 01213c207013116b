#include "sandbox/policy_file_sys.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::TempDir;
using ::testing::HasSubstr;

constexpr char kFragment[] = "steady:\nwrite  # the fragment's\n";
constexpr char kPolicy[] =
    "@include part.policy  # a part\nsteady:\nclose  # its own\n";

class PolicyFile : public ::testing::Test {
 protected:
  PolicyFile() {
    std::filesystem::create_directory(Own());
    std::filesystem::create_directory(Common());
  }
  std::string Own() const { return dir_.File("own"); }
  std::string Common() const { return dir_.File("common"); }

  static void Write(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  static size_t SteadyCalls(const Policy& policy) {
    return policy.SteadyRules().size();
  }

 private:
  TempDir dir_;
};

TEST_F(PolicyFile, FindsWhatItIncludesBesideIt) {
  Write(Own() + "/x.policy", kPolicy);
  Write(Own() + "/part.policy", kFragment);
  const auto policy = LoadPolicy(Own() + "/x.policy", {});
  ASSERT_OK(policy);
  EXPECT_EQ(SteadyCalls(*policy), 2u);
}

TEST_F(PolicyFile, FindsItInTheDirectoriesThatAreGiven) {
  Write(Own() + "/x.policy", kPolicy);
  Write(Common() + "/part.policy", kFragment);
  EXPECT_OK(LoadPolicy(Own() + "/x.policy", {"/nowhere", Common()}));
}

// A device may replace a fragment: its own folder comes first.
TEST_F(PolicyFile, PrefersWhatIsBesideIt) {
  Write(Own() + "/x.policy", kPolicy);
  Write(Own() + "/part.policy", kFragment);
  Write(Common() + "/part.policy", "no policy at all\n");
  EXPECT_OK(LoadPolicy(Own() + "/x.policy", {Common()}));
}

TEST_F(PolicyFile, NamesTheIncludeThatIsMissing) {
  Write(Own() + "/x.policy", kPolicy);
  const absl::Status status =
      LoadPolicy(Own() + "/x.policy", {Common()}).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("part.policy"));
}

TEST_F(PolicyFile, NamesTheFileThatIsMissing) {
  const absl::Status status = LoadPolicy(Own() + "/x.policy", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("x.policy"));
}

TEST_F(PolicyFile, RefusesWhatIsTooLong) {
  Write(Own() + "/x.policy", std::string(kMaxPolicyBytes + 1, '#'));
  EXPECT_FALSE(LoadPolicy(Own() + "/x.policy", {}).ok());
}

// A pipe that nobody writes to must not hold the launcher up.
TEST_F(PolicyFile, DoesNotWaitForAPipe) {
  const std::string pipe = Own() + "/x.policy";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const auto policy = LoadPolicy(pipe, {});
  EXPECT_FALSE(policy.ok() && SteadyCalls(*policy) > 0);
}

TEST_F(PolicyFile, RefusesADirectory) {
  EXPECT_FALSE(LoadPolicy(Own(), {}).ok());
}

}  // namespace
}  // namespace holdfast::sandbox

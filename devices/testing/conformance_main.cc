// Runs the conformance suite on the device that the command line describes
// (ParseTarget), each check as a test of its own. --suite=conformance and, for
// vfio-user, --suite=sessions need no privileges, --suite=crash needs root.

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/strip.h"
#include "base/testing/matchers.h"
#include "devices/testing/conformance.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

class CheckTest : public ::testing::Test {
 public:
  CheckTest(const ConformanceCheck& check, const ConformanceTarget& target,
            bool needs_root)
      : check_(check), target_(target), needs_root_(needs_root) {}

  void TestBody() override {
    if (needs_root_ && geteuid() != 0) GTEST_SKIP() << "needs root";
    EXPECT_OK(check_.run(target_));
  }

 private:
  const ConformanceCheck& check_;
  const ConformanceTarget& target_;
  const bool needs_root_;
};

void Register(const char* suite, absl::Span<const ConformanceCheck> checks,
              const ConformanceTarget& target, bool needs_root) {
  for (const ConformanceCheck& check : checks) {
    ::testing::RegisterTest(
        suite, check.name, nullptr, nullptr, __FILE__, __LINE__,
        [&check, &target, needs_root]() -> ::testing::Test* {
          return new CheckTest(check, target, needs_root);
        });
  }
}

int Main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  std::vector<std::string> arguments;
  std::string suite = "conformance";
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--suite=")) {
      suite = std::string(argument);
    } else {
      arguments.emplace_back(argument);
    }
  }
  const absl::StatusOr<ConformanceTarget> target = ParseTarget(arguments);
  if (!target.ok()) {
    std::fprintf(stderr, "%s\n", target.status().ToString().c_str());
    return 2;
  }
  if (suite == "sessions") {
    Register("Sessions", SessionChecks(), *target, false);
  } else if (suite == "crash") {
    Register("Crash", CrashChecks(), *target, true);
  } else {
    Register("CommandLine", CommandLineChecks(), *target, false);
    Register("Protocol", ProtocolChecks(), *target, false);
  }
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace holdfast::testing

int main(int argc, char** argv) { return holdfast::testing::Main(argc, argv); }

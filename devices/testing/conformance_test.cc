// The suite can fail: devices that are wrong in one way fail the check for it,
// and pass the others. Runs as real root: tagged no-sandbox.

#include "devices/testing/conformance.h"

#include <unistd.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ConformanceTarget Target(const std::string& program) {
  ConformanceTarget target;
  target.program = program;
  target.request = {FrontEnd::Buffer::Writable(64)};
  target.policy = "examples/hello_virtio/hello_virtio.policy";
  target.policy_includes = {"sandbox/policies"};
  target.store_program = "statestore/store/holdfast-store";
  target.patience = absl::Seconds(3);
  return target;
}

ConformanceTarget Broken(const std::string& name) {
  return Target("devices/testing/broken/" + name);
}

absl::Status Check(const std::string& check, const ConformanceTarget& target) {
  const ConformanceCheck* const found = FindCheck(check);
  if (found == nullptr) return absl::NotFoundError(check);
  return found->run(target);
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

class ConformanceControl : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

TEST_F(ConformanceControl, EveryNameIsUnique) {
  std::set<std::string> names;
  for (const auto checks : {CommandLineChecks(), ProtocolChecks(),
                            SessionChecks(), CrashChecks()}) {
    for (const ConformanceCheck& check : checks) {
      EXPECT_TRUE(names.insert(check.name).second) << check.name;
    }
  }
  EXPECT_EQ(FindCheck("NoSuchCheck"), nullptr);
}

TEST_F(ConformanceControl, DeviceThatLosesItsStateIsFound) {
  const ConformanceTarget target = Broken("loses_state");
  EXPECT_OK(Check("ResetStopsTheRings", target));
  for (const char* check :
       {"KillsBetweenRequestsAreInvisible", "KillsAroundResetsAreInvisible"}) {
    EXPECT_THAT(Message(Check(check, target)), HasSubstr("hello #1\\n"))
        << check;
  }
}

TEST_F(ConformanceControl, DeviceThatCompletesTwiceIsFound) {
  const ConformanceTarget target = Broken("completes_twice");
  EXPECT_OK(Check("StoppedRingsAreLeftAlone", target));
  EXPECT_THAT(Check("KillsAmongRequestsAreInvisible", target), Not(IsOk()));
}

TEST_F(ConformanceControl, DeviceThatIgnoresAResetIsFound) {
  const ConformanceTarget target = Broken("ignores_reset");
  EXPECT_OK(Check("ConfigCanBeReadAtAnyOffset", target));
  EXPECT_OK(Check("RefusedConfigWritesChangeNothing", target));
  EXPECT_THAT(Message(Check("ResetBringsTheConfigBack", target)),
              HasSubstr("byte 0 of the configuration is 255 after a reset"));
}

TEST_F(ConformanceControl, DeviceThatTakesAnyVersionIsFound) {
  const ConformanceTarget target = Broken("takes_any_version");
  EXPECT_OK(Check("MistakesAreNamed", target));
  EXPECT_THAT(
      Message(Check("OtherCompatVersionsAreRefused", target)),
      HasSubstr("'--compat-version=2 --print-capabilities' ended with 0"));
}

TEST_F(ConformanceControl, DeviceThatDiesOfOddOffsetsIsFound) {
  const ConformanceTarget target = Broken("dies_of_config");
  EXPECT_OK(Check("MemoryMayBeSharedAnew", target));
  EXPECT_THAT(Check("ConfigCanBeReadAtAnyOffset", target), Not(IsOk()));
}

TEST_F(ConformanceControl, DeviceThatRemembersAClientIsFound) {
  const ConformanceTarget target = Broken("remembers_client");
  const std::string said =
      Message(Check("AReconnectedClientFindsANewDevice", target));
  EXPECT_THAT(said, HasSubstr("a client that comes back finds\n16 \n0:0=2"));
  EXPECT_THAT(said, HasSubstr("instead of\n16 \n0:0=1"));
}

TEST_F(ConformanceControl, GoldenOfAnotherDeviceIsRefused) {
  ConformanceTarget target = Target("examples/hello_virtio/hello_virtio");
  target.golden = "devices/virtio_rng/golden/compat_v1.txt";
  EXPECT_THAT(Message(Check("IsWhatItsGoldenSays", target)),
              HasSubstr("and the device is\ndevice hello_virtio"));
  target.golden = "examples/hello_virtio/golden/compat_v1.txt";
  EXPECT_OK(Check("IsWhatItsGoldenSays", target));
}

// A program that is no device fails nearly everything, and quickly.
TEST_F(ConformanceControl, ProgramThatIsNoDeviceFails) {
  ConformanceTarget target = Target("/bin/true");
  target.resources["image"] = 4096;
  target.patience = absl::Milliseconds(200);
  for (const auto checks :
       {CommandLineChecks(), ProtocolChecks(), SessionChecks()}) {
    for (const ConformanceCheck& check : checks) {
      EXPECT_FALSE(check.run(target).ok()) << check.name;
    }
  }
}

}  // namespace
}  // namespace holdfast::testing

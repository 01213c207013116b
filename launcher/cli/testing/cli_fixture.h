#ifndef HOLDFAST_LAUNCHER_CLI_TESTING_CLI_FIXTURE_H_
#define HOLDFAST_LAUNCHER_CLI_TESTING_CLI_FIXTURE_H_

#include <string>

#include "gtest/gtest.h"
#include "launcher/core_protocol.h"
#include "launcher/testing/launcher_process.h"

namespace holdfast::launcher {

struct Output {
  int status = -1;
  std::string text;  // Both streams.
};

// Runs a command of the shell.
Output Shell(const std::string& command);
// Runs the program `holdfast` on a run directory; `words` go through the shell.
Output Holdfast(const std::string& run_dir, const std::string& words);

// A holdfastd with its api, and the program that people use.
class CliTest : public ::testing::Test {
 protected:
  CliTest();

  std::string RunDir() const;
  Output Holdfast(const std::string& words) {
    return launcher::Holdfast(RunDir(), words);
  }
  // A spec file of the fake device.
  std::string SpecFile(const std::string& name);
  // The api that was started last, after event `after`.
  LaunchEvent AwaitApi(uint64_t after = 0);

  LauncherProcess launcher_;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CLI_TESTING_CLI_FIXTURE_H_

#include "launcher/cli/testing/cli_fixture.h"

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/testing/matchers.h"

namespace holdfast::launcher {

Output Shell(const std::string& command) {
  Output output;
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return output;
  std::array<char, 4096> buffer;
  while (const size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.text.append(buffer.data(), got);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) output.status = WEXITSTATUS(status);
  return output;
}

Output Holdfast(const std::string& run_dir, const std::string& words) {
  return Shell(Runfile("launcher/cli/holdfast") + " --run-dir=" + run_dir +
               " " + words + " 2>&1");
}

CliTest::CliTest()
    : launcher_({"--api=" + Runfile("launcher/api/holdfast-api"),
                 "--api-policy=" + Runfile("launcher/api/api.policy")}) {}

std::string CliTest::RunDir() const {
  return std::filesystem::path(launcher_.File("x")).parent_path().string();
}

std::string CliTest::SpecFile(const std::string& name) {
  const std::string path = launcher_.File(name + ".textproto");
  std::ofstream(path) << "name: \"" << name << "\"\n"
                      << "binary: \"" << Runfile("launcher/testing/fake_device")
                      << "\"\n"
                      << "socket_path: \"" << launcher_.File(name + ".sock")
                      << "\"\n"
                      << "segment_bytes: 4096\n"
                      << "restart { budget: 0 backoff_base_ms: 0 }\n";
  return path;
}

LaunchEvent CliTest::AwaitApi(uint64_t after) {
  const auto event = launcher_.AwaitEvent("api-started", after);
  EXPECT_OK(event);
  return event.value_or(LaunchEvent());
}

}  // namespace holdfast::launcher

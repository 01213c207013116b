#include "base/log.h"

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

// What `write` leaves on standard error.
template <typename Write>
std::string Written(Write write) {
  ::testing::internal::CaptureStderr();
  write();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Log, BeginsWithSeverityAndProgram) {
  EXPECT_EQ(Written([] { LogInfo("n=", 1); }), "I holdfast: n=1\n");
  EXPECT_EQ(Written([] { LogWarning("w"); }), "W holdfast: w\n");
  EXPECT_EQ(Written([] { LogError("e"); }), "E holdfast: e\n");
}

TEST(Log, CutsWhatIsTooLong) {
  const std::string line = Written([] { LogInfo(std::string(100'000, 'a')); });
  EXPECT_EQ(line, "I holdfast: " + std::string(1000, 'a') + "\n");
}

TEST(Log, CutsTheNameOfAProgramToo) {
  static const std::string name(500, 'p');
  SetLogProgram(name.c_str());
  const std::string line = Written([] { LogInfo("x"); });
  SetLogProgram("holdfast");
  EXPECT_EQ(line, "I " + std::string(64, 'p') + ": x\n");
}

TEST(Log, AnEmptyTextIsALine) {
  EXPECT_EQ(Written([] { LogLine(LogSeverity::kInfo, ""); }), "I holdfast: \n");
}

TEST(Log, NobodyForgesALine) {
  EXPECT_EQ(Written([] { LogInfo("a\nE holdfast: b\r\x1b[2J\x7f"); }),
            "I holdfast: a?E holdfast: b??[2J?\n");
}

TEST(Log, LinesOfSeveralProcessesDoNotMix) {
  constexpr int kProcesses = 4;
  constexpr int kLines = 200;
  const std::string all = Written([] {
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        const std::string text(300, static_cast<char>('a' + i));
        for (int n = 0; n < kLines; ++n) LogInfo(text);
        _exit(0);
      }
      children.push_back(child);
    }
    for (pid_t child : children) waitpid(child, nullptr, 0);
  });
  std::vector<std::string> lines = absl::StrSplit(all, '\n');
  ASSERT_EQ(lines.back(), "");
  lines.pop_back();
  ASSERT_EQ(lines.size(), size_t{kProcesses * kLines});
  for (const std::string& line : lines) {
    const std::string text = line.substr(std::string("I holdfast: ").size());
    EXPECT_EQ(text, std::string(300, text[0]));
  }
}

TEST(Log, StandardErrorMayBeGone) {
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);
    LogError("nobody hears this");
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace holdfast

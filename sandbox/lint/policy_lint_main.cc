// policy_lint [--max-steady=N] [--include-dir=DIR]... [--table=FILE] POLICY...
// Prints one line of figures for each policy, as a row of a Markdown table, and
// every finding; ends with 1 when there is one. With --table, a row that FILE
// does not have is a finding.

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/text_file_sys.h"
#include "sandbox/lint/lint.h"
#include "sandbox/policy_file_sys.h"

namespace {

struct CommandLine {
  size_t max_steady = 16;
  std::vector<std::string> include_dirs;
  std::string table;
  std::vector<std::string> policies;
};

bool Parse(int argc, char** argv, CommandLine& line) {
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--max-steady=")) {
      if (!absl::SimpleAtoi(argument, &line.max_steady)) return false;
    } else if (absl::ConsumePrefix(&argument, "--include-dir=")) {
      line.include_dirs.emplace_back(argument);
    } else if (absl::ConsumePrefix(&argument, "--table=")) {
      line.table = std::string(argument);
    } else {
      line.policies.emplace_back(argument);
    }
  }
  return !line.policies.empty();
}

// "virtio_blk" of "somewhere/virtio_blk.policy".
std::string Title(absl::string_view path) {
  path = path.substr(path.rfind('/') + 1);
  absl::ConsumeSuffix(&path, ".policy");
  return std::string(path);
}

std::vector<std::string> Review(const CommandLine& line,
                                const std::string& path) {
  const auto policy = holdfast::sandbox::LoadPolicy(path, line.include_dirs);
  if (!policy.ok()) return {std::string(policy.status().message())};
  auto result = holdfast::sandbox::LintPolicy(*policy, line.max_steady);
  const std::string row = absl::StrCat(
      "| ", Title(path), " | ", result.startup_calls, " | ",
      result.steady_calls, " | ", result.limited_calls, " | ",
      result.startup_instructions, "/", result.steady_instructions, " |");
  std::printf("%s\n", row.c_str());
  if (!line.table.empty() &&
      !absl::StrContains(holdfast::ReadTextFile(line.table), row)) {
    result.findings.push_back(absl::StrCat(line.table, " lacks this row"));
  }
  return result.findings;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  if (!Parse(argc, argv, line)) {
    std::fprintf(stderr,
                 "usage: policy_lint [--max-steady=N] [--include-dir=DIR]... "
                 "[--table=FILE] POLICY...\n");
    return 2;
  }
  std::printf(
      "| policy | startup | steady | of these with limits | instructions "
      "(startup/steady) |\n|---|---|---|---|---|\n");
  size_t findings = 0;
  for (const std::string& path : line.policies) {
    for (const std::string& finding : Review(line, path)) {
      std::printf("  %s\n", finding.c_str());
      ++findings;
    }
  }
  return findings == 0 ? 0 : 1;
}

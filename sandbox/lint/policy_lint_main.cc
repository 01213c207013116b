// policy_lint [--max-steady=N] [--include-dir=DIR]... POLICY...
// Prints one line of figures for each policy and every finding; ends with 1
// when there is one.

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "sandbox/lint/lint.h"
#include "sandbox/policy_file_sys.h"

int main(int argc, char** argv) {
  size_t max_steady = 16;
  std::vector<std::string> include_dirs;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--max-steady=")) {
      if (!absl::SimpleAtoi(argument, &max_steady)) return 2;
    } else if (absl::ConsumePrefix(&argument, "--include-dir=")) {
      include_dirs.emplace_back(argument);
    } else {
      files.emplace_back(argument);
    }
  }
  if (files.empty()) {
    std::fprintf(stderr,
                 "usage: policy_lint [--max-steady=N] "
                 "[--include-dir=DIR]... POLICY...\n");
    return 2;
  }
  size_t findings = 0;
  std::printf("%-40s %8s %8s %8s %12s\n", "policy", "startup", "steady",
              "limited", "instructions");
  for (const std::string& file : files) {
    const auto policy = holdfast::sandbox::LoadPolicy(file, include_dirs);
    if (!policy.ok()) {
      std::printf("%s\n", std::string(policy.status().message()).c_str());
      ++findings;
      continue;
    }
    const auto result = holdfast::sandbox::LintPolicy(*policy, max_steady);
    std::printf("%-40s %8zu %8zu %8zu %6zu/%5zu\n", file.c_str(),
                result.startup_calls, result.steady_calls, result.limited_calls,
                result.startup_instructions, result.steady_instructions);
    for (const std::string& finding : result.findings) {
      std::printf("  %s\n", finding.c_str());
    }
    findings += result.findings.size();
  }
  return findings == 0 ? 0 : 1;
}

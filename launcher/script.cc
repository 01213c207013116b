#include "launcher/script.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"

namespace holdfast::launcher {

std::vector<std::string> InterpreterOf(absl::string_view head) {
  head = head.substr(0, kScriptHead);
  if (!absl::ConsumePrefix(&head, "#!")) return {};
  const size_t end = head.find('\n');
  // A line that is cut would name another program.
  if (end == absl::string_view::npos) return {};
  const absl::string_view line =
      absl::StripAsciiWhitespace(head.substr(0, end));
  if (line.empty() || line.find('\0') != absl::string_view::npos) return {};
  const size_t space = line.find_first_of(" \t");
  std::vector<std::string> words = {std::string(line.substr(0, space))};
  if (space != absl::string_view::npos) {
    words.emplace_back(absl::StripAsciiWhitespace(line.substr(space)));
  }
  return words;
}

}  // namespace holdfast::launcher

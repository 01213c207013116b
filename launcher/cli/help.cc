#include "absl/strings/str_cat.h"
#include "launcher/cli/command.h"
#include "launcher/cli/grammar.h"

namespace holdfast::cli {
namespace {

constexpr char kOptions[] =
    "\noptions of every command:\n"
    "  --run-dir=DIR  the run directory of holdfastd  [/run/holdfast]\n"
    "  --json         print JSON\n"
    "  --help\n";

constexpr char kStatuses[] =
    "\nexit status: 0 done; 1 it failed, and standard error says why and what\n"
    "to do; 2 wrong usage.\n";

std::string Overview() {
  std::string text =
      "usage: holdfast COMMAND [OPTION]...\n"
      "Talks to a running holdfastd.\n\ncommands:\n";
  for (const CommandForm& topic : AllCommands()) {
    absl::StrAppend(&text, "  ", topic.usage, "\n");
  }
  absl::StrAppend(&text, kOptions, "\nexamples:\n");
  for (const CommandForm& topic : AllCommands())
    absl::StrAppend(&text, topic.examples);
  absl::StrAppend(&text, kStatuses);
  return text;
}

}  // namespace

std::string HelpText(absl::string_view name) {
  std::string found;
  for (const CommandForm& topic : AllCommands()) {
    // "state" alone: both of its commands.
    const absl::string_view whole = topic.name;
    if (whole != name && whole.substr(0, whole.find(' ')) != name) continue;
    absl::StrAppend(&found, "usage: holdfast ", topic.usage, "\n", topic.text,
                    "\nexamples:\n", topic.examples, "\n");
  }
  if (found.empty()) return Overview();
  found.pop_back();
  return absl::StrCat(found, kOptions, kStatuses);
}

}  // namespace holdfast::cli

#ifndef HOLDFAST_LAUNCHER_CLI_GRAMMAR_H_
#define HOLDFAST_LAUNCHER_CLI_GRAMMAR_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "launcher/cli/command.h"

namespace holdfast::cli {

// The commands of `holdfast` as data: what is understood, explained and
// completed.

// What stands in a place of a command line.
enum class Word {
  kNone,
  kInstance,
  kInstanceOrFault,
  kFault,
  kFile,
  kShell,
  kCommand,
  kProfile,
};

struct OptionForm {
  const char* name = nullptr;  // "--since"; null: there is no such option.
  // "" for a switch; "FILE", "DIR", "NAME", "NUMBER", "PROFILE"; or all that
  // it may be, with spaces between.
  const char* value = "";

  bool takes_value() const { return value[0] != '\0'; }
  bool is_path() const;
};

struct CommandForm {
  static constexpr size_t kMaxWords = 2;
  static constexpr size_t kMaxOwnOptions = 6;

  Command::Verb verb;
  const char* name;      // One word or two.
  const char* usage;     // After "usage: holdfast ".
  const char* summary;   // One line.
  const char* text;      // Its help.
  const char* examples;  // Lines that begin with two spaces.
  size_t least;          // Words after its name.
  Word words[kMaxWords];
  OptionForm options[kMaxOwnOptions];
  // Whether "-- PROGRAM ARGUMENT..." may follow.
  bool wraps = false;

  // Words after its name.
  size_t most() const;
  // Beside those of every command.
  absl::Span<const OptionForm> own_options() const;
};

// In the order in which they are explained; without `help`, whose words are
// those of the others.
absl::Span<const CommandForm> AllCommands();
// Null: there is none.
const CommandForm* FindCommand(absl::string_view name);
// Those of every command.
absl::Span<const OptionForm> CommonOptions();
// The shells that there is a script for, with spaces between.
extern const char kShells[];

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_GRAMMAR_H_

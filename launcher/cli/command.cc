#include "launcher/cli/command.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "launcher/cli/grammar.h"

namespace holdfast::cli {
namespace {

using Words = std::vector<std::string>;
using Verb = Command::Verb;

absl::Status Bad(absl::string_view what, absl::string_view topic) {
  return absl::InvalidArgumentError(absl::StrCat(
      what, " (see holdfast ", topic, topic.empty() ? "" : " ", "--help)"));
}

// "kill", "segv", ... are the names of the enumeration, in small letters.
template <typename Enum>
bool ParseName(const std::string& word,
               bool (*parse)(const std::string&, Enum*), Enum& value) {
  return word == absl::AsciiStrToLower(word) &&
         parse(absl::AsciiStrToUpper(word), &value);
}

bool ParseFault(const std::string& word, v1::Fault& fault) {
  return ParseName<v1::Fault>(
      word,
      [](const std::string& n, v1::Fault* f) { return Fault_Parse(n, f); },
      fault);
}

bool ParseTarget(const std::string& word, v1::FaultTarget& target) {
  return ParseName<v1::FaultTarget>(
      word,
      [](const std::string& n, v1::FaultTarget* t) {
        return FaultTarget_Parse(n, t);
      },
      target);
}

constexpr CommandForm kHelp = {Verb::kHelp,
                               "help",
                               "help [COMMAND]",
                               "",
                               "",
                               "",
                               0,
                               {Word::kCommand, Word::kCommand},
                               {}};

// The commands, for a person who has mistyped one.
std::string CommandNames() {
  std::vector<std::string> names = {"help"};
  for (const CommandForm& form : AllCommands()) names.emplace_back(form.name);
  std::sort(names.begin(), names.end());
  return absl::StrJoin(names, ", ");
}

const OptionForm* FindOption(absl::Span<const OptionForm> options,
                             absl::string_view name) {
  for (const OptionForm& option : options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

absl::Status SetOption(absl::string_view name, const std::string& value,
                       const std::string& topic, Command& command) {
  if (name == "--json") command.json = true;
  if (name == "--follow") command.follow = true;
  if (name == "--run-dir") command.run_dir = value;
  if (name == "--output") command.file = value;
  if (name == "--input") command.input = value;
  if (name == "--profile") command.profile = value;
  if (name == "--name") command.instance = value;
  if (name == "--socket-path") command.socket_path = value;
  if (name == "--lib-dir") command.lib_dir = value;
  if (name == "--no-standby") command.no_standby = true;
  if (name == "--print") command.print = true;
  if (name == "--since" && !absl::SimpleAtoi(value, &command.since)) {
    return Bad(
        absl::StrCat("--since: '", value, "' is not the number of an event"),
        topic);
  }
  if (name == "--target" && !ParseTarget(value, command.target)) {
    return Bad(absl::StrCat("--target: '", value,
                            "' is none of active, standby, store, api, core"),
               topic);
  }
  return absl::OkStatus();
}

// One argument that starts with "-". `form` is the command.
absl::Status TakeOption(absl::string_view argument, const CommandForm& form,
                        Command& command) {
  const std::string topic = form.name;
  if (argument == "-f") argument = "--follow";
  const size_t equal = argument.find('=');
  const absl::string_view name = argument.substr(0, equal);
  const OptionForm* option = FindOption(CommonOptions(), name);
  if (option == nullptr) option = FindOption(form.own_options(), name);
  const bool has_value = equal != absl::string_view::npos;
  if (option == nullptr || (has_value && !option->takes_value())) {
    return Bad(absl::StrCat(topic, ": unknown option ", argument), topic);
  }
  const std::string value(has_value ? argument.substr(equal + 1) : "");
  if (option->takes_value() && value.empty()) {
    return Bad(absl::StrCat(topic, ": ", name, " needs a value"), topic);
  }
  return SetOption(name, value, topic, command);
}

bool NeedsInstance(v1::FaultTarget target) {
  return target == v1::ACTIVE || target == v1::STANDBY || target == v1::BACKEND;
}

absl::Status TakeInject(Words words, Command& command) {
  const bool named = NeedsInstance(command.target);
  if (words.size() != (named ? 2 : 1)) {
    return Bad(named ? "inject: needs INSTANCE and kill, stop or segv"
                     : "inject: with this --target it needs kill, stop or "
                       "segv and no instance",
               "inject");
  }
  if (!ParseFault(words.back(), command.fault)) {
    return Bad(absl::StrCat("inject: '", words.back(),
                            "' is none of kill, stop, segv"),
               "inject");
  }
  if (named) command.instance = words[0];
  return absl::OkStatus();
}

// A spec, or a profile and what it is applied to.
absl::Status TakeRun(const Words& words, Command& command) {
  if (!command.profile.empty()) {
    if (!words.empty()) {
      return Bad(absl::StrCat("run: '", words[0],
                              "' stands before the --: a program to wrap "
                              "stands behind it, and a spec takes no "
                              "--profile"),
                 "run");
    }
    if (!command.wrapped.empty()) return absl::OkStatus();
    return Bad("run: --profile needs -- PROGRAM ARGUMENT... at the end", "run");
  }
  if (!command.wrapped.empty()) {
    return Bad("run: a program behind -- needs --profile=PROFILE", "run");
  }
  const bool more = !command.instance.empty() || !command.socket_path.empty() ||
                    !command.lib_dir.empty() || command.no_standby ||
                    command.print;
  if (more) {
    return Bad(
        "run: --name, --socket-path, --no-standby, --print and --lib-dir go "
        "with --profile; a spec has fields",
        "run");
  }
  if (words.empty()) {
    return Bad(
        "run: too few arguments: give SPEC.textproto, or --profile=PROFILE -- "
        "PROGRAM ARGUMENT...",
        "run");
  }
  command.file = words[0];
  return absl::OkStatus();
}

absl::Status TakeReplace(const Words& words, Command& command) {
  command.instance = words[0];
  if (!command.profile.empty() && !command.wrapped.empty()) {
    return absl::OkStatus();
  }
  return Bad("replace: needs --profile=PROFILE -- PROGRAM ARGUMENT...",
             "replace");
}

absl::Status TakeShell(const std::string& shell, Command& command) {
  const Words shells = absl::StrSplit(kShells, ' ');
  if (std::find(shells.begin(), shells.end(), shell) == shells.end()) {
    return Bad(absl::StrCat("completion: '", shell, "' is none of ",
                            absl::StrJoin(shells, ", ")),
               "completion");
  }
  command.shell = shell;
  return absl::OkStatus();
}

absl::Status TakeStateDump(const Words& words, Command& command) {
  if (words.empty() == command.input.empty() ||
      (!command.input.empty() && !command.file.empty())) {
    return Bad(
        "state dump: needs INSTANCE, or --input=FILE alone for one that was "
        "saved",
        "state dump");
  }
  if (!words.empty()) command.instance = words[0];
  return absl::OkStatus();
}

// "state" and "profile", which need another word.
bool IsFamily(absl::string_view word) {
  for (const CommandForm& form : AllCommands()) {
    if (absl::StartsWith(form.name, absl::StrCat(word, " "))) return true;
  }
  return false;
}

absl::Status CheckTopic(const std::string& topic) {
  if (topic.empty() || IsFamily(topic) || topic == "help" ||
      FindCommand(topic) != nullptr) {
    return absl::OkStatus();
  }
  return Bad(
      absl::StrCat("no command '", topic, "': there is ", CommandNames()), "");
}

absl::Status TakeWords(const Words& words, Command& command) {
  switch (command.verb) {
    case Verb::kRun:
      return TakeRun(words, command);
    case Verb::kStatus:
      if (!words.empty()) command.instance = words[0];
      break;
    case Verb::kStop:
    case Verb::kRestart:
    case Verb::kResize:
      command.instance = words[0];
      break;
    case Verb::kReplace:
      return TakeReplace(words, command);
    case Verb::kStateDump:
      return TakeStateDump(words, command);
    case Verb::kStateDiff:
      command.instance = words[0];
      command.file = words[1];
      break;
    case Verb::kInject:
      return TakeInject(words, command);
    case Verb::kCompletion:
      return TakeShell(words[0], command);
    case Verb::kHelp:
      command.topic = words.empty() ? "" : words[0];
      if (words.size() == 2) absl::StrAppend(&command.topic, " ", words[1]);
      return CheckTopic(command.topic);
    case Verb::kProfileShow:
      command.profile = words[0];
      break;
    case Verb::kProfileNew:
      if (!command.wrapped.empty()) break;
      return Bad("profile new: needs -- PROGRAM ARGUMENT... at the end",
                 "profile new");
    case Verb::kList:
    case Verb::kEvents:
    case Verb::kProfileList:
      break;
  }
  return absl::OkStatus();
}

bool TakesValue(absl::string_view name) {
  const OptionForm* option = FindOption(CommonOptions(), name);
  for (const CommandForm& form : AllCommands()) {
    if (option == nullptr) option = FindOption(form.own_options(), name);
  }
  return option != nullptr && option->takes_value();
}

// "--run-dir DIR" is the same as "--run-dir=DIR"; without DIR, as "--run-dir=".
Words JoinValues(absl::Span<const std::string> args) {
  Words joined;
  for (size_t i = 0; i < args.size(); ++i) {
    joined.push_back(args[i]);
    if (!TakesValue(args[i])) continue;
    joined.back() += "=";
    if (i + 1 < args.size()) joined.back() += args[++i];
  }
  return joined;
}

}  // namespace

absl::StatusOr<Command> ParseCommand(absl::Span<const std::string> args) {
  const auto end = std::find(args.begin(), args.end(), "--");
  Command command;
  if (end != args.end()) command.wrapped.assign(end + 1, args.end());
  args = args.subspan(0, static_cast<size_t>(end - args.begin()));
  Words words, options;
  bool help = false;
  for (std::string& word : JoinValues(args)) {
    if (word == "--help" || word == "-h") {
      help = true;
    } else if (word.size() > 1 && word[0] == '-') {
      options.push_back(std::move(word));
    } else {
      words.push_back(std::move(word));
    }
  }
  if (words.empty()) {
    if (help) return Command();
    return Bad("which command?", "");
  }
  std::string topic = words[0];
  if (IsFamily(topic) && words.size() > 1) {
    absl::StrAppend(&topic, " ", words[1]);
    words.erase(words.begin());
  }
  words.erase(words.begin());
  if (help) {
    command.topic = topic;
    RETURN_IF_ERROR(CheckTopic(topic));
    return command;
  }
  const CommandForm* const form = topic == "help" ? &kHelp : FindCommand(topic);
  if (form == nullptr) {
    RETURN_IF_ERROR(CheckTopic(topic));
    return Bad(topic == "state" ? "state: dump or diff?"
                                : "profile: list, show or new?",
               topic);
  }
  if (!command.wrapped.empty() && !form->wraps) {
    return Bad(absl::StrCat(topic, ": takes no program behind --"), topic);
  }
  command.verb = form->verb;
  for (const std::string& option : options) {
    RETURN_IF_ERROR(TakeOption(option, *form, command));
  }
  if (words.size() < form->least || words.size() > form->most()) {
    return Bad(absl::StrCat(topic, ": too ",
                            words.size() < form->least ? "few" : "many",
                            " arguments: holdfast ", form->usage),
               topic);
  }
  RETURN_IF_ERROR(TakeWords(words, command));
  return command;
}

}  // namespace holdfast::cli

#include "launcher/cli/command.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace holdfast::cli {
namespace {

using Words = std::vector<std::string>;
using Verb = Command::Verb;

struct Form {
  Verb verb;
  size_t least;  // Words after the command.
  size_t most;
};

const std::map<std::string, Form>& Forms() {
  static const auto& forms = *new std::map<std::string, Form>{
      {"run", {Verb::kRun, 1, 1}},
      {"list", {Verb::kList, 0, 0}},
      {"status", {Verb::kStatus, 0, 1}},
      {"events", {Verb::kEvents, 0, 0}},
      {"stop", {Verb::kStop, 1, 1}},
      {"restart", {Verb::kRestart, 1, 1}},
      {"resize", {Verb::kResize, 1, 1}},
      {"state dump", {Verb::kStateDump, 0, 1}},
      {"state diff", {Verb::kStateDiff, 2, 2}},
      {"inject", {Verb::kInject, 1, 2}},
      {"completion", {Verb::kCompletion, 1, 1}},
      {"help", {Verb::kHelp, 0, 2}},
  };
  return forms;
}

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

// The commands, for a person who has mistyped one.
std::string CommandNames() {
  return absl::StrJoin(Forms(), ", ", [](std::string* out, const auto& form) {
    absl::StrAppend(out, form.first);
  });
}

// One argument that starts with "--". `topic` is the command.
absl::Status TakeOption(absl::string_view option, const std::string& topic,
                        Command& command) {
  const auto value = [&option](absl::string_view name) {
    return absl::ConsumePrefix(&option, name);
  };
  if (absl::EndsWith(option, "=") && option.size() > 3) {
    return Bad(absl::StrCat(topic, ": ", absl::StripSuffix(option, "="),
                            " needs a value"),
               topic);
  }
  if (option == "--json") {
    command.json = true;
  } else if (value("--run-dir=")) {
    command.run_dir = std::string(option);
  } else if (topic == "events" && (option == "--follow" || option == "-f")) {
    command.follow = true;
  } else if (topic == "events" && value("--since=")) {
    if (!absl::SimpleAtoi(option, &command.since)) {
      return Bad(
          absl::StrCat("--since: '", option, "' is not the number of an event"),
          topic);
    }
  } else if (topic == "inject" && value("--target=")) {
    if (!ParseTarget(std::string(option), command.target)) {
      return Bad(absl::StrCat("--target: '", option,
                              "' is none of active, standby, store, api, core"),
                 topic);
    }
  } else if (topic == "state dump" && value("--output=")) {
    command.file = std::string(option);
  } else if (topic == "state dump" && value("--input=")) {
    command.input = std::string(option);
  } else {
    return Bad(absl::StrCat(topic, ": unknown option ", option), topic);
  }
  return absl::OkStatus();
}

bool NeedsInstance(v1::FaultTarget target) {
  return target == v1::ACTIVE || target == v1::STANDBY;
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

absl::Status CheckTopic(const std::string& topic) {
  if (topic.empty() || topic == "state" || Forms().count(topic) != 0) {
    return absl::OkStatus();
  }
  return Bad(
      absl::StrCat("no command '", topic, "': there is ", CommandNames()), "");
}

absl::Status TakeWords(const Words& words, Command& command) {
  switch (command.verb) {
    case Verb::kRun:
      command.file = words[0];
      break;
    case Verb::kStatus:
      if (!words.empty()) command.instance = words[0];
      break;
    case Verb::kStop:
    case Verb::kRestart:
    case Verb::kResize:
      command.instance = words[0];
      break;
    case Verb::kStateDump:
      return TakeStateDump(words, command);
    case Verb::kStateDiff:
      command.instance = words[0];
      command.file = words[1];
      break;
    case Verb::kInject:
      return TakeInject(words, command);
    case Verb::kCompletion:
      if (words[0] != "bash") {
        return Bad("completion: only bash is known", "completion");
      }
      break;
    case Verb::kHelp:
      command.topic = words.empty() ? "" : words[0];
      if (words.size() == 2) absl::StrAppend(&command.topic, " ", words[1]);
      return CheckTopic(command.topic);
    case Verb::kList:
    case Verb::kEvents:
      break;
  }
  return absl::OkStatus();
}

// "--run-dir DIR" is the same as "--run-dir=DIR"; without DIR, as "--run-dir=".
Words JoinValues(absl::Span<const std::string> args) {
  Words joined;
  for (size_t i = 0; i < args.size(); ++i) {
    joined.push_back(args[i]);
    for (const char* name :
         {"--run-dir", "--since", "--target", "--output", "--input"}) {
      if (args[i] != name) continue;
      const bool last = i + 1 == args.size();
      joined.back() = absl::StrCat(name, "=", last ? "" : args[++i]);
      break;
    }
  }
  return joined;
}

}  // namespace

absl::StatusOr<Command> ParseCommand(absl::Span<const std::string> args) {
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
  Command command;
  if (words.empty()) {
    if (help) return command;
    return Bad("which command?", "");
  }
  std::string topic = words[0];
  if (topic == "state" && words.size() > 1) {
    absl::StrAppend(&topic, " ", words[1]);
    words.erase(words.begin());
  }
  words.erase(words.begin());
  if (help) {
    command.topic = topic;
    RETURN_IF_ERROR(CheckTopic(topic));
    return command;
  }
  const auto form = Forms().find(topic);
  if (form == Forms().end()) {
    RETURN_IF_ERROR(CheckTopic(topic));
    return Bad("state: dump or diff?", topic);
  }
  command.verb = form->second.verb;
  for (const std::string& option : options) {
    RETURN_IF_ERROR(TakeOption(option, topic, command));
  }
  if (words.size() < form->second.least || words.size() > form->second.most) {
    return Bad(absl::StrCat(topic, ": too ",
                            words.size() < form->second.least ? "few" : "many",
                            " arguments"),
               topic);
  }
  RETURN_IF_ERROR(TakeWords(words, command));
  return command;
}

}  // namespace holdfast::cli

#include "launcher/cli/command.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/grammar.h"

namespace holdfast::cli {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Verb = Command::Verb;

absl::StatusOr<Command> Parse(std::vector<std::string> args) {
  return ParseCommand(args);
}

auto Refused(const std::string& text) {
  return StatusIs(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr(text), HasSubstr("--help)")));
}

TEST(Command, EachCommandIsUnderstood) {
  EXPECT_EQ(Parse({"run", "a.textproto"})->file, "a.textproto");
  EXPECT_EQ(Parse({"list"})->verb, Verb::kList);
  EXPECT_EQ(Parse({"status"})->instance, "");
  EXPECT_EQ(Parse({"status", "d"})->instance, "d");
  EXPECT_EQ(Parse({"stop", "d"})->verb, Verb::kStop);
  EXPECT_EQ(Parse({"restart", "d"})->verb, Verb::kRestart);
  const auto replace =
      Parse({"replace", "d", "--profile=p", "--", "prog", "--arg"});
  ASSERT_OK(replace);
  EXPECT_EQ(replace->verb, Verb::kReplace);
  EXPECT_EQ(replace->instance, "d");
  EXPECT_EQ(replace->profile, "p");
  EXPECT_THAT(replace->wrapped, ElementsAre("prog", "--arg"));
  EXPECT_EQ(Parse({"resize", "d"})->verb, Verb::kResize);
  EXPECT_EQ(Parse({"state", "dump", "d"})->verb, Verb::kStateDump);
  EXPECT_EQ(Parse({"state", "dump", "d", "--output=f"})->file, "f");
  EXPECT_EQ(Parse({"state", "dump", "--input", "f"})->input, "f");
  EXPECT_EQ(Parse({"state", "diff", "d", "f"})->verb, Verb::kStateDiff);
  EXPECT_EQ(Parse({"completion", "bash"})->verb, Verb::kCompletion);
  EXPECT_EQ(Parse({"completion", "zsh"})->shell, "zsh");
  const auto events = Parse({"events", "--follow", "--since", "7"});
  ASSERT_OK(events);
  EXPECT_TRUE(events->follow);
  EXPECT_EQ(events->since, 7u);
}

TEST(Command, OptionsOfAllCommandsStandAnywhere) {
  for (const auto& words :
       {std::vector<std::string>{"--run-dir=/r", "list", "--json"},
        {"list", "--json", "--run-dir", "/r"}}) {
    const auto command = ParseCommand(words);
    ASSERT_OK(command);
    EXPECT_TRUE(command->json);
    EXPECT_EQ(command->socket(), "/r/api.sock");
  }
  EXPECT_EQ(Parse({"list"})->socket(), "/run/holdfast/api.sock");
}

TEST(Command, InjectHitsTheActiveProcessUnlessToldOtherwise) {
  const auto kill = Parse({"inject", "d", "kill"});
  ASSERT_OK(kill);
  EXPECT_EQ(kill->instance, "d");
  EXPECT_EQ(kill->fault, v1::KILL);
  EXPECT_EQ(kill->target, v1::ACTIVE);
  const auto segv = Parse({"inject", "d", "segv", "--target", "standby"});
  ASSERT_OK(segv);
  EXPECT_EQ(segv->fault, v1::SEGV);
  EXPECT_EQ(segv->target, v1::STANDBY);
  const auto stop = Parse({"inject", "stop", "--target=api"});
  ASSERT_OK(stop);
  EXPECT_EQ(stop->fault, v1::STOP);
  EXPECT_EQ(stop->target, v1::API);
}

TEST(Command, WhatStandsBehindTheTwoDashesIsTheProgramsOwn) {
  const auto run =
      Parse({"run", "--profile", "p", "--name=d", "--socket-path=/s",
             "--no-standby", "--print", "--lib-dir=/l", "--run-dir=/r", "--",
             "prog", "--help", "--json", "--", "--profile"});
  ASSERT_OK(run);
  EXPECT_EQ(run->verb, Verb::kRun);
  EXPECT_THAT(run->wrapped,
              ElementsAre("prog", "--help", "--json", "--", "--profile"));
  EXPECT_EQ(run->profile, "p");
  EXPECT_EQ(run->instance, "d");
  EXPECT_EQ(run->socket_path, "/s");
  EXPECT_EQ(run->lib_dir, "/l");
  EXPECT_EQ(run->run_dir, "/r");
  EXPECT_TRUE(run->no_standby);
  EXPECT_TRUE(run->print);
  EXPECT_FALSE(run->json);
  EXPECT_EQ(Parse({"profile", "show", "p"})->profile, "p");
  EXPECT_EQ(Parse({"profile", "list"})->verb, Verb::kProfileList);
  const auto found =
      Parse({"profile", "new", "--output=f", "--", "prog", "-x"});
  ASSERT_OK(found);
  EXPECT_EQ(found->verb, Verb::kProfileNew);
  EXPECT_EQ(found->file, "f");
  EXPECT_THAT(found->wrapped, ElementsAre("prog", "-x"));
}

TEST(Command, ProfileAndProgramGoTogether) {
  EXPECT_THAT(Parse({"run", "--profile=p"}), Refused("needs -- PROGRAM"));
  EXPECT_THAT(Parse({"run", "--profile=p", "--"}), Refused("needs -- PROGRAM"));
  EXPECT_THAT(Parse({"run", "--profile=p", "prog"}),
              Refused("'prog' stands before the --"));
  EXPECT_THAT(Parse({"run", "--", "prog"}), Refused("needs --profile"));
  EXPECT_THAT(Parse({"run", "a.textproto", "--", "prog"}),
              Refused("needs --profile"));
  for (const char* option : {"--name=d", "--socket-path=/s", "--no-standby",
                             "--print", "--lib-dir=/l"}) {
    EXPECT_THAT(Parse({"run", "a.textproto", option}),
                Refused("go with --profile"))
        << option;
  }
  EXPECT_THAT(Parse({"list", "--", "prog"}),
              Refused("list: takes no program behind --"));
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"replace", "d"},
        {"replace", "d", "--profile=p"},
        {"replace", "d", "--", "prog"},
        {"replace", "d", "--profile=p", "--"}}) {
    EXPECT_THAT(Parse(words),
                Refused("replace: needs --profile=PROFILE -- PROGRAM"));
  }
  EXPECT_THAT(Parse({"replace", "--profile=p", "--", "prog"}),
              Refused("replace: too few"));
  EXPECT_THAT(Parse({"replace", "d", "--profile=p", "--no-standby", "--", "p"}),
              Refused("replace: unknown option --no-standby"));
  EXPECT_THAT(Parse({"profile"}), Refused("profile: list, show or new?"));
  EXPECT_THAT(Parse({"profile", "new"}), Refused("needs -- PROGRAM"));
  EXPECT_THAT(Parse({"profile", "new", "prog"}), Refused("too many"));
}

TEST(Command, WrongUsageSaysWhatIsWrongAndWhereToRead) {
  EXPECT_THAT(Parse({}), Refused("which command?"));
  EXPECT_THAT(Parse({"fly"}), Refused("no command 'fly'"));
  EXPECT_THAT(Parse({"fly"}), Refused("there is completion, events, help,"));
  EXPECT_THAT(Parse({"fly", "--help"}), Refused("no command 'fly'"));
  EXPECT_THAT(Parse({"help", "fly"}), Refused("no command 'fly'"));
  EXPECT_THAT(Parse({"state"}), Refused("state: dump or diff?"));
  EXPECT_THAT(Parse({"state", "dmp", "d"}), Refused("no command 'state dmp'"));
  EXPECT_THAT(Parse({"run"}), Refused("run: too few"));
  EXPECT_THAT(Parse({"list", "x"}), Refused("list: too many"));
  EXPECT_THAT(Parse({"list", "--follow"}),
              Refused("list: unknown option --follow"));
  EXPECT_THAT(Parse({"list", "-x"}), Refused("list: unknown option -x"));
  EXPECT_THAT(Parse({"list", "--json=1"}), Refused("unknown option --json=1"));
  for (const char* option : {"--run-dir=", "--run-dir", "--since="}) {
    EXPECT_THAT(Parse({"events", option}), Refused("needs a value")) << option;
  }
  EXPECT_THAT(Parse({"events", "--since=x"}),
              Refused("'x' is not the number of an event"));
  EXPECT_THAT(Parse({"events", "--since=-1"}), Refused("'-1' is not"));
  EXPECT_THAT(Parse({"inject", "d"}), Refused("needs INSTANCE"));
  EXPECT_THAT(Parse({"inject", "d", "KILL"}), Refused("'KILL' is none of"));
  EXPECT_THAT(Parse({"inject", "d", "hug"}), Refused("'hug' is none of"));
  EXPECT_THAT(Parse({"inject", "d", "kill", "--target=moon"}),
              Refused("'moon' is none of"));
  EXPECT_THAT(Parse({"inject", "d", "kill", "--target=core"}),
              Refused("no instance"));
  const std::vector<std::string> wrong_dumps[] = {
      {"state", "dump"},
      {"state", "dump", "d", "--input=f"},
      {"state", "dump", "--input=f", "--output=g"}};
  for (const std::vector<std::string>& words : wrong_dumps) {
    EXPECT_THAT(Parse(words), Refused("needs INSTANCE, or --input=FILE alone"));
  }
  EXPECT_THAT(Parse({"state", "diff", "d", "f", "--input=f"}),
              Refused("state diff: unknown option --input=f"));
  EXPECT_THAT(Parse({"completion", "tcsh"}),
              Refused("completion: 'tcsh' is none of bash, zsh"));
}

TEST(Command, HelpIsThereForAllAndEach) {
  EXPECT_EQ(Parse({"--help"})->verb, Verb::kHelp);
  EXPECT_EQ(Parse({"run", "--help"})->topic, "run");
  EXPECT_EQ(Parse({"state", "diff", "-h"})->topic, "state diff");
  EXPECT_EQ(Parse({"help", "state", "dump"})->topic, "state dump");
  const std::string all = HelpText("");
  for (const char* name :
       {"run", "list", "status", "events", "stop", "restart", "replace",
        "resize", "state dump", "state diff", "inject", "profile list",
        "profile show", "completion"}) {
    EXPECT_THAT(all, HasSubstr(std::string("\n  ") + name));
    const std::string one = HelpText(name);
    EXPECT_THAT(one, AllOf(HasSubstr(std::string("usage: holdfast ") + name),
                           HasSubstr("examples:\n  "), HasSubstr("--json"),
                           Not(HasSubstr("commands:"))));
  }
  EXPECT_THAT(HelpText("state"),
              AllOf(HasSubstr("state dump"), HasSubstr("state diff")));
}

// ---- The grammar ----

// The words of an example, without what is another program's.
std::vector<std::string> WordsOf(absl::string_view example) {
  std::vector<std::string> words;
  bool ours = false;
  for (absl::string_view word :
       absl::StrSplit(example, ' ', absl::SkipEmpty())) {
    if (word == "|" || word[0] == '>') break;
    if (ours) words.emplace_back(word);
    if (word == "holdfast") ours = true;
  }
  return words;
}

TEST(Grammar, EveryExampleIsUnderstoodAsItsCommand) {
  for (const CommandForm& command : AllCommands()) {
    int examples = 0;
    for (absl::string_view line :
         absl::StrSplit(absl::StrReplaceAll(command.examples, {{"\\\n", ""}}),
                        '\n', absl::SkipEmpty())) {
      ++examples;
      if (absl::StartsWith(line, "  source <(")) continue;  // The shell's.
      const auto parsed = Parse(WordsOf(line));
      ASSERT_OK(parsed) << line;
      EXPECT_EQ(parsed->verb, command.verb) << line;
    }
    EXPECT_GE(examples, 1) << command.name;
  }
}

TEST(Grammar, UsageShowsEveryOptionAndWord) {
  for (const CommandForm& command : AllCommands()) {
    SCOPED_TRACE(command.name);
    EXPECT_THAT(command.usage, StartsWith(command.name));
    for (const OptionForm& option : command.own_options()) {
      EXPECT_THAT(command.usage, HasSubstr(option.name));
    }
    for (size_t i = 0; i < command.most(); ++i) {
      const Word word = command.words[i];
      EXPECT_THAT(
          command.usage,
          HasSubstr(word == Word::kFault     ? "kill|stop|segv"
                    : word == Word::kShell   ? "bash|zsh"
                    : word == Word::kProfile ? "PROFILE"
                    : word == Word::kFile
                        ? command.verb == Verb::kRun ? "SPEC.textproto" : "FILE"
                        : "INSTANCE"));
    }
    EXPECT_LE(command.least, command.most());
  }
}

bool Has(const CommandForm& command, const OptionForm& option) {
  for (const OptionForm& own : command.own_options()) {
    if (absl::string_view(own.name) == option.name) return true;
  }
  return false;
}

TEST(Grammar, OptionsBelongToTheirCommandsAlone) {
  for (const CommandForm& command : AllCommands()) {
    for (const CommandForm& other : AllCommands()) {
      if (other.verb == command.verb) continue;
      for (const OptionForm& option : other.own_options()) {
        if (Has(command, option)) continue;
        std::vector<std::string> words = absl::StrSplit(command.name, ' ');
        words.push_back(
            absl::StrCat(option.name, option.takes_value() ? "=1" : ""));
        EXPECT_THAT(Parse(words),
                    Refused(absl::StrCat(command.name, ": unknown option ",
                                         option.name)));
      }
    }
  }
}

TEST(Grammar, NoMoreWordsAreTakenThanThereArePlaces) {
  for (const CommandForm& command : AllCommands()) {
    std::vector<std::string> words = absl::StrSplit(command.name, ' ');
    for (size_t i = 0; i <= command.most(); ++i) words.push_back("x");
    EXPECT_THAT(Parse(words),
                Refused(absl::StrCat(command.name, ": too many arguments")));
    if (command.least == 0) continue;
    EXPECT_THAT(Parse(absl::StrSplit(command.name, ' ')),
                Refused(absl::StrCat(command.name, ": too few arguments")));
  }
  EXPECT_EQ(FindCommand("fly"), nullptr);
  EXPECT_EQ(FindCommand("state"), nullptr);
}

// Every command, word and option of the grammar is in the script of each shell.
TEST(Completion, ScriptsKnowTheWholeGrammar) {
  for (const char* shell : {"bash", "zsh"}) {
    SCOPED_TRACE(shell);
    const std::string script = CompletionScript(shell);
    EXPECT_THAT(script, Not(ContainsRegex("@[A-Z]"))) << "a part is missing";
    for (const CommandForm& command : AllCommands()) {
      for (size_t i = 0; i < command.most(); ++i) {
        EXPECT_THAT(script,
                    HasSubstr(absl::StrCat("'", command.name, ",", i, "') ")));
      }
      EXPECT_THAT(script, Not(HasSubstr(absl::StrCat("'", command.name, ",",
                                                     command.most(), "'"))));
      for (const OptionForm& option : command.own_options()) {
        EXPECT_THAT(script, HasSubstr(absl::StrCat(
                                option.name, option.takes_value() ? "=" : "")));
      }
    }
    EXPECT_THAT(script, HasSubstr("offer='--json --run-dir= --help'"));
    EXPECT_THAT(
        script,
        HasSubstr("--target) offer='active standby store api core backend'"));
    EXPECT_THAT(script, HasSubstr("'state,0') "));
  }
  EXPECT_THAT(CompletionScript("bash"), EndsWith("-F _holdfast holdfast\n"));
  EXPECT_THAT(CompletionScript("zsh"),
              EndsWith("compdef _holdfast holdfast\n"));
  EXPECT_THAT(
      CompletionScript("zsh"),
      HasSubstr("'run:start the instance of a spec, or wrap a program'\n"));
}

// What is completed is understood.
TEST(Completion, ChoicesOfAnOptionAreAllItsValues) {
  for (const CommandForm& command : AllCommands()) {
    for (const OptionForm& option : command.own_options()) {
      if (std::string(option.value).find(' ') == std::string::npos) continue;
      for (absl::string_view value : absl::StrSplit(option.value, ' ')) {
        std::vector<std::string> words = absl::StrSplit(command.name, ' ');
        words.push_back(absl::StrCat(option.name, "=", value));
        words.push_back("kill");
        const bool of_an_instance =
            value == "active" || value == "standby" || value == "backend";
        if (of_an_instance) words.push_back("kill");
        EXPECT_OK(Parse(words)) << value;
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::cli

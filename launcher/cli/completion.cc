// The scripts for shells. What differs between commands is made of the grammar.

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "launcher/cli/command.h"
#include "launcher/cli/grammar.h"

namespace holdfast::cli {
namespace {

using Lines = std::vector<std::string>;

enum class Shell { kBash, kZsh };

std::string FirstWord(absl::string_view name) {
  return std::string(name.substr(0, name.find(' ')));
}

// "run list status ...", each once.
std::string FirstWords() {
  Lines words;
  for (const CommandForm& command : AllCommands()) {
    const std::string word = FirstWord(command.name);
    if (words.empty() || words.back() != word) words.push_back(word);
  }
  return absl::StrJoin(words, " ");
}

// The second words of those whose first one is `word`.
std::string SecondWords(const std::string& word) {
  Lines words;
  for (const CommandForm& command : AllCommands()) {
    const absl::string_view name = command.name;
    if (FirstWord(name) == word && name.size() > word.size()) {
      words.emplace_back(name.substr(word.size() + 1));
    }
  }
  return absl::StrJoin(words, " ");
}

// First words that need another one.
Lines Families() {
  Lines families;
  for (const CommandForm& command : AllCommands()) {
    const std::string word = FirstWord(command.name);
    if (word != command.name && (families.empty() || families.back() != word)) {
      families.push_back(word);
    }
  }
  return families;
}

// Options with a value, each once; `paths`: those that are files.
Lines ValueOptions(bool paths_only) {
  Lines names;
  const auto add = [&](absl::Span<const OptionForm> options) {
    for (const OptionForm& option : options) {
      const bool wanted =
          option.takes_value() && (option.is_path() || !paths_only);
      if (wanted &&
          std::find(names.begin(), names.end(), option.name) == names.end()) {
        names.emplace_back(option.name);
      }
    }
  };
  add(CommonOptions());
  for (const CommandForm& command : AllCommands()) add(command.own_options());
  return names;
}

// "--json --run-dir= --help"
std::string OptionWords(absl::Span<const OptionForm> options) {
  return absl::StrJoin(options, " ", [](std::string* out, const auto& option) {
    absl::StrAppend(out, option.name, option.takes_value() ? "=" : "");
  });
}

// What is offered in a place, as a line of the script.
std::string Offer(Word word, Shell shell) {
  const char* const words = shell == Shell::kBash ? "words=" : "offer=";
  const char* const faults = "kill stop segv";
  switch (word) {
    case Word::kInstance:
      return absl::StrCat(words, "$(_holdfast_instances \"$run_dir\")");
    case Word::kInstanceOrFault:
      return absl::StrCat(words, "\"$(_holdfast_instances \"$run_dir\") ",
                          faults, "\"");
    case Word::kFault:
      return absl::StrCat(words, "'", faults, "'");
    case Word::kFile:
      return shell == Shell::kBash ? "_holdfast_files \"$cur\"; return"
                                   : "_files; return";
    case Word::kProfile:
      return absl::StrCat(words, "$(_holdfast_profiles)");
    case Word::kShell:
      return absl::StrCat(words, "'", kShells, "'");
    case Word::kCommand:
      return absl::StrCat(words, "'", FirstWords(), "'");
    case Word::kNone:
      break;
  }
  return "return";
}

// Lines "      'run,0') ... ;;": by command and number of words behind it.
std::string PlaceCases(Shell shell) {
  std::string text;
  const auto add = [&](absl::string_view name, size_t place,
                       absl::string_view what) {
    absl::StrAppend(&text, "        '", name, ",", place, "') ", what, " ;;\n");
  };
  for (const CommandForm& command : AllCommands()) {
    for (size_t i = 0; i < command.most(); ++i) {
      add(command.name, i, Offer(command.words[i], shell));
    }
  }
  const char* const words = shell == Shell::kBash ? "words=" : "offer=";
  for (const std::string& family : Families()) {
    add(family, 0, absl::StrCat(words, "'", SecondWords(family), "'"));
  }
  add("help", 0, Offer(Word::kCommand, shell));
  return text;
}

// Lines of the options that single commands have.
std::string OptionCases() {
  std::string text;
  for (const CommandForm& command : AllCommands()) {
    if (command.own_options().empty()) continue;
    absl::StrAppend(&text, "        '", command.name, "') offer+=' ",
                    OptionWords(command.own_options()), "' ;;\n");
  }
  return text;
}

// Lines of the options that have one of a few values.
std::string ChoiceCases() {
  std::string text = "    --profile) offer=$(_holdfast_profiles) ;;\n";
  for (const CommandForm& command : AllCommands()) {
    for (const OptionForm& option : command.own_options()) {
      if (std::string(option.value).find(' ') == std::string::npos) continue;
      absl::StrAppend(&text, "    ", option.name, ") offer='", option.value,
                      "' ;;\n");
    }
  }
  return text;
}

// "'run:start the instance of a spec'", a line each.
std::string DescribedCommands() {
  std::string text, last;
  for (const CommandForm& command : AllCommands()) {
    const std::string word = FirstWord(command.name);
    if (word == last) continue;
    last = word;
    absl::StrAppend(&text, "          '", word, ":",
                    word == command.name
                        ? command.summary
                        : absl::StrCat("one of ", SecondWords(word)),
                    "'\n");
  }
  return absl::StrCat(text, "          'help:explain a command'\n");
}

constexpr char kBash[] = R"bash(# source <(holdfast completion bash)
_holdfast() {
  local cur=${COMP_WORDS[COMP_CWORD]} i words='' option='' run_dir=/run/holdfast
  local names=() offer=''
  COMPREPLY=()
  # "--target=x" is three words to bash: a name, a "=", and a value.
  [ "$cur" = = ] && cur=
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      @VALUE_OPTIONS@)
        option=${COMP_WORDS[i]}
        [ "${COMP_WORDS[i + 1]-}" = = ] && ((++i))
        ((++i < COMP_CWORD)) || break
        [ "$option" = --run-dir ] && run_dir=${COMP_WORDS[i]}
        option= ;;
      --) _holdfast_files "$cur"; return ;;
      -*) ;;
      *) names+=("${COMP_WORDS[i]}") ;;
    esac
  done
  local command=${names[0]-} count=${#names[@]}
  case $command in
    @FAMILIES@) [ "$count" -gt 1 ] && command+=" ${names[1]}" && count=$((count - 1)) ;;
  esac
  case $option in
@CHOICES@    @PATHS@) _holdfast_files "$cur"; return ;;
    ?*) return ;;
    '')
      if [[ $cur = -* ]]; then
        offer='@COMMON_OPTIONS@'
        case $command in
@OPTIONS@        esac
      elif [ "$count" = 0 ]; then
        offer='@COMMANDS@ help'
      else
        case $command,$((count - 1)) in
@PLACES@        esac
      fi ;;
  esac
  words=${words:-$offer}
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  [ "${#COMPREPLY[@]}" = 1 ] && [[ ${COMPREPLY[0]} = *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
_holdfast_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$1")
}
_holdfast_instances() {
  "${COMP_WORDS[0]}" --run-dir="$1" list 2>/dev/null | tail -n +2 | cut -d' ' -f1
}
_holdfast_profiles() {
  "${COMP_WORDS[0]}" profile list 2>/dev/null | tail -n +2 | cut -d' ' -f1
}
complete -o nosort -F _holdfast holdfast
)bash";

constexpr char kZsh[] =
    R"zsh(# source <(holdfast completion zsh), after compinit
_holdfast() {
  local cur=${words[CURRENT]} word option= run_dir=/run/holdfast offer=
  local -a names
  local -i i
  for ((i = 2; i < CURRENT; ++i)); do
    word=${words[i]}
    if [[ -n $option ]]; then
      [[ $option = --run-dir ]] && run_dir=$word
      option=
      continue
    fi
    case $word in
      --run-dir=*) run_dir=${word#*=} ;;
      @VALUE_OPTIONS@) option=$word ;;
      --) _files; return ;;
      -*) ;;
      *) names+=("$word") ;;
    esac
  done
  if [[ -z $option && $cur = --*=* ]]; then
    option=${cur%%=*}
    compset -P '*='
  fi
  local command=${names[1]-}
  local -i count=${#names}
  case $command in
    @FAMILIES@) ((count > 1)) && command+=" ${names[2]}" && ((count -= 1)) ;;
  esac
  case $option in
@CHOICES@    @PATHS@) _files; return ;;
    ?*) return ;;
    '')
      if [[ $cur = -* ]]; then
        offer='@COMMON_OPTIONS@'
        case $command in
@OPTIONS@        esac
      elif ((count == 0)); then
        local -a described=(
@DESCRIBED@        )
        _describe -t commands 'command of holdfast' described
        return
      else
        case $command,$((count - 1)) in
@PLACES@        esac
      fi ;;
  esac
  local -a all=(${=offer})
  local -a names_only=(${all:#*=}) with_value=(${(M)all:#*=})
  ((${#names_only})) && compadd -- $names_only
  ((${#with_value})) && compadd -S '' -- $with_value
  return 0
}
_holdfast_instances() {
  ${words[1]} --run-dir="$1" list 2>/dev/null | tail -n +2 | cut -d' ' -f1
}
_holdfast_profiles() {
  ${words[1]} profile list 2>/dev/null | tail -n +2 | cut -d' ' -f1
}
compdef _holdfast holdfast
)zsh";

}  // namespace

std::string CompletionScript(absl::string_view name) {
  const Shell shell = name == "zsh" ? Shell::kZsh : Shell::kBash;
  std::string places = PlaceCases(shell);
  return absl::StrReplaceAll(
      shell == Shell::kZsh ? kZsh : kBash,
      {{"@VALUE_OPTIONS@", absl::StrJoin(ValueOptions(false), " | ")},
       {"@PATHS@", absl::StrJoin(ValueOptions(true), " | ")},
       {"@FAMILIES@", absl::StrJoin(Families(), " | ")},
       {"@CHOICES@", ChoiceCases()},
       {"@COMMON_OPTIONS@", OptionWords(CommonOptions())},
       {"@OPTIONS@", OptionCases()},
       {"@COMMANDS@", FirstWords()},
       {"@DESCRIBED@", DescribedCommands()},
       {"@PLACES@", places}});
}

}  // namespace holdfast::cli

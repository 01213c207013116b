#include <iterator>

#include "absl/strings/str_cat.h"
#include "launcher/cli/command.h"

namespace holdfast::cli {
namespace {

struct Topic {
  const char* name;
  const char* usage;
  const char* text;
  const char* examples;
};

constexpr Topic kTopics[] = {
    {"run", "run SPEC.textproto",
     "Starts the instance that the file describes; its fields are those of\n"
     "protos/launch_spec.proto. Returns when the instance is accepted.\n",
     "  holdfast run disk0.textproto\n"},
    {"list", "list", "One line for each instance.\n",
     "  holdfast list\n"
     "  holdfast list --json | jq '.instances[].name'\n"},
    {"status", "status [INSTANCE]",
     "Everything about one instance, or about all: processes, recoveries,\n"
     "lost children by cause, what its queues have done and have in flight,\n"
     "and what the machine did not give. Without INSTANCE also the launcher's\n"
     "own processes.\n",
     "  holdfast status disk0\n"
     "  holdfast status --json\n"},
    {"events", "events [--follow] [--since=NUMBER]",
     "What happened so far, oldest first; with --follow also what happens\n"
     "from now on, until interrupted, over restarts of api and core; a line "
     "in\n"
     "parentheses (--json: an event \"events-lost\") says where some are "
     "missing.\n"
     "Each has a number: --since=NUMBER begins after that one. With --json "
     "one\n"
     "object a line.\n",
     "  holdfast events\n"
     "  holdfast events --follow --json | grep promoted\n"},
    {"stop", "stop INSTANCE",
     "Ends the instance and returns when nothing of it is left.\n",
     "  holdfast stop disk0\n"},
    {"restart", "restart INSTANCE",
     "Replaces the instance's processes and forgets its losses: also the\n"
     "way out of quarantine.\n",
     "  holdfast restart disk0\n"},
    {"resize", "resize INSTANCE",
     "Makes the device look at its resources again and tell the guest: after\n"
     "a disk image or block device has got another size. The guest sees it\n"
     "without a reboot.\n",
     "  truncate -s 20G /srv/images/disk0.img && holdfast resize disk0\n"},
    {"state dump",
     "state dump INSTANCE [--output=FILE]\n"
     "       holdfast state dump --input=FILE",
     "What the instance has stored in its segment. With --output the\n"
     "segment itself is written to FILE instead, for state diff; with --input\n"
     "one that was saved so is shown. Of a damaged one all that can be read,\n"
     "and the exit status is 1.\n",
     "  holdfast state dump disk0\n"
     "  holdfast state dump disk0 --output=before.seg\n"
     "  holdfast state dump --input=before.seg\n"},
    {"state diff", "state diff INSTANCE FILE",
     "What differs between a segment that was saved with state dump and the\n"
     "instance's segment now, field by field; nothing if nothing.\n",
     "  holdfast state diff disk0 before.seg\n"},
    {"inject",
     "inject INSTANCE kill|stop|segv [--target=active|standby]\n"
     "       holdfast inject kill|stop|segv "
     "--target=store|api|core",
     "Kills (SIGKILL), hangs (SIGSTOP) or crashes (a wild jump) a process:\n"
     "the instance's active one unless --target says otherwise. One that "
     "hangs\n"
     "hangs until it is killed; only of the api the launcher notices by "
     "itself.\n",
     "  holdfast inject disk0 kill\n"
     "  holdfast inject disk0 segv --target=standby\n"
     "  holdfast inject kill --target=store\n"},
    {"completion", "completion bash",
     "Prints a script for bash, which then completes commands, instances,\n"
     "options and files.\n",
     "  source <(holdfast completion bash)\n"},
};

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
  for (const Topic& topic : kTopics) {
    absl::StrAppend(&text, "  ", topic.usage, "\n");
  }
  absl::StrAppend(&text, kOptions, "\nexamples:\n");
  for (const Topic& topic : kTopics) absl::StrAppend(&text, topic.examples);
  absl::StrAppend(&text, kStatuses);
  return text;
}

}  // namespace

std::string HelpText(absl::string_view name) {
  std::string found;
  for (const Topic& topic : kTopics) {
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

const char kBashCompletion[] =
    R"bash(# source <(holdfast completion bash)
_holdfast() {
  local cur=${COMP_WORDS[COMP_CWORD]} i words='' option='' run_dir=/run/holdfast
  local names=()
  COMPREPLY=()
  # "--target=x" is three words to bash: a name, a "=", and a value.
  [ "$cur" = = ] && cur=
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      --run-dir | --since | --target | --output | --input)
        option=${COMP_WORDS[i]}
        [ "${COMP_WORDS[i + 1]-}" = = ] && ((++i))
        ((++i < COMP_CWORD)) || break
        [ "$option" = --run-dir ] && run_dir=${COMP_WORDS[i]}
        option= ;;
      -*) ;;
      *) names+=("${COMP_WORDS[i]}") ;;
    esac
  done
  case $option,$cur in
    --target,*) words='active standby store api core' ;;
    --since,*) return ;;
    --run-dir,* | --output,* | --input,*) _holdfast_files "$cur"; return ;;
    ,-*)
      words='--json --run-dir= --help'
      case ${names[0]-} in
        events) words+=' --follow --since=' ;;
        inject) words+=' --target=' ;;
        state) [ "${names[1]-}" = dump ] && words+=' --output= --input=' ;;
      esac ;;
    *)
      case ${#names[@]},${names[0]-} in
        0,*) words='run list status events stop restart resize state inject completion help' ;;
        1,run) _holdfast_files "$cur"; return ;;
        1,status | 1,stop | 1,restart | 1,resize | 2,state) words=$(_holdfast_instances "$run_dir") ;;
        1,inject) words="$(_holdfast_instances "$run_dir") kill stop segv" ;;
        2,inject) words='kill stop segv' ;;
        1,state) words='dump diff' ;;
        3,state) [ "${names[1]-}" = diff ] && _holdfast_files "$cur"; return ;;
        1,completion) words=bash ;;
        1,help) words='run list status events stop restart resize state inject completion' ;;
      esac ;;
  esac
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
complete -o nosort -F _holdfast holdfast
)bash";

}  // namespace holdfast::cli

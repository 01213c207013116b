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
     "lost children by cause, and what the machine did not give. Without\n"
     "INSTANCE also the launcher's own processes.\n",
     "  holdfast status disk0\n"
     "  holdfast status --json\n"},
    {"events", "events [--follow] [--since=NUMBER]",
     "What happened so far, oldest first; with --follow also what happens\n"
     "from now on, until interrupted. With --json one object a line.\n",
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
    {"state dump", "state dump INSTANCE [--output=FILE]",
     "What the instance has stored in its segment. With --output the\n"
     "segment itself is written to FILE instead, for state diff.\n",
     "  holdfast state dump disk0\n"
     "  holdfast state dump disk0 --output=before.seg\n"},
    {"state diff", "state diff INSTANCE FILE",
     "What differs between a segment that was saved with state dump and the\n"
     "instance's segment now, field by field; nothing if nothing.\n",
     "  holdfast state diff disk0 before.seg\n"},
    {"inject",
     "inject INSTANCE kill|stop|segv [--target=active|standby]\n"
     "       holdfast inject kill|stop|segv "
     "--target=store|api|core",
     "Kills (SIGKILL), hangs (SIGSTOP) or crashes (a wild jump) a process:\n"
     "the instance's active one unless --target says otherwise.\n",
     "  holdfast inject disk0 kill\n"
     "  holdfast inject disk0 segv --target=standby\n"
     "  holdfast inject kill --target=store\n"},
    {"completion", "completion bash", "Prints a script for bash.\n",
     "  source <(holdfast completion bash)\n"},
};

constexpr char kOptions[] =
    "\noptions of every command:\n"
    "  --run-dir=DIR  the run directory of holdfastd  [/run/holdfast]\n"
    "  --json         print JSON\n"
    "  --help\n";

constexpr char kStatuses[] =
    "\nexit status: 0 done, 1 it failed, 2 wrong usage.\n";

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
  local cur=${COMP_WORDS[COMP_CWORD]} words
  case ${COMP_WORDS[1]} in
    inject) words='kill stop segv --target=active --target=standby --target=store --target=api --target=core' ;;
    state) words='dump diff --output=' ;;
    events) words='--follow --since=' ;;
    completion) words='bash' ;;
    run) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
  esac
  if [ "$COMP_CWORD" = 1 ]; then
    words='run list status events stop restart resize state inject completion help'
  else
    case ${COMP_WORDS[1]} in
      status | stop | restart | resize | inject | state)
        words+=" $(holdfast list 2>/dev/null | tail -n +2 | cut -d' ' -f1)" ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words --json --run-dir= --help" -- "$cur")
}
complete -o nosort -F _holdfast holdfast
)bash";

}  // namespace holdfast::cli

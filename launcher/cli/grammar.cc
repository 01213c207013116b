#include "launcher/cli/grammar.h"

namespace holdfast::cli {
namespace {

using Verb = Command::Verb;

constexpr CommandForm kCommands[] = {
    {Verb::kRun,
     "run",
     "run SPEC.textproto",
     "start the instance of a spec",
     "Starts the instance that the file describes; its fields are those of\n"
     "protos/launch_spec.proto. Returns when the instance is accepted.\n",
     "  holdfast run disk0.textproto\n",
     1,
     {Word::kFile},
     {}},
    {Verb::kList,
     "list",
     "list",
     "one line for each instance",
     "One line for each instance.\n",
     "  holdfast list\n"
     "  holdfast list --json | jq '.instances[].name'\n",
     0,
     {},
     {}},
    {Verb::kStatus,
     "status",
     "status [INSTANCE]",
     "everything about one instance, or all",
     "Everything about one instance, or about all: processes, recoveries,\n"
     "lost children by cause, what its queues have done and have in flight,\n"
     "and what the machine did not give. Without INSTANCE also the "
     "launcher's\n"
     "own processes.\n",
     "  holdfast status disk0\n"
     "  holdfast status --json\n",
     0,
     {Word::kInstance},
     {}},
    {Verb::kEvents,
     "events",
     "events [--follow] [--since=NUMBER]",
     "what happened, and happens",
     "What happened so far, oldest first; with --follow also what happens\n"
     "from now on, until interrupted, over restarts of api and core; a line "
     "in\n"
     "parentheses (--json: an event \"events-lost\") says where some are "
     "missing.\n"
     "Each has a number: --since=NUMBER begins after that one. With --json "
     "one\n"
     "object a line.\n",
     "  holdfast events\n"
     "  holdfast events --follow --json | grep promoted\n",
     0,
     {},
     {{"--follow", ""}, {"--since", "NUMBER"}}},
    {Verb::kStop,
     "stop",
     "stop INSTANCE",
     "end an instance",
     "Ends the instance and returns when nothing of it is left.\n",
     "  holdfast stop disk0\n",
     1,
     {Word::kInstance},
     {}},
    {Verb::kRestart,
     "restart",
     "restart INSTANCE",
     "replace its processes, forget its losses",
     "Replaces the instance's processes and forgets its losses: also the\n"
     "way out of quarantine.\n",
     "  holdfast restart disk0\n",
     1,
     {Word::kInstance},
     {}},
    {Verb::kResize,
     "resize",
     "resize INSTANCE",
     "look at its resources again",
     "Makes the device look at its resources again and tell the guest: "
     "after\n"
     "a disk image or block device has got another size. The guest sees it\n"
     "without a reboot.\n",
     "  truncate -s 20G /srv/images/disk0.img && holdfast resize disk0\n",
     1,
     {Word::kInstance},
     {}},
    {Verb::kStateDump,
     "state dump",
     "state dump INSTANCE [--output=FILE]\n"
     "       holdfast state dump --input=FILE",
     "what its segment holds",
     "What the instance has stored in its segment. With --output the\n"
     "segment itself is written to FILE instead, for state diff; with "
     "--input\n"
     "one that was saved so is shown. Of a damaged one all that can be "
     "read,\n"
     "and the exit status is 1.\n",
     "  holdfast state dump disk0\n"
     "  holdfast state dump disk0 --output=before.seg\n"
     "  holdfast state dump --input=before.seg\n",
     0,
     {Word::kInstance},
     {{"--output", "FILE"}, {"--input", "FILE"}}},
    {Verb::kStateDiff,
     "state diff",
     "state diff INSTANCE FILE",
     "what has changed since it was saved",
     "What differs between a segment that was saved with state dump and the\n"
     "instance's segment now, field by field; nothing if nothing.\n",
     "  holdfast state diff disk0 before.seg\n",
     2,
     {Word::kInstance, Word::kFile},
     {}},
    {Verb::kInject,
     "inject",
     "inject INSTANCE kill|stop|segv [--target=active|standby|backend]\n"
     "       holdfast inject kill|stop|segv "
     "--target=store|api|core",
     "kill, hang or crash a process",
     "Kills (SIGKILL), hangs (SIGSTOP) or crashes (a wild jump) a process:\n"
     "the instance's active one unless --target says otherwise; backend is "
     "the\n"
     "program that it wraps. One that hangs hangs until it is killed; only of\n"
     "the api the launcher notices by itself.\n",
     "  holdfast inject disk0 kill\n"
     "  holdfast inject disk0 segv --target=standby\n"
     "  holdfast inject kill --target=store\n",
     1,
     {Word::kInstanceOrFault, Word::kFault},
     {{"--target", "active standby store api core backend"}}},
    {Verb::kCompletion,
     "completion",
     "completion bash|zsh",
     "print a script for a shell",
     "Prints a script for the shell, which then completes commands, "
     "instances,\n"
     "options and files. In zsh after compinit.\n",
     "  source <(holdfast completion bash)\n"
     "  source <(holdfast completion zsh)\n",
     1,
     {Word::kShell},
     {}},
};

}  // namespace

const char kShells[] = "bash zsh";

size_t CommandForm::most() const {
  size_t count = 0;
  while (count < kMaxWords && words[count] != Word::kNone) ++count;
  return count;
}

absl::Span<const OptionForm> CommandForm::own_options() const {
  size_t count = 0;
  while (count < kMaxOwnOptions && options[count].name != nullptr) ++count;
  return {options, count};
}

bool OptionForm::is_path() const {
  const absl::string_view what = value;
  return what == "FILE" || what == "DIR";
}

absl::Span<const CommandForm> AllCommands() { return kCommands; }

const CommandForm* FindCommand(absl::string_view name) {
  for (const CommandForm& command : AllCommands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

absl::Span<const OptionForm> CommonOptions() {
  static constexpr OptionForm kOptions[] = {
      {"--json", ""}, {"--run-dir", "DIR"}, {"--help", ""}};
  return kOptions;
}

}  // namespace holdfast::cli

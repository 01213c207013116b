#include "launcher/cli/grammar.h"

namespace holdfast::cli {
namespace {

using Verb = Command::Verb;

constexpr CommandForm kCommands[] = {
    {Verb::kRun,
     "run",
     "run SPEC.textproto\n"
     "       holdfast run --profile=PROFILE [--name=NAME] "
     "[--socket-path=FILE]\n"
     "                    [--no-standby] [--print] [--lib-dir=DIR]\n"
     "                    -- PROGRAM ARGUMENT...",
     "start the instance of a spec, or wrap a program",
     "Starts the instance that the file describes; its fields are those of\n"
     "protos/launch_spec.proto. Returns when the instance is accepted.\n"
     "With --profile it wraps PROGRAM, a vhost-user back-end that knows "
     "nothing\n"
     "of holdfast: the VMM connects to --socket-path (RUNDIR/NAME.sock), and\n"
     "sees nothing when the program dies. PROFILE is one of holdfast profile\n"
     "list or the path of a file; {fd} in an ARGUMENT stands for the number "
     "of\n"
     "the socket's descriptor; NAME is the program's own unless given.\n"
     "A program that does not come so far as to say what it is is an error, "
     "and\n"
     "nothing of it is left.\n"
     "--no-standby starts no second process ahead. --print prints the spec\n"
     "instead of starting it.\n",
     "  holdfast run disk0.textproto\n"
     "  holdfast run --profile=qemu-storage-daemon --name=disk0 -- \\\n"
     "      qemu-storage-daemon --blockdev \\\n"
     "      driver=file,node-name=d,locking=off,filename=/srv/disk0.img \\\n"
     "      --export type=vhost-user-blk,id=e,node-name=d,writable=on\n",
     0,
     {Word::kFile},
     {{"--profile", "PROFILE"},
      {"--name", "NAME"},
      {"--socket-path", "FILE"},
      {"--no-standby", ""},
      {"--print", ""},
      {"--lib-dir", "DIR"}},
     /*wraps=*/true},
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
     "way out of quarantine. What it wraps is replaced by what its file is by "
     "now,\n"
     "as by holdfast replace.\n",
     "  holdfast restart disk0\n",
     1,
     {Word::kInstance},
     {}},
    {Verb::kReplace,
     "replace",
     "replace INSTANCE --profile=PROFILE [--print] [--lib-dir=DIR]\n"
     "                    -- PROGRAM ARGUMENT...",
     "another program in the place of what it wraps",
     "Puts PROGRAM, another version of it or other arguments in the place of "
     "what\n"
     "the instance wraps, while the guest goes on. The new one is started "
     "beside\n"
     "the old one and compared with what the VMM was told: queues, features,\n"
     "memory slots, configuration bytes. One that will not do is refused "
     "with the\n"
     "reason before anything stops. Returns when the guest is served by it. "
     "The\n"
     "rest of the instance stays as it is; it must run with a standby.\n"
     "--print prints the spec that is asked for.\n",
     "  holdfast replace disk0 --profile=qemu-storage-daemon -- \\\n"
     "      /opt/qemu-11.1/bin/qemu-storage-daemon --blockdev \\\n"
     "      driver=file,node-name=d,locking=off,filename=/srv/disk0.img \\\n"
     "      --export type=vhost-user-blk,id=e,node-name=d,writable=on\n",
     1,
     {Word::kInstance},
     {{"--profile", "PROFILE"}, {"--print", ""}, {"--lib-dir", "DIR"}},
     /*wraps=*/true},
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
    {Verb::kProfileList,
     "profile list",
     "profile list [--lib-dir=DIR]",
     "what can be wrapped",
     "The profiles that holdfast run --profile knows, one a line. They are "
     "in\n"
     "profiles/ beside this program, or in /usr/lib/holdfast.\n",
     "  holdfast profile list\n"
     "  holdfast profile list --json | jq '.profiles[].path'\n",
     0,
     {},
     {{"--lib-dir", "DIR"}}},
    {Verb::kProfileShow,
     "profile show",
     "profile show PROFILE [--lib-dir=DIR]",
     "one profile, and what to know of it",
     "The text of a profile: what to know first, and what it says of the\n"
     "program; its fields are those of protos/profile.proto. A copy is the\n"
     "beginning of one's own, which --profile takes by its path.\n",
     "  holdfast profile show qemu-storage-daemon\n"
     "  holdfast profile show vhost-user >mine.textproto\n",
     1,
     {Word::kProfile},
     {{"--lib-dir", "DIR"}}},
    {Verb::kProfileNew,
     "profile new",
     "profile new [--output=FILE] [--lib-dir=DIR] -- PROGRAM ARGUMENT...",
     "find out how a back-end is wrapped",
     "Starts PROGRAM, a vhost-user back-end, in the ways in which it may take\n"
     "its socket, asks it what it offers, ends it, and prints a first profile\n"
     "of it, to a new FILE with --output: what was found out, and what is "
     "left\n"
     "to you. It runs as you, so use an image that may be opened. {fd} in an\n"
     "ARGUMENT stands for the number of the socket's descriptor, {path} for a\n"
     "path at which the program is to listen.\n",
     "  holdfast profile new --output=mine.textproto -- \\\n"
     "      /opt/bin/my-back-end --image=/srv/test.img\n",
     0,
     {},
     {{"--output", "FILE"}, {"--lib-dir", "DIR"}},
     /*wraps=*/true},
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

#include "launcher/options.h"

#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace holdfast::launcher {
namespace {

absl::Status Bad(absl::string_view argument, absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(argument, ": ", problem, " (see holdfastd --help)"));
}

absl::Status ParseNumber(absl::string_view argument, absl::string_view value,
                         uint32_t& number) {
  if (absl::SimpleAtoi(value, &number) && number > 0 && number < 0x7fffffff) {
    return absl::OkStatus();
  }
  return Bad(argument, "is not a number from 1 to 2147483646");
}

absl::Status ParseOne(absl::string_view argument, Options& options) {
  const std::map<absl::string_view, std::vector<std::string>*> lists = {
      {"--allow-binary-dir", &options.binary_dirs},
      {"--allow-resource-dir", &options.resource_dirs},
      {"--allow-socket-dir", &options.socket_dirs},
      {"--policy-dir", &options.policy_dirs}};
  const std::map<absl::string_view, std::string*> texts = {
      {"--api", &options.api},
      {"--api-policy", &options.api_policy},
      {"--run-dir", &options.run_dir},
      {"--spec-dir", &options.spec_dir},
      {"--store", &options.store},
      {"--store-policy", &options.store_policy}};
  if (argument == "--help" || argument == "-h") {
    options.help = true;
    return absl::OkStatus();
  }
  const size_t equal = argument.find('=');
  if (equal == absl::string_view::npos) {
    return Bad(argument, "unknown, or lacks its =VALUE");
  }
  const absl::string_view name = argument.substr(0, equal);
  const absl::string_view value = argument.substr(equal + 1);
  if (value.empty()) return Bad(argument, "has no value");
  if (name == "--uid-base") {
    return ParseNumber(argument, value, options.uid_base);
  }
  if (name == "--uid-count") {
    return ParseNumber(argument, value, options.uid_count);
  }
  if (value[0] != '/') return Bad(argument, "is not an absolute path");
  if (const auto list = lists.find(name); list != lists.end()) {
    list->second->emplace_back(value);
    return absl::OkStatus();
  }
  if (const auto text = texts.find(name); text != texts.end()) {
    *text->second = std::string(value);
    return absl::OkStatus();
  }
  return Bad(name, "unknown option");
}

}  // namespace

absl::StatusOr<Options> ParseOptions(absl::Span<const std::string> args) {
  Options options;
  for (const std::string& argument : args) {
    if (absl::Status status = ParseOne(argument, options); !status.ok()) {
      return status;
    }
  }
  // One for the store, one for the api, one for an instance.
  const uint32_t least = options.api.empty() ? 2 : 3;
  if (options.uid_count < least ||
      uint64_t{options.uid_base} + options.uid_count > 0x7fffffff) {
    return Bad("--uid-count",
               "leaves no user for an instance, or ends above 2147483647");
  }
  return options;
}

const char kHelp[] =
    "usage: holdfastd [OPTION]...\n"
    "Starts, confines and supervises device processes; a device that dies is\n"
    "replaced behind the guest's back. Stays in the foreground; SIGTERM ends\n"
    "everything in order, and so does the end of its terminal (but for "
    "nohup).\n"
    "\n"
    "  --run-dir=DIR             sockets and lock file  [/run/holdfast]\n"
    "  --spec-dir=DIR            run every *.textproto and *.spec of DIR at\n"
    "                            the start; *.textproto needs --api\n"
    "  --allow-binary-dir=DIR    device programs may come from DIR (repeat)\n"
    "  --allow-resource-dir=DIR  images and devices may be in DIR (repeat)\n"
    "  --allow-socket-dir=DIR    VMM sockets may be made in DIR (repeat);\n"
    "                            the run directory is always allowed\n"
    "  --policy-dir=DIR          sandbox policies may come from DIR (repeat)\n"
    "  --store=FILE              holdfast-store  [beside holdfastd]\n"
    "  --store-policy=FILE       its sandbox policy\n"
    "  --api=FILE                serve the management API with FILE, the\n"
    "                            program holdfast-api, on RUNDIR/api.sock\n"
    "  --api-policy=FILE         its sandbox policy\n"
    "  --uid-base=N              first user id of the children  [861000]\n"
    "  --uid-count=N             how many there are  [1000]\n"
    "  --help\n"
    "\n"
    "examples:\n"
    "  holdfastd --allow-binary-dir=/usr/lib/holdfast \\\n"
    "      --allow-resource-dir=/srv/images\n"
    "  holdfastd --run-dir=/tmp/hf --spec-dir=/etc/holdfast/specs \\\n"
    "      --allow-binary-dir=/usr/lib/holdfast --allow-resource-dir=/dev\n"
    "\n"
    "exit status: 0 stopped in order, 1 could not start, 2 wrong usage.\n";

}  // namespace holdfast::launcher

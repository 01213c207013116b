#include "devices/runtime/command_line.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

// The options that every device has.
const std::vector<OptionSpec>& StandardOptions() {
  static const auto* const options = new std::vector<OptionSpec>{
      {"socket-path", "PATH", "listen for the VMM on this socket"},
      {"fd", "N", "or: an inherited socket, listening or connected"},
      {"protocol", "NAME", "what the VMM speaks, if the device knows several"},
      {"print-capabilities", "", "print a JSON description and exit"},
      {"compat-version", "N", "pin what the guest can see to this version"},
      {"help", "", "print this text and exit"},
  };
  return *options;
}

const OptionSpec* Find(const std::vector<OptionSpec>& options,
                       const std::string& name) {
  const auto it =
      std::find_if(options.begin(), options.end(),
                   [&](const OptionSpec& o) { return o.name == name; });
  return it == options.end() ? nullptr : &*it;
}

absl::StatusOr<int64_t> Number(const std::string& name,
                               const std::string& text) {
  int64_t value;
  if (!absl::SimpleAtoi(text, &value) || value < 0 ||
      value > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, "=", text, ": give a number"));
  }
  return value;
}

absl::Status SetStandard(const std::string& name, const std::string& value,
                         CommandLine& line) {
  if (name == "protocol") line.protocol = value;
  if (name == "socket-path") line.socket_path = value;
  if (name == "print-capabilities") line.print_capabilities = true;
  if (name == "help") line.help = true;
  if (name == "fd") {
    ASSIGN_OR_RETURN(const int64_t fd, Number(name, value));
    line.fd = static_cast<int>(fd);
  }
  if (name == "compat-version") {
    ASSIGN_OR_RETURN(const int64_t version, Number(name, value));
    if (version == 0) {
      return absl::InvalidArgumentError(
          "--compat-version=0: versions begin with 1");
    }
    line.compat_version = static_cast<uint32_t>(version);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(
    const std::vector<std::string>& arguments,
    const std::vector<OptionSpec>& options,
    const std::vector<std::string>& resource_names) {
  CommandLine line;
  std::map<std::string, std::string> values;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (!absl::ConsumePrefix(&argument, "--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument '", arguments[i], "': see --help"));
    }
    const size_t equals = argument.find('=');
    const std::string name(argument.substr(0, equals));
    const OptionSpec* standard = Find(StandardOptions(), name);
    const OptionSpec* own = Find(options, name);
    const bool resource =
        std::find(resource_names.begin(), resource_names.end(), name) !=
        resource_names.end();
    if (standard == nullptr && own == nullptr && !resource) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown option --", name, ": see --help"));
    }
    std::optional<std::string> value;
    if (equals != absl::string_view::npos) {
      value = std::string(argument.substr(equals + 1));
    }
    const bool needs_value =
        resource || !(standard != nullptr ? standard : own)->value.empty();
    if (needs_value && !value.has_value()) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", name, " needs a value"));
      }
      value = arguments[++i];
    }
    if (standard != nullptr) {
      RETURN_IF_ERROR(SetStandard(name, value.value_or(""), line));
    } else if (resource) {
      line.resources[name] = *value;
    } else {
      values[name] = value.value_or("");
    }
  }
  if (!line.socket_path.empty() && line.fd >= 0) {
    return absl::InvalidArgumentError(
        "--socket-path and --fd exclude each other");
  }
  line.options = DeviceOptions(std::move(values));
  return line;
}

std::string HelpText(const std::string& program, const std::string& protocol,
                     const std::vector<OptionSpec>& options,
                     const std::vector<std::string>& resource_names) {
  std::string text =
      absl::StrCat("Usage: ", program,
                   " (--socket-path=PATH | --fd=N) [options]\n\n"
                   "A ",
                   protocol,
                   " device of Holdfast. Run by the launcher it survives "
                   "kill -9;\nrun by hand it has no recovery.\n\nOptions:\n");
  const auto add = [&](const OptionSpec& o) {
    std::string left = absl::StrCat("  --", o.name);
    if (!o.value.empty()) absl::StrAppend(&left, "=", o.value);
    left.resize(std::max<size_t>(left.size() + 2, 28), ' ');
    absl::StrAppend(&text, left, o.help, "\n");
  };
  for (const OptionSpec& option : StandardOptions()) add(option);
  for (const std::string& name : resource_names) {
    add({name, "PATH", "file to open (stand-alone; else from the launcher)"});
  }
  for (const OptionSpec& option : options) add(option);
  return text;
}

}  // namespace holdfast

#ifndef HOLDFAST_DEVICES_RUNTIME_COMMAND_LINE_H_
#define HOLDFAST_DEVICES_RUNTIME_COMMAND_LINE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/options.h"

namespace holdfast {

// The standard command line of a device program, after QEMU's "Backend program
// conventions" (docs/interop/vhost-user.rst).
struct CommandLine {
  std::string socket_path;  // --socket-path: listen there.
  int fd = -1;              // --fd: a listening or connected socket.
  std::string protocol;     // --protocol; empty: the device's first.
  bool print_capabilities = false;
  bool help = false;
  uint32_t compat_version = 0;  // --compat-version; 0: the newest.
  DeviceOptions options;        // The device's own options...
  std::map<std::string, std::string> resources;  // ... and --NAME=PATH.
};

// Parses argv[1..]. Accepts "--name=value" and "--name value". An error names
// the argument and what to do.
absl::StatusOr<CommandLine> ParseCommandLine(
    const std::vector<std::string>& arguments,
    const std::vector<OptionSpec>& options,
    const std::vector<std::string>& resource_names);

// The text of --help, for a device that is served by `protocol`.
std::string HelpText(const std::string& program, const std::string& protocol,
                     const std::vector<OptionSpec>& options,
                     const std::vector<std::string>& resource_names);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_COMMAND_LINE_H_

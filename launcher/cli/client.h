#ifndef HOLDFAST_LAUNCHER_CLI_CLIENT_H_
#define HOLDFAST_LAUNCHER_CLI_CLIENT_H_

#include <ostream>

#include "absl/status/status.h"
#include "launcher/cli/command.h"

namespace holdfast::cli {

// Performs `command` on the holdfastd of its run directory and prints the
// result to `out`. Errors say what to do; those of the launcher come as they
// are. kEvents with follow returns when holdfastd has been gone for a while.
absl::Status Execute(const Command& command, std::ostream& out);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_CLIENT_H_

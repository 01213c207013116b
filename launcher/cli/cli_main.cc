// holdfast: the command line of a running holdfastd. See README.md.

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/cli/client.h"
#include "launcher/cli/command.h"

int main(int argc, char** argv) {
  namespace cli = holdfast::cli;
  // Its notes on lost connections are ours to tell.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const std::vector<std::string> args(argv + 1, argv + argc);
  const absl::StatusOr<cli::Command> command = cli::ParseCommand(args);
  if (!command.ok()) {
    std::cerr << "holdfast: " << command.status().message() << "\n";
    return 2;
  }
  const absl::Status status = cli::Execute(*command, std::cout);
  std::cout.flush();
  if (status.ok()) return 0;
  std::cerr << "holdfast: " << status.message() << "\n";
  return 1;
}

// holdfast-probe: finds out how a vhost-user back-end takes its socket and what
// it offers, and prints a first profile of it. `holdfast profile new` is this
// program.

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "devices/keeper/probe/findings.h"
#include "devices/keeper/probe/probe_sys.h"

ABSL_FLAG(std::string, output, "", "a new file; default: standard output");

namespace holdfast::keeper {
namespace {

constexpr char kUsage[] =
    "holdfast-probe [--output=FILE] -- PROGRAM ARGUMENT...\n"
    "Starts PROGRAM, a path, in the ways in which a vhost-user back-end may "
    "take\nits socket, and prints a profile for holdfast run --profile.";

// Refuses what is there already. False: it was not written, and why was said.
bool WriteNew(const std::string& path, const std::string& text) {
  if (std::ifstream(path).good()) {
    std::cerr << "holdfast-probe: " << path
              << ": exists already: give --output another name\n";
    return false;
  }
  std::ofstream file(path);
  file << text << std::flush;
  if (file.good()) return true;
  std::cerr << "holdfast-probe: " << path << ": " << std::strerror(errno)
            << "\n";
  return false;
}

int Main(const std::vector<char*>& words) {
  if (words.size() < 2) {
    std::cerr << "holdfast-probe: which program? " << kUsage << "\n";
    return 2;
  }
  const std::vector<std::string> arguments(words.begin() + 2, words.end());
  const absl::StatusOr<Findings> findings =
      Probe(words[1], arguments, std::cerr);
  if (!findings.ok()) {
    std::cerr << "holdfast-probe: " << findings.status().message() << "\n";
    return 1;
  }
  const std::string text = ProfileText(*findings);
  const std::string path = absl::GetFlag(FLAGS_output);
  if (path.empty()) {
    std::cout << text << std::flush;
  } else if (!WriteNew(path, text)) {
    return 1;
  }
  for (const std::string& line : Undecided(*findings)) {
    std::cerr << "not found out: " << line << "\n";
  }
  return 0;
}

}  // namespace
}  // namespace holdfast::keeper

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(holdfast::keeper::kUsage);
  return holdfast::keeper::Main(absl::ParseCommandLine(argc, argv));
}

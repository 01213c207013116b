// holdfastd: starts, confines and supervises device processes.

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/log.h"
#include "launcher/by_path_sys.h"
#include "launcher/options.h"
#include "launcher/parent_sys.h"

int main(int argc, char** argv) {
  namespace launcher = holdfast::launcher;
  if (argc > 1 && std::strcmp(argv[0], launcher::kByPathName) == 0) {
    return launcher::RunByPath(absl::MakeSpan(argv + 1, argv + argc));
  }
  holdfast::SetLogProgram("holdfastd");
  const std::vector<std::string> args(argv + 1, argv + argc);
  absl::StatusOr<launcher::Options> options = launcher::ParseOptions(args);
  if (!options.ok()) {
    holdfast::LogError(options.status().message());
    return 2;
  }
  if (options->help) {
    std::fputs(launcher::kHelp, stdout);
    return 0;
  }
  if (options->store.empty()) {
    std::error_code ignored;
    options->store = std::filesystem::read_symlink("/proc/self/exe", ignored)
                         .replace_filename("holdfast-store")
                         .string();
  }
  signal(SIGPIPE, SIG_IGN);
  // Each instance takes some descriptors; children have limits of their own.
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  // Sockets and files are for root unless somebody says otherwise.
  umask(077);
  return launcher::RunParent(*options);
}

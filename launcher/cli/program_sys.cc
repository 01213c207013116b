#include "launcher/cli/program_sys.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"

namespace holdfast::cli {

absl::Status BecomeProgram(const std::string& path,
                           const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  return ErrnoStatus(absl::StrCat("execute ", path));
}

}  // namespace holdfast::cli

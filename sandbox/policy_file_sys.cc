#include "sandbox/policy_file_sys.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/unique_fd.h"

namespace holdfast::sandbox {
namespace {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(absl::StrCat("open ", path));
  // One byte more than a policy may have, so that the parser sees the excess.
  std::string text(kMaxPolicyBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = read(fd.get(), &text[size], text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(absl::StrCat("read ", path));
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  text.resize(size);
  return text;
}

}  // namespace

absl::StatusOr<Policy> LoadPolicy(
    const std::string& path, const std::vector<std::string>& include_dirs) {
  const size_t slash = path.rfind('/');
  const std::string name =
      slash == std::string::npos ? path : path.substr(slash + 1);
  std::vector<std::string> dirs = {
      slash == std::string::npos ? "." : path.substr(0, slash)};
  dirs.insert(dirs.end(), include_dirs.begin(), include_dirs.end());
  return ParsePolicy(name, [&](absl::string_view wanted) {
    if (wanted == name) return ReadSmallFile(path);
    absl::StatusOr<std::string> text =
        absl::NotFoundError(absl::StrCat("no policy '", wanted, "'"));
    for (const std::string& dir : dirs) {
      text = ReadSmallFile(absl::StrCat(dir, "/", wanted));
      if (!absl::IsNotFound(text.status())) break;
    }
    return text;
  });
}

}  // namespace holdfast::sandbox

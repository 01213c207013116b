#include "launcher/cli/files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace holdfast::cli {
namespace {

// Streams tell of a failure, and errno, which they leave alone, of why.
std::string Why() {
  return errno == 0 ? "" : absl::StrCat(": ", std::strerror(errno));
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most) {
  errno = 0;
  // Larger steps than the stream's own, and none that throws.
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read", Why()));
  }
  std::string bytes;
  constexpr size_t kStep = 1 << 16;
  while (file && bytes.size() <= most) {
    const size_t before = bytes.size();
    bytes.resize(before + std::min(kStep, most + 1 - before));
    file.read(&bytes[before],
              static_cast<std::streamsize>(bytes.size() - before));
    bytes.resize(before + static_cast<size_t>(file.gcount()));
  }
  if (bytes.size() > most) {
    return absl::OutOfRangeError(
        absl::StrCat(path, ": has more than ", most, " bytes"));
  }
  // At the end of a file it is no error that less was read than asked for.
  if (file.bad()) {
    return absl::DataLossError(absl::StrCat(path, ": cannot be read", Why()));
  }
  return bytes;
}

absl::Status WriteFile(const std::string& path, absl::string_view bytes) {
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (file) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, ": cannot be written", Why()));
}

}  // namespace holdfast::cli

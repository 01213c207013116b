#include "base/errno_status.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast {

absl::Status ErrnoStatus(absl::string_view call) {
  return ErrnoStatus(errno, call);
}

absl::Status ErrnoStatus(int error_number, absl::string_view call) {
  return absl::Status(absl::ErrnoToStatusCode(error_number),
                      absl::StrCat(call, ": ", std::strerror(error_number)));
}

}  // namespace holdfast

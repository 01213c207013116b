#include "base/direct_io_sys.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"

namespace holdfast {

absl::Status PassPageCache(BorrowedFd fd, absl::string_view name,
                           absl::string_view otherwise) {
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0) return ErrnoStatus(absl::StrCat(name, ": fcntl F_GETFL"));
  // The kernel asks the file system here as it does in open(2).
  if (fcntl(fd.get(), F_SETFL, flags | O_DIRECT) == 0) return absl::OkStatus();
  if (errno != EINVAL) {
    return ErrnoStatus(absl::StrCat(name, ": fcntl F_SETFL"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      name,
      " is on a file system without direct I/O (O_DIRECT): move it to one that "
      "has it, such as ext4 or xfs, or ",
      otherwise));
}

}  // namespace holdfast

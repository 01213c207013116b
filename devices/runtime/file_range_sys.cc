#include "devices/runtime/file_range_sys.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

// Guest memory may lie in pages of any size; the kernel rounds up by itself for
// a mapping, only the offset must fit the smallest page.
constexpr uint64_t kPageSize = 4096;

}  // namespace

absl::StatusOr<UnalignedMapping> MapUnaligned(BorrowedFd fd, uint64_t offset,
                                              uint64_t size) {
  const uint64_t skip = offset % kPageSize;
  if (size == 0 || size > UINT64_MAX - skip) {
    return absl::InvalidArgumentError("the range to map is empty or wraps");
  }
  UnalignedMapping result;
  ASSIGN_OR_RETURN(result.mapping, MapShared(fd, offset - skip, size + skip,
                                             MapAccess::kReadWrite));
  result.inside = result.mapping.data() + skip;
  return result;
}

// lseek, because fstat takes a path and is not in the steady-state filter.
absl::StatusOr<uint64_t> FileEnd(BorrowedFd fd) {
  const off_t end = lseek(fd.get(), 0, SEEK_END);
  if (end < 0) return ErrnoStatus("lseek on a memory descriptor");
  return static_cast<uint64_t>(end);
}

absl::Status CheckFileHolds(BorrowedFd fd, uint64_t offset, uint64_t size) {
  ASSIGN_OR_RETURN(const uint64_t file_size, FileEnd(fd));
  if (offset > file_size || size > file_size - offset) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", file_size, " bytes, the region ends at ",
                     offset, " + ", size));
  }
  return absl::OkStatus();
}

}  // namespace holdfast

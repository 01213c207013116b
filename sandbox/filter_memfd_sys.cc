#include "sandbox/filter_memfd_sys.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "sandbox/seccomp_sys.h"

namespace holdfast::sandbox {
namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

absl::StatusOr<UniqueFd> SealFilter(absl::Span<const sock_filter> program) {
  const size_t size = program.size() * sizeof(sock_filter);
  // CreateSealedMemfd takes the seal on seals; this one gets one more first.
  UniqueFd fd(memfd_create("holdfast-filter", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus("memfd_create");
  const ssize_t written = write(fd.get(), program.data(), size);
  if (written < 0) return ErrnoStatus("write to the filter's memfd");
  if (static_cast<size_t>(written) != size) {
    return absl::ResourceExhaustedError("short write to the filter's memfd");
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) {
    return ErrnoStatus("sealing the filter's memfd");
  }
  return fd;
}

absl::StatusOr<std::vector<uint8_t>> ReadFilter(BorrowedFd filter) {
  const int seals = fcntl(filter.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return absl::FailedPreconditionError(
        "the steady filter is not a memfd sealed against writing");
  }
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(filter));
  if (size == 0 || size % sizeof(sock_filter) != 0 ||
      size > kMaxFilterInstructions * sizeof(sock_filter)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a steady filter of ", size, " bytes"));
  }
  std::vector<uint8_t> bytes(size);
  const ssize_t got = pread(filter.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return ErrnoStatus("read the steady filter");
  if (static_cast<size_t>(got) != size) {
    return absl::DataLossError("the steady filter is shorter than its size");
  }
  return bytes;
}

}  // namespace holdfast::sandbox

#ifndef HOLDFAST_DEVICES_RUNTIME_FILE_RANGE_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_FILE_RANGE_SYS_H_

// Parts of files that a VMM has given, with the calls that the steady state
// has. Threads: any.

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"

namespace holdfast {

// Maps [offset, offset + size) of `fd`, where `offset` may be anything: the
// mapping begins at the page below. `inside` is where `offset` is.
struct UnalignedMapping {
  Mapping mapping;
  uint8_t* inside = nullptr;
};
absl::StatusOr<UnalignedMapping> MapUnaligned(BorrowedFd fd, uint64_t offset,
                                              uint64_t size);

// Where the file behind `fd` ends, in bytes.
absl::StatusOr<uint64_t> FileEnd(BorrowedFd fd);

// Whether the file behind `fd` holds [offset, offset + size). It may be cut
// later: then the access raises SIGBUS, which is a crash like any other.
absl::Status CheckFileHolds(BorrowedFd fd, uint64_t offset, uint64_t size);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_FILE_RANGE_SYS_H_

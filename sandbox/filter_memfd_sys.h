#ifndef HOLDFAST_SANDBOX_FILTER_MEMFD_SYS_H_
#define HOLDFAST_SANDBOX_FILTER_MEMFD_SYS_H_

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

// How a compiled filter travels from the launcher to a device: a memfd sealed
// against every change. Without the write seal a device that was taken over
// could rewrite the filter of its own successor.

namespace holdfast::sandbox {

// Launcher's side. May be given to any number of children.
absl::StatusOr<UniqueFd> SealFilter(absl::Span<const sock_filter> program);

// Device's side: the bytes of the program. kFailedPrecondition when `filter`
// can still be written to; kInvalidArgument when its size is not one of a
// filter.
absl::StatusOr<std::vector<uint8_t>> ReadFilter(BorrowedFd filter);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_FILTER_MEMFD_SYS_H_

#ifndef HOLDFAST_BASE_DIRECT_IO_SYS_H_
#define HOLDFAST_BASE_DIRECT_IO_SYS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace holdfast {

// Makes reads and writes of an open file pass the page cache (O_DIRECT), for
// all duplicates of the descriptor. kFailedPrecondition where its file system
// does not allow it: the message begins with `name` and ends with what else can
// be done, "or `otherwise`".
absl::Status PassPageCache(BorrowedFd fd, absl::string_view name,
                           absl::string_view otherwise);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_DIRECT_IO_SYS_H_

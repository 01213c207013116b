#ifndef HOLDFAST_BASE_ERRNO_STATUS_H_
#define HOLDFAST_BASE_ERRNO_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace holdfast {

// The only conversion from errno to absl::Status. `call` names the system call
// and its object ("open disk.img"); the message becomes "open disk.img: No
// such file or directory". Reads errno at the moment of the call.
absl::Status ErrnoStatus(absl::string_view call);

// The same for an error number that was saved.
absl::Status ErrnoStatus(int error_number, absl::string_view call);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_ERRNO_STATUS_H_

#include "sandbox/tighten_sys.h"

#include <linux/filter.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "sandbox/filter_memfd_sys.h"
#include "sandbox/seccomp_sys.h"

namespace holdfast::sandbox {

absl::Status ApplySteadyFilter(absl::Span<const uint8_t> program_bytes) {
  if (program_bytes.empty() ||
      program_bytes.size() % sizeof(sock_filter) != 0 ||
      program_bytes.size() / sizeof(sock_filter) > kMaxFilterInstructions) {
    return absl::InvalidArgumentError("the steady filter is no BPF program");
  }
  // A copy, because bytes need not be aligned.
  std::vector<sock_filter> program(program_bytes.size() / sizeof(sock_filter));
  std::memcpy(program.data(), program_bytes.data(), program_bytes.size());
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return ErrnoStatus("prctl(PR_SET_NO_NEW_PRIVS)");
  }
  const int error =
      InstallFilter(program.data(), program.size(), Threads::kAll);
  if (error != 0) return ErrnoStatus(error, "seccomp: steady filter");
  return absl::OkStatus();
}

absl::Status Tighten(BorrowedFd filter) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> program, ReadFilter(filter));
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return ErrnoStatus("prctl(PR_SET_DUMPABLE)");
  }
  return ApplySteadyFilter(program);
}

}  // namespace holdfast::sandbox

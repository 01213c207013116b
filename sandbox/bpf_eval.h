#ifndef HOLDFAST_SANDBOX_BPF_EVAL_H_
#define HOLDFAST_SANDBOX_BPF_EVAL_H_

#include <linux/filter.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {

// Whether the kernel would take `program` as a seccomp filter: known
// instructions, jumps forward and inside, loads inside struct seccomp_data and
// of scratch memory that was stored on every way to them, a return at the end.
// After bpf_check_classic and seccomp_check_filter of Linux.
absl::Status CheckFilter(absl::Span<const sock_filter> program);

// A program that CheckFilter has passed, to be run many times. Borrows it.
class CheckedFilter {
 public:
  static absl::StatusOr<CheckedFilter> Create(
      absl::Span<const sock_filter> program);

  // The SECCOMP_RET_ value for one system call. Pure; always ends.
  uint32_t Run(const SyscallRecord& record) const;

 private:
  explicit CheckedFilter(absl::Span<const sock_filter> program)
      : program_(program) {}
  absl::Span<const sock_filter> program_;
};

// Checks and runs once. Total: any bytes end, with a value or
// kInvalidArgument.
absl::StatusOr<uint32_t> RunFilter(absl::Span<const sock_filter> program,
                                   const SyscallRecord& record);

// What a return value means for a caller without a listener or a tracer:
// unknown actions, traps and requests to others do not allow.
Verdict VerdictOf(uint32_t return_value);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_BPF_EVAL_H_

#ifndef HOLDFAST_SANDBOX_SYSCALL_TABLE_H_
#define HOLDFAST_SANDBOX_SYSCALL_TABLE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace holdfast::sandbox {

// The one architecture that filters let through (AUDIT_ARCH_X86_64); x32, which
// shares it, is told by this bit of the number.
inline constexpr uint32_t kNativeArch = 0xc000003e;
inline constexpr uint32_t kX32Bit = 0x40000000;

// Number of a system call of x86-64 by the kernel's name for it. Names come
// from the kernel headers of the build machine, newer ones from a list here.
absl::optional<uint32_t> SyscallNumber(absl::string_view name);

// The opposite, for messages about SIGSYS; empty when the number has no name.
// The result lives for ever.
absl::string_view SyscallName(uint32_t number);

// Value of a named constant of an argument ("PROT_EXEC") or of errno
// ("ENOSYS") that policies may use.
absl::optional<uint64_t> ArgumentConstant(absl::string_view name);
absl::optional<uint32_t> ErrnoConstant(absl::string_view name);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_SYSCALL_TABLE_H_

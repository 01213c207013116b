#ifndef HOLDFAST_SANDBOX_SECCOMP_SYS_H_
#define HOLDFAST_SANDBOX_SECCOMP_SYS_H_

#include <linux/filter.h>

#include <cstddef>

// The bare seccomp(2) calls. Async-signal-safe, no allocation, no libseccomp,
// so that device processes can use them too. Need no_new_privs.

namespace holdfast::sandbox {

// The most instructions that the kernel takes (BPF_MAXINSNS).
inline constexpr size_t kMaxFilterInstructions = 4096;

// Installs a one-instruction filter that allows everything and returns its
// listener, close-on-exec, or -1 with errno. EBUSY: the process was born under
// a filter that already has a listener. The listener reports EPOLLHUP when the
// last task under the filter is dead.
int InstallListener();

enum class Threads { kCaller, kAll };

// Adds a filter to the calling thread, or to all threads of the process at
// once. Returns 0 or an errno value; ESRCH: a thread has filters of its own.
int InstallFilter(const sock_filter* instructions, size_t count,
                  Threads threads);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_SECCOMP_SYS_H_

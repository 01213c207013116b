#ifndef HOLDFAST_SANDBOX_ASYNC_IO_FILTER_H_
#define HOLDFAST_SANDBOX_ASYNC_IO_FILTER_H_

#include <linux/filter.h>

#include <vector>

namespace holdfast::sandbox {

// A seccomp filter that allows everything but what lets the kernel read or
// write for a process beside its threads: io_uring and Linux's AIO fail with
// ENOSYS, as on a kernel without them, for which every program has another way.
// All calls of other architectures, of x32 too, fail with it as well: there
// they have other numbers.
//
// With it what a process has begun is done when no thread of it runs any more;
// see docs/decisions/0018-no-thread-no-write.md.
std::vector<sock_filter> RefuseAsyncIo();

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_ASYNC_IO_FILTER_H_

#ifndef HOLDFAST_BASE_SCHEDULING_SYS_H_
#define HOLDFAST_BASE_SCHEDULING_SYS_H_

#include <sys/types.h>

#include "absl/status/status.h"

namespace holdfast {

// How a thread, of whatever process, gets the processor. What it starts later
// inherits it, over exec too.

// SCHED_FIFO at `priority`, 1 to 99. A thread that has as much keeps what it
// has. kPermissionDenied without CAP_SYS_NICE.
absl::Status RaiseToRealtime(pid_t thread, int priority);

// The normal policy at `nice`, with the shortest time slice that the kernel
// has (100 us from Linux 6.12 on, no effect before): when the thread is woken
// it need not wait for the end of the slice of whoever runs, and it gets no
// more of the processor for it.
absl::Status SetPrompt(pid_t thread, int nice);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_SCHEDULING_SYS_H_

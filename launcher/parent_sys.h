#ifndef HOLDFAST_LAUNCHER_PARENT_SYS_H_
#define HOLDFAST_LAUNCHER_PARENT_SYS_H_

#include "launcher/options.h"

namespace holdfast::launcher {

// The parent process of holdfastd: starts the core, starts it again when it
// dies, keeps the way to the store meanwhile, reaps orphans, and passes SIGTERM
// on. Knows nothing of instances, so there is little in it that could fail.
//
// When the parent itself dies the core takes its role, in the same process, and
// starts a new core. Returns the exit status of the process: 0 stopped in
// order, 1 could not start.
int RunParent(const Options& options);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_PARENT_SYS_H_

#ifndef HOLDFAST_LAUNCHER_EXIT_CAUSE_H_
#define HOLDFAST_LAUNCHER_EXIT_CAUSE_H_

#include <string>

namespace holdfast::launcher {

// Why a process ended, in the words of events and status: "exit status 3",
// "SIGKILL", "SIGSEGV (core dumped)", "sandbox violation (SIGSYS)"; "SIGSEGV"
// as well for the exit status of a device that has caught its own. `status` is
// that of wait(2). Pure.
std::string ExitCause(int status);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_EXIT_CAUSE_H_

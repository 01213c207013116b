#ifndef HOLDFAST_LAUNCHER_EXIT_CAUSE_H_
#define HOLDFAST_LAUNCHER_EXIT_CAUSE_H_

#include <string>

namespace holdfast::launcher {

// Why a process ended, in the words of events and status: "exit status 3",
// "SIGKILL", "SIGSEGV (core dumped)", "sandbox violation (SIGSYS)". `status` is
// that of wait(2). Pure.
std::string ExitCause(int status);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_EXIT_CAUSE_H_

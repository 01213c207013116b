#ifndef HOLDFAST_LAUNCHER_EXIT_CAUSE_H_
#define HOLDFAST_LAUNCHER_EXIT_CAUSE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace holdfast::launcher {

// Why a process ended, in the words of events and status: "exit status 3",
// "SIGKILL", "SIGSEGV (core dumped)", "sandbox violation (SIGSYS)"; "SIGSEGV"
// as well for the exit status of a device that has caught its own. `status` is
// that of wait(2). Pure.
std::string ExitCause(int status);

// Whether a process ended by a fault of its own, in these words: by a signal of
// a fault, or with an exit status other than 0. A signal that somebody sends is
// none, but for those that only a fault raises.
bool IsOwnFault(absl::string_view cause);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_EXIT_CAUSE_H_

#ifndef HOLDFAST_LAUNCHER_PROCESS_SYS_H_
#define HOLDFAST_LAUNCHER_PROCESS_SYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "launcher/restart_policy.h"

namespace holdfast::launcher {

// Small operations on other processes. Those that are named by a number and not
// by a pidfd are safe only while the caller knows that it was not reaped.

// Whether the process behind `pidfd` has ended.
bool HasEnded(BorrowedFd pidfd);

// Whether `pid`, which was not reaped, has begun to end: by a signal or by
// itself. Its descriptors are closed after this and before HasEnded().
bool IsEnding(int pid);

// Sends `signal`; a process that has ended already is not an error.
absl::Status SendSignal(BorrowedFd pidfd, int signal);

// Why it ended: of a child of ours by reaping it, of somebody else's by what
// the kernel kept (Linux 6.15), once its parent has reaped it. Nothing: it
// lives, or nobody knows yet.
std::optional<std::string> TakeExitCause(BorrowedFd pidfd);

// The signals that end a launcher in order: SIGTERM, SIGINT, SIGQUIT and
// SIGHUP. A terminal sends the last three to all of its processes at once, and
// when it closes nobody is there to start another launcher. Not those that
// whoever started this process has it ignore, as nohup does.
std::vector<int> StopSignals();

// Lowers the priority of all threads of `pid`, which dies, so that the
// tear-down of its memory hardly competes with the guest. Best effort.
void Demote(int pid);

// Makes the first thread of `pid` execute address 0, as a wild jump would: a
// signal that is merely sent does not reach process 1 of a pid namespace. For
// fault injection. kUnimplemented on other machines than x86-64.
absl::Status InjectSegmentationFault(int pid);

// When `pid` was started, in the kernel's ticks since boot: with its number, a
// name that no other process has. 0: there is no such process.
uint64_t StartTimeOf(int pid);

// Children of `pid`, all threads of it.
std::vector<int> ChildrenOf(int pid);

// They, their children, and so on.
std::vector<int> DescendantsOf(int pid);

// CLOCK_MONOTONIC, and the wall clock.
Uptime Now();
int64_t UnixNs();

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_PROCESS_SYS_H_

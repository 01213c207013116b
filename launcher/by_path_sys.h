#ifndef HOLDFAST_LAUNCHER_BY_PATH_SYS_H_
#define HOLDFAST_LAUNCHER_BY_PATH_SYS_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace holdfast::launcher {

// Wrapped programs that take no descriptor but listen at a path. Such a program
// is started by a small one, the first process of its life: that connects to
// the path once somebody listens there, and carries messages between the two
// sockets. What is behind the messages, rings and eventfds, it never sees.
//
// The path leads into a file system of that life alone, which nobody else can
// open and which leaves nothing behind.
//
// The small program is holdfastd itself under another name: what may be
// executed has been decided by the launcher, which passes it on opened.

// argv[0] of the small program. The program's own words follow.
inline constexpr char kByPathName[] = "holdfast-by-path";
// Its descriptors: the keeper's connection, and the program.
inline constexpr int kByPathFrontEndFd = 3;
inline constexpr int kByPathProgramFd = 4;

// The small program's main; its exit status. `program_argv`: of the program,
// where "{path}" stands for the path that it is to listen at. Ends when the
// program does, or one of the sockets.
int RunByPath(absl::Span<char* const> program_argv);

// Carries one vhost-user message with its descriptors; for tests. Waits for all
// of it, and until it is sent. False: `from` has ended. kInvalidArgument: that
// is no message.
absl::StatusOr<bool> CarryMessage(BorrowedFd from, BorrowedFd to);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_BY_PATH_SYS_H_

#ifndef HOLDFAST_LAUNCHER_CUSTODY_SYS_H_
#define HOLDFAST_LAUNCHER_CUSTODY_SYS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace holdfast::launcher {

// What must outlive the core for the next one to find the store, and to know
// what is left to do: kept by the parent process, which knows nothing else.
struct Custody {
  UniqueFd link;        // The launcher's end of the channel to the store.
  UniqueFd store_link;  // The store's end: a store's death closes nothing.
  UniqueFd store_pidfd;
  int store_pid = 0;
  bool specs_run = false;  // Each of --spec-dir was run, or was refused.

  bool valid() const { return link.valid(); }
  absl::StatusOr<Custody> Duplicate() const;
};

// The end of a process that the parent has reaped.
struct ExitNotice {
  int32_t pid = 0;
  int32_t status = 0;  // Of waitpid(2).
};

// From parent to core. A full channel loses it: the parent keeps the last ones
// for the next core.
void SendExit(BorrowedFd core, const ExitNotice& exit);
// The next one that has come; nothing: none, or the parent is gone.
std::optional<ExitNotice> ReceiveExit(BorrowedFd parent);

// From core to parent, over a SEQPACKET pair. Once sent it is safe: should the
// core die, the parent still reads it.
absl::Status SendCustody(BorrowedFd parent, const Custody& custody);

// Reads one message. kUnavailable: nothing there and `core` is non-blocking;
// kCancelled: the core is gone.
absl::Status ReceiveCustody(BorrowedFd core, Custody& custody);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CUSTODY_SYS_H_

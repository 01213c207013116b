#ifndef HOLDFAST_SANDBOX_JAIL_SYS_H_
#define HOLDFAST_SANDBOX_JAIL_SYS_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

// Starts one confined process. The mechanisms live in a file each; what makes
// them safe together is their order, which is here and in jail_child_sys.cc:
//
//   launcher                          child (no allocation, no locks)
//   --------                          -------------------------------
//   check the spec, open the program
//   clone3(PIDFD, user pid mount
//     net ipc uts cgroup) ----------> signals to default, setsid
//   write gid_map, uid_map            wait
//   write its pid to the cgroups
//   scheduling
//   "go" -------------------------->  SELinux exec context
//                                     descriptors: all close-on-exec, then
//                                       the table under its numbers
//                                     securebits locked, bounding set empty
//                                     groups, gid, uid of the instance
//                                     empty read-only root, host name
//                                     session keyring of its own
//                                     rlimits
//                                     capabilities empty
//                                     no_new_privs, write-xor-execute
//   keep the listener <-------------  seccomp: allow-all with listener
//   <-------------------------------  "executing"
//                                     seccomp: startup filter
//   end of stream: it runs <--------  execveat(program)
//
// A step that fails is named in the returned status and the child is gone.

namespace holdfast::sandbox {

// `source` stays the caller's; the child gets a duplicate as `number`.
struct InheritedFd {
  BorrowedFd source;
  int number;
};

// Soft and hard limits alike. A value above the launcher's own hard limit is
// cut to it and reported as degraded. Core dumps are always off.
struct ResourceLimits {
  uint64_t open_files = 512;
  uint64_t threads = 64;  // Only applied with a uid of the instance's own.
  uint64_t file_size = UINT64_MAX;
  uint64_t locked_memory = uint64_t{8} << 20;  // Bytes.
  // SIGKILL for one with a thread that has run for so long at a real-time
  // priority without ever waiting for anything; 0: never. Microseconds.
  uint64_t realtime_us = 0;
};

enum class Root {
  // A read-only tmpfs of nothing. The program must be static.
  kEmpty,
  // The launcher's file system; reported as degraded.
  kHost,
};

// How much of the jail is wanted. Tests use less.
enum class Confinement {
  kFull,
  // Exact descriptors, scrubbed environment and the filters of the spec, but
  // the launcher's ids, namespaces and capabilities. For tests and programs
  // that must not be confined; reported as degraded.
  kNone,
  // The same with a pid namespace of its own: nothing that it starts outlives
  // it, and its end is the end of all of that. For wrapped programs.
  kFenced,
};

struct JailSpec {
  // Opened by the launcher and executed by descriptor: the child needs no path
  // to it. Must be executable by "others".
  std::string program;
  std::vector<std::string> argv;  // With argv[0].
  std::vector<std::string> env;   // "NAME=value"; nothing is inherited.
  // The child's whole table: everything else is closed.
  std::vector<InheritedFd> fds;

  Confinement confinement = Confinement::kFull;
  // Ids outside; never 0 with kFull. Not shared with another instance.
  uint32_t uid = 0;
  uint32_t gid = 0;
  Root root = Root::kEmpty;
  ResourceLimits limits;
  // In force from execveat on; empty: none, which is reported as degraded.
  std::vector<sock_filter> startup_filter;
  // An allow-all filter with a listener comes first; its EPOLLHUP is the death
  // fence.
  bool want_listener = true;
  // SCHED_FIFO at this priority, 1 to 99, from the first instruction of the
  // program on, so for every thread that it ever starts. Reported as degraded
  // when the machine refuses. 0: the normal policy, with the shortest time
  // slice that Linux 6.12 and later give: it runs at once when it is woken,
  // and gets no more of the processor for it.
  int realtime_priority = 0;
  // Context for SELinux, empty: none. Ignored, and reported as degraded, when
  // the kernel has no SELinux.
  std::string selinux_context;
  // Open cgroup.procs files: it is in these groups before it does anything.
  // Reported as degraded when a group cannot take it.
  std::vector<BorrowedFd> cgroups;
  // Fail instead of starting with less than was asked for.
  bool refuse_degraded = false;
  // SIGKILL when the thread that called Spawn ends. Tests only: children
  // outlive the launcher.
  bool die_with_parent = false;
};

struct JailedProcess {
  pid_t pid = -1;  // In the launcher's pid namespace.
  UniqueFd pidfd;
  UniqueFd listener;  // Empty when there is none.
  // What the machine did not give, one "degraded: <what>: <why>" each.
  std::vector<std::string> degraded;
};

// Starts the program of `spec` and returns once it executes. The child is
// process 1 of its own pid namespace, so signals that it has no handler for are
// ignored, except SIGKILL and SIGSTOP from outside, faults, and SIGSYS of a
// filter; abort() ends as SIGSEGV or SIGSYS. It does not die with the launcher.
//
// The caller waits for the process with waitid(P_PIDFD). Blocks for the 1 to 2
// ms that the start takes. Thread-safe. Errors: kInvalidArgument for a spec
// that makes no sense; otherwise the error of the step that its message names.
absl::StatusOr<JailedProcess> Spawn(const JailSpec& spec);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_JAIL_SYS_H_

#ifndef HOLDFAST_TESTS_CONFINEMENT_AUDIT_SYS_H_
#define HOLDFAST_TESTS_CONFINEMENT_AUDIT_SYS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// What the kernel says of a running process, in /proc and from outside: the
// jail as it is, not as it was asked for.

namespace holdfast::testing {

// What is expected of a confined child beyond what holds for all.
struct ConfinedAs {
  bool empty_root = true;
  // Every thread has a seccomp filter. A child puts the last one on itself, and
  // with it makes itself impossible to dump.
  bool filtered = true;
  int least_filters = 2;         // On every thread.
  std::vector<std::string> env;  // Exactly these names, sorted.
  uint64_t open_files = 512;     // At most, as all limits.
  uint64_t threads = 64;
  // Regular files and directories that a descriptor may lead to, besides the
  // null device and the log of the test.
  std::vector<std::string> files;
};

// One line for each thing that is not so; empty: the process is confined.
// Checked: ids (one, never 0, no groups, one mapping), all five capability
// sets, no_new_privs, filters of every thread, seven namespaces, process 1 of
// its own, root directory and mounts, environment, limits, no core dump, not
// dumpable, descriptors, no memory that is writable and executable.
std::vector<std::string> Audit(pid_t pid, const ConfinedAs& as);

// The user that it runs as, outside; -1: gone.
int64_t UserOf(pid_t pid);

// Its namespaces, as "user:[4026531837]".
std::vector<std::string> NamespacesOf(pid_t pid);

}  // namespace holdfast::testing

#endif  // HOLDFAST_TESTS_CONFINEMENT_AUDIT_SYS_H_

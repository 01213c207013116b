#ifndef HOLDFAST_SANDBOX_CAPABILITIES_SYS_H_
#define HOLDFAST_SANDBOX_CAPABILITIES_SYS_H_

#include <cstdint>

// Steps of the child between clone3 and execveat: async-signal-safe, no
// allocation. Each returns 0 or an errno value.

namespace holdfast::sandbox {

// Locks the securebits so that no uid means anything to capabilities ever
// again, and empties the ambient and the bounding set. Permitted and effective
// stay for the steps that follow. Needs CAP_SETPCAP.
int LockPrivileges();

// Takes the ids with raw system calls (the C library's wrappers would signal
// threads that do not exist here). Needs CAP_SETGID and CAP_SETUID, which
// stay, because LockPrivileges was called. Supplementary groups go too, unless
// `keep_groups`: where setgroups is denied, they cannot.
int BecomeUser(uint32_t uid, uint32_t gid, bool keep_groups);

// Empties the effective, permitted and inheritable sets.
int DropCapabilities();

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_CAPABILITIES_SYS_H_

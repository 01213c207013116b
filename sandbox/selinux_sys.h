#ifndef HOLDFAST_SANDBOX_SELINUX_SYS_H_
#define HOLDFAST_SANDBOX_SELINUX_SYS_H_

namespace holdfast::sandbox {

// Whether the running kernel has SELinux in its list of security modules and
// its file system is mounted. Speaks the kernel's interface itself: a process
// this privileged links no library for one write. `mount_point`: tests have
// another.
bool SelinuxEnabled(const char* mount_point = "/sys/fs/selinux");

// Child's side, async-signal-safe: the next exec changes to `context`. Needs
// proc, so before EnterEmptyRoot. Under no_new_privs the policy must grant
// nnp_transition, or exec fails with EPERM. `attribute`: tests have another.
// Returns 0 or an errno value.
int SetExecContext(const char* context,
                   const char* attribute = "/proc/thread-self/attr/exec");

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_SELINUX_SYS_H_

// Compares the constants that policies may use with the kernel's headers.

#include "sandbox/syscall_table.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>

#include "gtest/gtest.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace holdfast::sandbox {
namespace {

#define EXPECT_CONSTANT(name) \
  EXPECT_EQ(ArgumentConstant(#name), static_cast<uint64_t>(name))

TEST(SyscallTable, ArgumentConstantsAreTheKernels) {
  EXPECT_CONSTANT(PROT_READ);
  EXPECT_CONSTANT(PROT_WRITE);
  EXPECT_CONSTANT(PROT_EXEC);
  EXPECT_CONSTANT(MAP_SHARED);
  EXPECT_CONSTANT(MAP_PRIVATE);
  EXPECT_CONSTANT(MAP_FIXED);
  EXPECT_CONSTANT(MAP_ANONYMOUS);
  EXPECT_CONSTANT(CLONE_VM);
  EXPECT_CONSTANT(CLONE_THREAD);
  EXPECT_CONSTANT(CLONE_NEWNS);
  EXPECT_CONSTANT(CLONE_NEWCGROUP);
  EXPECT_CONSTANT(CLONE_NEWUTS);
  EXPECT_CONSTANT(CLONE_NEWIPC);
  EXPECT_CONSTANT(CLONE_NEWUSER);
  EXPECT_CONSTANT(CLONE_NEWPID);
  EXPECT_CONSTANT(CLONE_NEWNET);
  EXPECT_CONSTANT(CLONE_NEWTIME);
  EXPECT_CONSTANT(F_DUPFD_CLOEXEC);
  EXPECT_CONSTANT(F_GETFD);
  EXPECT_CONSTANT(F_SETFD);
  EXPECT_CONSTANT(F_GETFL);
  EXPECT_CONSTANT(F_SETFL);
  EXPECT_CONSTANT(F_SETLKW);
  EXPECT_CONSTANT(F_ADD_SEALS);
  EXPECT_CONSTANT(F_GET_SEALS);
  EXPECT_CONSTANT(AF_UNIX);
  EXPECT_CONSTANT(BLKSSZGET);
  EXPECT_CONSTANT(BLKIOMIN);
  EXPECT_CONSTANT(BLKIOOPT);
  EXPECT_CONSTANT(BLKALIGNOFF);
  EXPECT_CONSTANT(BLKPBSZGET);
  EXPECT_CONSTANT(AT_EMPTY_PATH);
  EXPECT_CONSTANT(SIGABRT);
  EXPECT_CONSTANT(SIGKILL);
  EXPECT_CONSTANT(SOCK_CLOEXEC);
  EXPECT_CONSTANT(PR_SET_DUMPABLE);
  EXPECT_CONSTANT(PR_SET_NAME);
  EXPECT_CONSTANT(PR_SET_NO_NEW_PRIVS);
  EXPECT_CONSTANT(PR_SET_VMA);
  EXPECT_CONSTANT(SECCOMP_SET_MODE_FILTER);
  EXPECT_CONSTANT(SOL_SOCKET);
  EXPECT_CONSTANT(SO_ERROR);
  EXPECT_CONSTANT(SO_TYPE);
  EXPECT_CONSTANT(SO_DOMAIN);
  EXPECT_CONSTANT(SO_PEERCRED);
  EXPECT_CONSTANT(SO_PEEK_OFF);
  EXPECT_CONSTANT(SO_COOKIE);
  EXPECT_EQ(ArgumentConstant("PROT_NOTHING"), absl::nullopt);
}

TEST(SyscallTable, ErrnosAndArchitectureAreTheKernels) {
  EXPECT_EQ(ErrnoConstant("EPERM"), static_cast<uint32_t>(EPERM));
  EXPECT_EQ(ErrnoConstant("ENOENT"), static_cast<uint32_t>(ENOENT));
  EXPECT_EQ(ErrnoConstant("EACCES"), static_cast<uint32_t>(EACCES));
  EXPECT_EQ(ErrnoConstant("EINVAL"), static_cast<uint32_t>(EINVAL));
  EXPECT_EQ(ErrnoConstant("ENOTTY"), static_cast<uint32_t>(ENOTTY));
  EXPECT_EQ(ErrnoConstant("ENOSYS"), static_cast<uint32_t>(ENOSYS));
  EXPECT_EQ(kNativeArch, static_cast<uint32_t>(AUDIT_ARCH_X86_64));
  EXPECT_EQ(SyscallNumber("openat"), static_cast<uint32_t>(SYS_openat));
}

}  // namespace
}  // namespace holdfast::sandbox

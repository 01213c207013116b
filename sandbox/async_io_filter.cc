#include "sandbox/async_io_filter.h"

#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace holdfast::sandbox {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kNative = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kNative = AUDIT_ARCH_AARCH64;
#else
#error "name this architecture"
#endif

// What makes a ring or a context, and what uses one that somebody else made.
constexpr uint32_t kRefused[] = {__NR_io_uring_setup, __NR_io_uring_enter,
                                 __NR_io_uring_register, __NR_io_setup,
                                 __NR_io_submit};
// x32's numbers are the native architecture's, and this.
constexpr uint32_t kX32 = 0x40000000;
constexpr uint32_t kNoSuchCall = SECCOMP_RET_ERRNO | ENOSYS;

}  // namespace

std::vector<sock_filter> RefuseAsyncIo() {
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kNative, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, kNoSuchCall),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kNoSuchCall)};
  for (const uint32_t number : kRefused) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, kNoSuchCall));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return filter;
}

}  // namespace holdfast::sandbox

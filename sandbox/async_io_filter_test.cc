#include "sandbox/async_io_filter.h"

#include <asm/unistd.h>
#include <linux/audit.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"
#include "sandbox/bpf_eval.h"
#include "sandbox/policy.h"

namespace holdfast::sandbox {
namespace {

Verdict Of(uint32_t number, uint32_t arch = AUDIT_ARCH_X86_64) {
  SyscallRecord record;
  record.number = number;
  record.arch = arch;
  const std::vector<sock_filter> filter = RefuseAsyncIo();
  const auto value = RunFilter(filter, record);
  EXPECT_OK(value);
  return VerdictOf(value.value_or(0));
}

void ExpectNoSuchCall(const Verdict& verdict) {
  EXPECT_EQ(verdict.action, Action::kFail);
  EXPECT_EQ(verdict.error, static_cast<uint32_t>(ENOSYS));
}

TEST(AsyncIoFilter, TheKernelTakesIt) {
  EXPECT_OK(CheckFilter(RefuseAsyncIo()));
}

TEST(AsyncIoFilter, WhatWorksBesideAThreadFailsAndNothingElse) {
  for (uint32_t number = 0; number < 1024; ++number) {
    SCOPED_TRACE(number);
    if (number == __NR_io_setup || number == __NR_io_submit ||
        number == __NR_io_uring_setup || number == __NR_io_uring_enter ||
        number == __NR_io_uring_register) {
      ExpectNoSuchCall(Of(number));
    } else {
      EXPECT_EQ(Of(number).action, Action::kAllow);
    }
  }
}

// By their numbers there.
TEST(AsyncIoFilter, TheSameUnderOtherArchitectures) {
  constexpr uint32_t kIoSetupOfI386 = 245;
  constexpr uint32_t kX32 = 0x40000000;
  ExpectNoSuchCall(Of(kIoSetupOfI386, AUDIT_ARCH_I386));
  ExpectNoSuchCall(Of(__NR_io_uring_setup, AUDIT_ARCH_I386));
  ExpectNoSuchCall(Of(__NR_read, AUDIT_ARCH_I386));
  ExpectNoSuchCall(Of(kX32 | __NR_io_uring_setup));
  ExpectNoSuchCall(Of(kX32 | 543));  // Its io_setup.
}

}  // namespace
}  // namespace holdfast::sandbox

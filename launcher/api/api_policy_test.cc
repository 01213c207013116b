// What the api's policy refuses, whatever gRPC needs.

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <set>
#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gtest/gtest.h"
#include "sandbox/compile.h"
#include "sandbox/policy.h"
#include "sandbox/policy_file_sys.h"
#include "sandbox/prove.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

class ApiPolicy : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<Policy> policy = LoadPolicy("launcher/api/api.policy", {});
    ASSERT_OK(policy);
    policy_ = *std::move(policy);
  }

  Action Steady(const char* call, std::array<uint64_t, 6> arguments = {}) {
    SyscallRecord record;
    record.arch = kNativeArch;
    record.number = SyscallNumber(call).value_or(~0u);
    record.arguments = arguments;
    return Decide(policy_.SteadyRules(), record).action;
  }

  Policy policy_;
};

TEST_F(ApiPolicy, FiltersMeanWhatThePolicySays) {
  for (const auto& rules : {policy_.StartupRules(), policy_.SteadyRules()}) {
    const auto filter = Compile(rules);
    ASSERT_OK(filter);
    EXPECT_OK(ProveFilter(rules, *filter, ProofRecords(rules)));
  }
}

TEST_F(ApiPolicy, SteadyStateMakesNoProcessAndNoWayOut) {
  for (const char* call : {"execve",
                           "execveat",
                           "fork",
                           "vfork",
                           "socket",
                           "socketpair",
                           "connect",
                           "bind",
                           "listen",
                           "kill",
                           "tkill",
                           "tgkill",
                           "ptrace",
                           "process_vm_readv",
                           "process_vm_writev",
                           "pidfd_open",
                           "pidfd_getfd",
                           "pidfd_send_signal",
                           "unshare",
                           "setns",
                           "mount",
                           "chroot",
                           "pivot_root",
                           "setuid",
                           "setgid",
                           "capset",
                           "seccomp",
                           "bpf",
                           "io_uring_setup",
                           "userfaultfd",
                           "perf_event_open",
                           "keyctl",
                           "memfd_create",
                           "open",
                           "unlink",
                           "rename",
                           "ftruncate",
                           "fallocate",
                           "init_module",
                           "reboot",
                           "shmget",
                           "prlimit64"}) {
    EXPECT_EQ(Steady(call), Action::kKill) << call;
  }
}

TEST_F(ApiPolicy, SteadyStateSeesNoFile) {
  EXPECT_EQ(Steady("openat"), Action::kFail);
  EXPECT_EQ(Steady("newfstatat"), Action::kKill);
  EXPECT_EQ(Steady("newfstatat", {3, 0, 0, AT_EMPTY_PATH}), Action::kAllow);
}

TEST_F(ApiPolicy, SteadyStateMakesThreadsButNoProcesses) {
  EXPECT_EQ(Steady("clone", {CLONE_VM | CLONE_THREAD | CLONE_SIGHAND}),
            Action::kAllow);
  EXPECT_EQ(Steady("clone", {CLONE_VM}), Action::kKill);
  EXPECT_EQ(Steady("clone", {CLONE_THREAD | CLONE_NEWUSER}), Action::kKill);
  EXPECT_EQ(Steady("clone3"), Action::kFail);
}

TEST_F(ApiPolicy, SteadyStateMakesNoCode) {
  EXPECT_EQ(Steady("mmap", {0, 4096, PROT_READ | PROT_WRITE}), Action::kAllow);
  EXPECT_EQ(Steady("mmap", {0, 4096, PROT_READ | PROT_EXEC}), Action::kKill);
  EXPECT_EQ(Steady("mprotect", {0, 4096, PROT_EXEC}), Action::kKill);
  EXPECT_EQ(Steady("pkey_mprotect"), Action::kKill);
}

TEST_F(ApiPolicy, SteadyStateSetsOptionsOfTheSocketOnly) {
  EXPECT_EQ(Steady("setsockopt", {3, SOL_SOCKET}), Action::kAllow);
  EXPECT_EQ(Steady("setsockopt", {3, 6 /* IPPROTO_TCP */}), Action::kFail);
}

TEST_F(ApiPolicy, StaysSmallAndGivesReasons) {
  std::set<std::string> calls;
  for (const Rule& rule : policy_.SteadyRules()) {
    calls.insert(rule.syscall);
    EXPECT_NE(rule.reason, "") << rule.syscall;
  }
  EXPECT_LE(calls.size(), 50u);
  EXPECT_EQ(RedundantParts(policy_.SteadyRules()), std::vector<std::string>());
}

}  // namespace
}  // namespace holdfast::sandbox

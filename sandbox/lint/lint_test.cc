#include "sandbox/lint/lint.h"

#include <string>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

LintResult Lint(const std::string& text, size_t max_steady = 16) {
  const absl::StatusOr<Policy> policy =
      ParsePolicy("p", [&](absl::string_view name) -> std::string {
        return name == "p" ? text : "# nothing\n";
      });
  EXPECT_OK(policy);
  return policy.ok() ? LintPolicy(*policy, max_steady) : LintResult();
}

TEST(Lint, PassesASmallPolicyAndCountsIt) {
  const LintResult result = Lint(
      "startup:\nopenat # file\nsteady:\nread # kick\n"
      "mmap: arg2 & PROT_EXEC == 0 # table\nclone3 -> ENOSYS # libc\n");
  EXPECT_THAT(result.findings, IsEmpty());
  EXPECT_EQ(result.startup_calls, 3u);
  EXPECT_EQ(result.steady_calls, 2u);
  EXPECT_EQ(result.limited_calls, 1u);
  EXPECT_GT(result.startup_instructions, result.steady_instructions);
}

TEST(Lint, ObjectsToPathsProcessesAndSocketsInSteadyStateOnly) {
  for (const std::string call :
       {"openat", "execve", "clone3", "socket", "ioctl", "mprotect", "kill",
        "memfd_create", "prctl"}) {
    SCOPED_TRACE(call);
    const std::string limit =
        call == "mprotect" ? ": arg2 & PROT_EXEC == 0" : "";
    EXPECT_THAT(Lint("startup:\n" + call + limit + " # r\n").findings,
                IsEmpty());
    EXPECT_THAT(Lint("steady:\n" + call + limit + " # r\n").findings,
                ElementsAre(HasSubstr("not in steady state")));
  }
}

TEST(Lint, ALimitMakesADoorNarrowEnough) {
  EXPECT_THAT(Lint("steady:\nsetsockopt # r\n").findings,
              ElementsAre(HasSubstr("a door to many others")));
  EXPECT_THAT(Lint("steady:\nsetsockopt: arg2 == SO_PEEK_OFF # r\n").findings,
              IsEmpty());
  EXPECT_THAT(Lint("steady:\nopenat: arg0 == 3 # r\n").findings,
              ElementsAre(HasSubstr("takes a path")))
      << "no limit helps against a path";
}

TEST(Lint, ObjectsToDangerousCallsEverywhere) {
  for (const std::string call : {"mount", "bpf", "ptrace", "io_uring_setup",
                                 "userfaultfd", "setns", "keyctl"}) {
    SCOPED_TRACE(call);
    EXPECT_THAT(Lint("startup:\n" + call + " # r\n").findings,
                ElementsAre(HasSubstr("p:2: '" + call + "'")));
    EXPECT_THAT(Lint("startup:\n" + call + " -> ENOSYS # r\n").findings,
                IsEmpty())
        << "refusing is no danger";
  }
}

TEST(Lint, ObjectsToExecutableMemory) {
  const auto code = HasSubstr("may make code");
  EXPECT_THAT(Lint("steady:\nmmap # r\n").findings, Contains(code));
  EXPECT_THAT(Lint("startup:\nmprotect # r\n").findings, Contains(code));
  EXPECT_THAT(Lint("steady:\nmmap: arg2 == 7 # r\n").findings, Contains(code));
  EXPECT_THAT(Lint("steady:\nmmap: arg2 & PROT_EXEC != 0 # r\n").findings,
              Contains(code));
  EXPECT_THAT(Lint("steady:\nmmap: arg2 in {1, 3} # r\n").findings, IsEmpty());
}

TEST(Lint, FindsWhatHasNoEffect) {
  EXPECT_THAT(Lint("@include q # r\nsteady:\nread # r\n").findings,
              ElementsAre("p:1: include 'q' brings no rule"));
  EXPECT_THAT(Lint("startup:\nread # r\nsteady:\nread # r\n").findings,
              ElementsAre("p:2: 'read' is allowed in steady state at line 4"));
  EXPECT_THAT(
      Lint("steady:\nfcntl: arg1 == 1 # r\nfcntl: arg1 == 1 # r\n").findings,
      Contains("p:3: 'fcntl' changes nothing"));
}

TEST(Lint, ADeviceMayKeepWhatAFragmentHasForTheStart) {
  const absl::StatusOr<Policy> policy =
      ParsePolicy("p", [&](absl::string_view name) -> std::string {
        return name == "p" ? "@include q # r\nsteady:\ngetrandom # r\n"
                           : "startup:\ngetrandom # r\n";
      });
  ASSERT_OK(policy);
  EXPECT_THAT(LintPolicy(*policy, 16).findings, IsEmpty());
}

TEST(Lint, CountsAgainstTheLimit) {
  EXPECT_THAT(Lint("steady:\nread # r\nwrite # r\n", 1).findings,
              ElementsAre("steady state allows 2 calls, more than 1"));
}

// A misspelt name in a class would protect nothing.
TEST(Lint, EveryNameOfTheClassesIsASystemCall) {
  size_t objections = 0;
  for (uint32_t number = 0; number < 512; ++number) {
    const absl::string_view name = SyscallName(number);
    if (name.empty()) continue;
    objections += !SteadyObjection(name).empty();
    objections += !StartupObjection(name).empty();
  }
  EXPECT_EQ(objections, ObjectionCount());
}

}  // namespace
}  // namespace holdfast::sandbox

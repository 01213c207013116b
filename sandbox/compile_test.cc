#include "sandbox/compile.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/bpf_eval.h"
#include "sandbox/prove.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<Rule> Rules(const std::string& lines) {
  const absl::StatusOr<Policy> policy =
      ParsePolicy("p", [&](absl::string_view) { return "steady:\n" + lines; });
  EXPECT_OK(policy);
  return policy.ok() ? policy->steady : std::vector<Rule>();
}

class EveryRule : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryRule, IsCompiledToWhatItMeans) {
  const std::vector<Rule> rules = Rules(GetParam());
  const absl::StatusOr<std::vector<sock_filter>> program = Compile(rules);
  ASSERT_OK(program);
  EXPECT_OK(CheckFilter(*program));
  EXPECT_OK(ProveFilter(rules, *program, ProofRecords(rules)));
}

INSTANTIATE_TEST_SUITE_P(
    All, EveryRule,
    ::testing::Values(
        "", "read # r", "read # r\nwrite # r\nclose # r",
        "clone3 -> ENOSYS # r", "prctl: arg0 == 4 # r", "prctl: arg0 != 4 # r",
        "prctl: arg0 in {1, 4, 0x100000000, 0xffffffffffffffff} # r",
        "mmap: arg2 & 4 == 0 # r", "mmap: arg2 & 4 != 0 # r",
        "mmap: arg2 & 0x8000000000000001 == 1 && arg3 & 1 == 1 # r",
        "mmap: arg5 & 0xffffffff == 0xffffffff # r",
        "fcntl: arg1 == 1 && arg2 != 7 && arg3 in {1, 2} # r",
        "fcntl: arg1 == 1 # r\nfcntl: arg1 == 2 -> EPERM # r\nfcntl # r",
        "fcntl: arg1 == 1 && arg1 == 2 # r",  // Never.
        "fcntl: arg0 == 3 # r\nread # r\nfcntl: arg0 == 9 # r\nwrite # r"));

TEST(Compile, BlocksLongerThanAShortJumpStillWork) {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    absl::StrAppend(&lines, "prctl: arg0 == ", 3 * i,
                    " && arg1 in {1, 2} # r\n");
  }
  absl::StrAppend(&lines, "fcntl: arg1 == 4 # r\n");
  const std::vector<Rule> rules = Rules(lines);
  const absl::StatusOr<std::vector<sock_filter>> program = Compile(rules);
  ASSERT_OK(program);
  EXPECT_GT(program->size(), 512u) << "or the test proves nothing";
  EXPECT_OK(ProveFilter(rules, *program, ProofRecords(rules)));
}

TEST(Compile, RefusesWhatTheKernelWouldRefuse) {
  std::string lines;
  for (int i = 0; i < 500; ++i) {
    absl::StrAppend(&lines, "prctl: arg0 == ", i, " && arg1 in {1, 2} # r\n");
  }
  EXPECT_THAT(Compile(Rules(lines)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("instructions")));
}

TEST(Compile, UncheckedCallsComeFirst) {
  const absl::StatusOr<std::vector<sock_filter>> program =
      Compile(Rules("prctl: arg0 == 4 # r\nread # r"));
  ASSERT_OK(program);
  EXPECT_EQ((*program)[4].k, 0u) << "read, though its line is the second";
}

// Makes another instruction of it; false when there is none to make: a jump to
// the next instruction.
bool Corrupt(sock_filter& instruction) {
  if (BPF_CLASS(instruction.code) == BPF_RET) {
    instruction.k = VerdictOf(instruction.k).action == Action::kKill
                        ? 0x7fff0000   // SECCOMP_RET_ALLOW
                        : 0x80000000;  // SECCOMP_RET_KILL_PROCESS
  } else if (instruction.code == (BPF_JMP | BPF_JA)) {
    if (instruction.k == 0) return false;
    instruction.k = 0;
  } else if (BPF_CLASS(instruction.code) == BPF_LD) {
    instruction.k ^= 4;
  } else {
    instruction.k ^= 1;
  }
  return true;
}

// The proof is worth something only if it fails when it should.
TEST(Proof, NoticesAFlippedInstruction) {
  const std::vector<Rule> rules = Rules(
      "read # r\nclone3 -> ENOSYS # r\n"
      "mmap: arg2 & 4 == 0 && arg3 in {1, 0x100000002} # r");
  const absl::StatusOr<std::vector<sock_filter>> program = Compile(rules);
  ASSERT_OK(program);
  const std::vector<SyscallRecord> records = ProofRecords(rules);
  for (size_t i = 0; i < program->size(); ++i) {
    std::vector<sock_filter> mutant = *program;
    if (!Corrupt(mutant[i])) continue;
    EXPECT_FALSE(ProveFilter(rules, mutant, records).ok())
        << "instruction " << i;
  }
}

TEST(Mutation, FindsRulesAndLimitsThatChangeNothing) {
  EXPECT_THAT(RedundantParts(Rules("read # r\nprctl: arg0 == 4 # r\n")),
              IsEmpty());
  EXPECT_THAT(RedundantParts(
                  Rules("fcntl: arg1 == 1 # r\nfcntl: arg1 in {1, 2} # r\n")),
              ElementsAre("p:2: 'fcntl' changes nothing"));
  EXPECT_THAT(
      RedundantParts(Rules("mmap: arg2 & 6 == 0 && arg2 & 4 == 0 # r\n")),
      ElementsAre("p:2: limit 2 of 'mmap' changes nothing"));
}

}  // namespace
}  // namespace holdfast::sandbox

#include "sandbox/bpf_eval.h"

#include <linux/seccomp.h>

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::IsOkAndHolds;
using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using Program = std::vector<sock_filter>;

constexpr SyscallRecord kRecord = {
    7, 0xc000003e, {0x1111222233334444, 2, 3, 4, 5, 0xaaaabbbbccccdddd}};

sock_filter Do(int code, uint32_t k = 0) {
  return BPF_STMT(static_cast<uint16_t>(code), k);
}
const sock_filter kReturnA = BPF_STMT(BPF_RET | BPF_A, 0);

// Value of the accumulator after `steps`.
absl::StatusOr<uint32_t> After(Program steps) {
  steps.push_back(kReturnA);
  return RunFilter(steps, kRecord);
}

TEST(BpfLoad, SeesEveryWordOfTheRecord) {
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_ABS, 0)}), IsOkAndHolds(7u));
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_ABS, 4)}),
              IsOkAndHolds(0xc000003eu));
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_ABS, 8)}), IsOkAndHolds(0u));
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_ABS, 16)}),
              IsOkAndHolds(0x33334444u));
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_ABS, 20)}),
              IsOkAndHolds(0x11112222u));
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_ABS, 60)}),
              IsOkAndHolds(0xaaaabbbbu));
  EXPECT_THAT(After({Do(BPF_LD | BPF_W | BPF_LEN)}), IsOkAndHolds(64u));
}

struct Operation {
  int code;
  uint32_t a;
  uint32_t operand;
  uint32_t result;
};

class BpfAlu : public ::testing::TestWithParam<Operation> {};

TEST_P(BpfAlu, ComputesWithConstantAndRegister) {
  const Operation& op = GetParam();
  EXPECT_THAT(After({Do(BPF_LD | BPF_IMM, op.a),
                     Do(BPF_ALU | op.code | BPF_K, op.operand)}),
              IsOkAndHolds(op.result));
  EXPECT_THAT(
      After({Do(BPF_LDX | BPF_IMM, op.operand), Do(BPF_LD | BPF_IMM, op.a),
             Do(BPF_ALU | op.code | BPF_X)}),
      IsOkAndHolds(op.result));
}

INSTANTIATE_TEST_SUITE_P(
    All, BpfAlu,
    ::testing::Values(Operation{BPF_ADD, 0xffffffff, 2, 1},
                      Operation{BPF_SUB, 1, 2, 0xffffffff},
                      Operation{BPF_MUL, 0x10000, 0x10000, 0},
                      Operation{BPF_DIV, 7, 2, 3},
                      Operation{BPF_AND, 0xff, 0x0f, 0x0f},
                      Operation{BPF_OR, 0xf0, 0x0f, 0xff},
                      Operation{BPF_XOR, 0xff, 0x0f, 0xf0},
                      Operation{BPF_LSH, 1, 31, 0x80000000},
                      Operation{BPF_RSH, 0x80000000, 31, 1}));

TEST(BpfAlu, RegisterOperandsThatAreOutOfRange) {
  // Both as in the kernel: a division by zero kills, a shift counts modulo 32.
  EXPECT_THAT(After({Do(BPF_LDX | BPF_IMM, 0), Do(BPF_LD | BPF_IMM, 1),
                     Do(BPF_ALU | BPF_DIV | BPF_X)}),
              IsOkAndHolds(uint32_t{SECCOMP_RET_KILL_THREAD}));
  EXPECT_THAT(After({Do(BPF_LDX | BPF_IMM, 33), Do(BPF_LD | BPF_IMM, 1),
                     Do(BPF_ALU | BPF_LSH | BPF_X)}),
              IsOkAndHolds(2u));
  EXPECT_THAT(After({Do(BPF_LD | BPF_IMM, 1), Do(BPF_ALU | BPF_NEG)}),
              IsOkAndHolds(0xffffffffu));
}

TEST(BpfMemory, StoresAndMovesBetweenRegisters) {
  EXPECT_THAT(After({Do(BPF_LD | BPF_IMM, 5), Do(BPF_ST, 15),
                     Do(BPF_LD | BPF_IMM, 0), Do(BPF_LD | BPF_MEM, 15)}),
              IsOkAndHolds(5u));
  EXPECT_THAT(
      After({Do(BPF_LDX | BPF_IMM, 6), Do(BPF_STX, 0), Do(BPF_LDX | BPF_IMM, 0),
             Do(BPF_LDX | BPF_MEM, 0), Do(BPF_MISC | BPF_TXA)}),
      IsOkAndHolds(6u));
  EXPECT_THAT(After({Do(BPF_LD | BPF_IMM, 9), Do(BPF_MISC | BPF_TAX),
                     Do(BPF_LD | BPF_IMM, 0), Do(BPF_MISC | BPF_TXA)}),
              IsOkAndHolds(9u));
  EXPECT_THAT(After({Do(BPF_LDX | BPF_W | BPF_LEN), Do(BPF_MISC | BPF_TXA)}),
              IsOkAndHolds(64u));
}

struct Jump {
  int code;
  uint32_t a;
  uint32_t operand;
  bool taken;
};

class BpfJump : public ::testing::TestWithParam<Jump> {};

TEST_P(BpfJump, GoesTheRightWay) {
  const Jump& jump = GetParam();
  const Program program = {
      Do(BPF_LD | BPF_IMM, jump.a),
      BPF_JUMP(static_cast<uint16_t>(BPF_JMP | jump.code | BPF_K), jump.operand,
               0, 1),
      Do(BPF_RET | BPF_K, 1), Do(BPF_RET | BPF_K, 0)};
  EXPECT_THAT(RunFilter(program, kRecord), IsOkAndHolds(jump.taken ? 1u : 0u));
}

INSTANTIATE_TEST_SUITE_P(
    All, BpfJump,
    ::testing::Values(Jump{BPF_JEQ, 3, 3, true}, Jump{BPF_JEQ, 3, 4, false},
                      Jump{BPF_JGT, 4, 3, true}, Jump{BPF_JGT, 3, 3, false},
                      Jump{BPF_JGT, 0x80000000, 1, true},
                      Jump{BPF_JGE, 3, 3, true}, Jump{BPF_JGE, 2, 3, false},
                      Jump{BPF_JSET, 6, 2, true}, Jump{BPF_JSET, 5, 2, false}));

struct BadProgram {
  Program program;
  const char* message;
};

class BpfCheck : public ::testing::TestWithParam<BadProgram> {};

TEST_P(BpfCheck, RefusesWhatTheKernelRefuses) {
  EXPECT_THAT(CheckFilter(GetParam().program),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr(GetParam().message)));
  EXPECT_FALSE(RunFilter(GetParam().program, kRecord).ok());
}

const sock_filter kReturn = BPF_STMT(BPF_RET | BPF_K, 0);

INSTANTIATE_TEST_SUITE_P(
    All, BpfCheck,
    ::testing::Values(
        BadProgram{{}, "0 instructions"},
        BadProgram{Program(4097, kReturn), "4097 instructions"},
        BadProgram{{Do(BPF_LD | BPF_IMM)}, "does not return"},
        BadProgram{{Do(BPF_LD | BPF_W | BPF_ABS, 64), kReturn}, "load outside"},
        BadProgram{{Do(BPF_LD | BPF_W | BPF_ABS, 2), kReturn}, "load outside"},
        BadProgram{{Do(BPF_LD | BPF_H | BPF_ABS, 0), kReturn}, "not one"},
        BadProgram{{Do(BPF_LD | BPF_W | BPF_IND, 0), kReturn}, "not one"},
        BadProgram{{Do(BPF_ALU | BPF_MOD | BPF_K, 1), kReturn}, "not one"},
        BadProgram{{Do(BPF_ALU | BPF_DIV | BPF_K, 0), kReturn}, "by zero"},
        BadProgram{{Do(BPF_ALU | BPF_LSH | BPF_K, 32), kReturn}, "shift"},
        BadProgram{{Do(BPF_ST, 16), kReturn}, "no such scratch"},
        BadProgram{{Do(BPF_LD | BPF_MEM, 0), kReturn}, "not stored"},
        BadProgram{{Do(BPF_JMP | BPF_JA, 1), kReturn}, "beyond the end"},
        BadProgram{{Do(BPF_JMP | BPF_JA, 0xffffffff), kReturn}, "beyond"},
        BadProgram{{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), kReturn},
                   "beyond the end"},
        BadProgram{{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), Do(BPF_ST, 0),
                    Do(BPF_LD | BPF_MEM, 0), kReturn},
                   "not stored"}));

TEST(BpfVerdict, OnlyAllowAndLogAllow) {
  EXPECT_EQ(VerdictOf(SECCOMP_RET_ALLOW), (Verdict{Action::kAllow, 0}));
  EXPECT_EQ(VerdictOf(SECCOMP_RET_LOG), (Verdict{Action::kAllow, 0}));
  EXPECT_EQ(VerdictOf(SECCOMP_RET_ERRNO | 38), (Verdict{Action::kFail, 38}));
  for (const uint32_t value :
       {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
        SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE, 0x12340000u}) {
    EXPECT_EQ(VerdictOf(value), (Verdict{Action::kKill, 0})) << value;
  }
}

}  // namespace
}  // namespace holdfast::sandbox

#include "sandbox/bpf_eval.h"

#include <linux/seccomp.h>

#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::sandbox {
namespace {

constexpr size_t kMaxInstructions = 4096;  // BPF_MAXINSNS
constexpr uint32_t kAllScratch = (1u << BPF_MEMWORDS) - 1;

absl::Status Bad(size_t at, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("BPF instruction ", at, ": ", what));
}

bool IsJump(const sock_filter& instruction) {
  return BPF_CLASS(instruction.code) == BPF_JMP;
}

// The word of struct seccomp_data at `offset`, which CheckFilter has checked.
uint32_t DataWord(const SyscallRecord& record, uint32_t offset) {
  if (offset == offsetof(seccomp_data, nr)) return record.number;
  if (offset == offsetof(seccomp_data, arch)) return record.arch;
  if (offset < offsetof(seccomp_data, args)) return 0;  // instruction_pointer
  const uint32_t index = (offset - offsetof(seccomp_data, args)) / 8;
  const uint64_t argument = record.arguments[index % 6];
  return static_cast<uint32_t>(offset % 8 == 0 ? argument : argument >> 32);
}

absl::Status CheckOne(const sock_filter& i, size_t at, size_t size) {
  const size_t left = size - at - 1;  // Instructions after this one.
  switch (i.code) {
    case BPF_LD | BPF_W | BPF_ABS:
      if (i.k % 4 != 0 || i.k >= sizeof(seccomp_data)) {
        return Bad(at, "load outside struct seccomp_data");
      }
      return absl::OkStatus();
    case BPF_ST:
    case BPF_STX:
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
      if (i.k >= BPF_MEMWORDS) return Bad(at, "no such scratch word");
      return absl::OkStatus();
    case BPF_ALU | BPF_DIV | BPF_K:
      if (i.k == 0) return Bad(at, "division by zero");
      return absl::OkStatus();
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_K:
      if (i.k >= 32) return Bad(at, "shift by more than 31");
      return absl::OkStatus();
    case BPF_JMP | BPF_JA:
      if (i.k >= left) return Bad(at, "jump beyond the end");
      return absl::OkStatus();
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_X:
      if (i.jt >= left || i.jf >= left) return Bad(at, "jump beyond the end");
      return absl::OkStatus();
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_ALU | BPF_ADD | BPF_K:
    case BPF_ALU | BPF_ADD | BPF_X:
    case BPF_ALU | BPF_SUB | BPF_K:
    case BPF_ALU | BPF_SUB | BPF_X:
    case BPF_ALU | BPF_MUL | BPF_K:
    case BPF_ALU | BPF_MUL | BPF_X:
    case BPF_ALU | BPF_DIV | BPF_X:
    case BPF_ALU | BPF_AND | BPF_K:
    case BPF_ALU | BPF_AND | BPF_X:
    case BPF_ALU | BPF_OR | BPF_K:
    case BPF_ALU | BPF_OR | BPF_X:
    case BPF_ALU | BPF_XOR | BPF_K:
    case BPF_ALU | BPF_XOR | BPF_X:
    case BPF_ALU | BPF_LSH | BPF_X:
    case BPF_ALU | BPF_RSH | BPF_X:
    case BPF_ALU | BPF_NEG:
      return absl::OkStatus();
    default:
      return Bad(at, "not one that a seccomp filter may have");
  }
}

// Scratch words must be stored on every way to a load (check_load_and_stores).
absl::Status CheckScratch(absl::Span<const sock_filter> program) {
  std::vector<uint32_t> valid_at(program.size(), kAllScratch);
  uint32_t valid = 0;
  for (size_t at = 0; at < program.size(); ++at) {
    const sock_filter& i = program[at];
    valid &= valid_at[at];
    if (i.code == BPF_ST || i.code == BPF_STX) {
      valid |= 1u << i.k;
    } else if (i.code == (BPF_LD | BPF_MEM) || i.code == (BPF_LDX | BPF_MEM)) {
      if ((valid & (1u << i.k)) == 0) return Bad(at, "scratch word not stored");
    } else if (i.code == (BPF_JMP | BPF_JA)) {
      valid_at[at + 1 + i.k] &= valid;
      valid = kAllScratch;
    } else if (IsJump(i)) {
      valid_at[at + 1 + i.jt] &= valid;
      valid_at[at + 1 + i.jf] &= valid;
      valid = kAllScratch;
    }
  }
  return absl::OkStatus();
}

struct Machine {
  uint32_t a = 0;
  uint32_t x = 0;
  uint32_t scratch[BPF_MEMWORDS] = {};
};

// Division by a register that is zero ends the program with 0, which kills;
// so does the kernel.
bool Compute(Machine& m, const sock_filter& i) {
  const uint32_t operand = BPF_SRC(i.code) == BPF_X ? m.x : i.k;
  switch (BPF_OP(i.code)) {
    case BPF_ADD:
      m.a += operand;
      break;
    case BPF_SUB:
      m.a -= operand;
      break;
    case BPF_MUL:
      m.a *= operand;
      break;
    case BPF_AND:
      m.a &= operand;
      break;
    case BPF_OR:
      m.a |= operand;
      break;
    case BPF_XOR:
      m.a ^= operand;
      break;
    case BPF_LSH:
      m.a <<= operand & 31;
      break;
    case BPF_RSH:
      m.a >>= operand & 31;
      break;
    case BPF_NEG:
      m.a = 0 - m.a;
      break;
    default:
      if (operand == 0) return false;
      m.a /= operand;
  }
  return true;
}

bool JumpTaken(const Machine& m, const sock_filter& i) {
  const uint32_t operand = BPF_SRC(i.code) == BPF_X ? m.x : i.k;
  switch (BPF_OP(i.code)) {
    case BPF_JEQ:
      return m.a == operand;
    case BPF_JGT:
      return m.a > operand;
    case BPF_JGE:
      return m.a >= operand;
    default:
      return (m.a & operand) != 0;
  }
}

void Move(Machine& m, const sock_filter& i, const SyscallRecord& record) {
  switch (i.code) {
    case BPF_LD | BPF_W | BPF_ABS:
      m.a = DataWord(record, i.k);
      break;
    case BPF_LD | BPF_W | BPF_LEN:
      m.a = sizeof(seccomp_data);
      break;
    case BPF_LDX | BPF_W | BPF_LEN:
      m.x = sizeof(seccomp_data);
      break;
    case BPF_LD | BPF_IMM:
      m.a = i.k;
      break;
    case BPF_LDX | BPF_IMM:
      m.x = i.k;
      break;
    case BPF_LD | BPF_MEM:
      m.a = m.scratch[i.k];
      break;
    case BPF_LDX | BPF_MEM:
      m.x = m.scratch[i.k];
      break;
    case BPF_ST:
      m.scratch[i.k] = m.a;
      break;
    case BPF_STX:
      m.scratch[i.k] = m.x;
      break;
    case BPF_MISC | BPF_TAX:
      m.x = m.a;
      break;
    default:
      m.a = m.x;
      break;  // BPF_TXA
  }
}

}  // namespace

absl::Status CheckFilter(absl::Span<const sock_filter> program) {
  if (program.empty() || program.size() > kMaxInstructions) {
    return absl::InvalidArgumentError(
        absl::StrCat("a filter of ", program.size(), " instructions"));
  }
  for (size_t at = 0; at < program.size(); ++at) {
    RETURN_IF_ERROR(CheckOne(program[at], at, program.size()));
  }
  if (BPF_CLASS(program.back().code) != BPF_RET) {
    return Bad(program.size() - 1, "the last one does not return");
  }
  return CheckScratch(program);
}

absl::StatusOr<CheckedFilter> CheckedFilter::Create(
    absl::Span<const sock_filter> program) {
  RETURN_IF_ERROR(CheckFilter(program));
  return CheckedFilter(program);
}

uint32_t CheckedFilter::Run(const SyscallRecord& record) const {
  Machine m;
  // Jumps go forward only, so this ends.
  for (size_t at = 0; at < program_.size(); ++at) {
    const sock_filter& i = program_[at];
    switch (BPF_CLASS(i.code)) {
      case BPF_RET:
        return BPF_RVAL(i.code) == BPF_A ? m.a : i.k;
      case BPF_JMP:
        at += BPF_OP(i.code) == BPF_JA ? i.k : JumpTaken(m, i) ? i.jt : i.jf;
        break;
      case BPF_ALU:
        if (!Compute(m, i)) return SECCOMP_RET_KILL_THREAD;
        break;
      default:
        Move(m, i, record);
    }
  }
  return SECCOMP_RET_KILL_PROCESS;  // Never: the last one returns.
}

absl::StatusOr<uint32_t> RunFilter(absl::Span<const sock_filter> program,
                                   const SyscallRecord& record) {
  ASSIGN_OR_RETURN(const CheckedFilter filter, CheckedFilter::Create(program));
  return filter.Run(record);
}

Verdict VerdictOf(uint32_t return_value) {
  const uint32_t action = return_value & SECCOMP_RET_ACTION_FULL;
  const uint32_t data = return_value & SECCOMP_RET_DATA;
  if (action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG) {
    return {Action::kAllow, 0};
  }
  if (action == SECCOMP_RET_ERRNO) return {Action::kFail, data};
  return {Action::kKill, 0};
}

}  // namespace holdfast::sandbox

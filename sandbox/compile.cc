#include "sandbox/compile.h"

#include <linux/seccomp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

using Program = std::vector<sock_filter>;

constexpr size_t kMaxInstructions = 4096;  // BPF_MAXINSNS
constexpr uint32_t kNumberOffset = offsetof(seccomp_data, nr);
constexpr uint32_t kArchOffset = offsetof(seccomp_data, arch);

void Load(Program& program, uint32_t offset) {
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

void Return(Program& program, uint32_t value) {
  program.push_back(BPF_STMT(BPF_RET | BPF_K, value));
}

void Append(Program& program, const Program& tail) {
  program.insert(program.end(), tail.begin(), tail.end());
}

// Goes on with the next instruction when the accumulator is `value`, else
// `distance` instructions after it. The conditional jump reaches 255, an
// unconditional one everything.
void UnlessEqualSkip(Program& program, uint32_t value, size_t distance) {
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0));
  program.push_back(
      BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(distance)));
}

void LoadHalf(Program& program, const Term& term, bool high) {
  const uint32_t offset = static_cast<uint32_t>(
      offsetof(seccomp_data, args) + 8 * term.argument + (high ? 4 : 0));
  Load(program, offset);
  const auto mask = static_cast<uint32_t>(high ? term.mask >> 32 : term.mask);
  if (mask != UINT32_MAX) {
    program.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
  }
}

// Falls through when the masked argument is `value`, else goes on `miss`
// instructions after the code that is returned. A half that the mask does not
// look at needs no code: the parser lets no value have bits there.
Program Comparison(const Term& term, uint64_t value, size_t miss) {
  Program low;
  if (static_cast<uint32_t>(term.mask) != 0) {
    LoadHalf(low, term, /*high=*/false);
    UnlessEqualSkip(low, static_cast<uint32_t>(value), miss);
  }
  if (term.mask >> 32 == 0) return low;
  Program code;
  LoadHalf(code, term, /*high=*/true);
  UnlessEqualSkip(code, static_cast<uint32_t>(value >> 32), low.size() + miss);
  Append(code, low);
  return code;
}

// Falls through when `term` holds, else goes on `fail` instructions after the
// code that is returned. Built from its end.
Program TermCode(const Term& term, size_t fail) {
  Program code;  // What is reached when no value matched.
  if (!term.negated) {
    code.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(fail)));
  }
  for (auto value = term.values.rbegin(); value != term.values.rend();
       ++value) {
    // After a match: to the end of the code, and on from there.
    Program with_match = {BPF_STMT(
        BPF_JMP | BPF_JA,
        static_cast<uint32_t>(code.size() + (term.negated ? fail : 0)))};
    Program whole = Comparison(term, *value, with_match.size());
    Append(whole, with_match);
    Append(whole, code);
    code = std::move(whole);
  }
  return code;
}

uint32_t ReturnValue(const Rule& rule) {
  return rule.error == 0 ? SECCOMP_RET_ALLOW
                         : SECCOMP_RET_ERRNO | (rule.error & 0xffff);
}

// One alternative: returns its verdict when all terms hold, else falls
// through to what follows.
Program Alternative(const Rule& rule) {
  Program code;
  Return(code, ReturnValue(rule));
  for (auto term = rule.terms.rbegin(); term != rule.terms.rend(); ++term) {
    Program whole = TermCode(*term, code.size());
    Append(whole, code);
    code = std::move(whole);
  }
  return code;
}

bool HasTerms(const std::vector<const Rule*>& alternatives) {
  return !alternatives.front()->terms.empty();
}

// The accumulator is the number of the call on entry and, when the block is
// passed by, on exit.
Program Block(const std::vector<const Rule*>& alternatives) {
  Program body;
  for (const Rule* rule : alternatives) Append(body, Alternative(*rule));
  if (HasTerms(alternatives)) Return(body, SECCOMP_RET_KILL_PROCESS);
  Program code;
  if (body.size() == 1) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                            alternatives.front()->number, 0, 1));
  } else {
    UnlessEqualSkip(code, alternatives.front()->number, body.size());
  }
  Append(code, body);
  return code;
}

// Rules by system call, in the order of first appearance; what follows an
// unconditional rule can never be reached and is left out.
std::vector<std::vector<const Rule*>> BySyscall(
    const std::vector<Rule>& rules) {
  std::vector<std::vector<const Rule*>> groups;
  for (const Rule& rule : rules) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
      return g.front()->number == rule.number;
    });
    if (group == groups.end()) {
      groups.push_back({&rule});
    } else if (!group->back()->terms.empty()) {
      group->push_back(&rule);
    }
  }
  std::stable_partition(groups.begin(), groups.end(),
                        [](const auto& group) { return !HasTerms(group); });
  return groups;
}

}  // namespace

absl::StatusOr<std::vector<sock_filter>> Compile(
    const std::vector<Rule>& rules) {
  Program program;
  Load(program, kArchOffset);
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kNativeArch, 1, 0));
  Return(program, SECCOMP_RET_KILL_PROCESS);
  // x32 numbers need no check of their own: no rule has one.
  Load(program, kNumberOffset);
  for (const auto& group : BySyscall(rules)) Append(program, Block(group));
  Return(program, SECCOMP_RET_KILL_PROCESS);
  if (program.size() > kMaxInstructions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the filter has ", program.size(), " instructions, the ",
                     "kernel takes ", kMaxInstructions));
  }
  return program;
}

}  // namespace holdfast::sandbox

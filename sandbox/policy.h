#ifndef HOLDFAST_SANDBOX_POLICY_H_
#define HOLDFAST_SANDBOX_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// A policy is data: which system calls a device may make, and why.
//
//   # A comment.
//   @include common.policy         # every device starts the same way
//   startup:
//   fstat                          # the C library looks at its streams
//   clone3 -> ENOSYS               # the C library falls back to clone
//   steady:
//   mmap: arg2 & PROT_EXEC == 0 && arg3 & MAP_SHARED == MAP_SHARED  # tables
//   fcntl: arg1 in {F_GETFL, F_SETFL}  # the VMM's descriptors
//
// Every line says its reason after '#'. Several lines of one system call are
// alternatives, tried in order. Arguments are compared with all 64 bits; a
// limit on an int says so with a mask. What no line allows kills the process.
// `steady` is in force once the device has tightened itself; `startup`, from
// exec on, is added to it, because the kernel takes what all filters allow.

namespace holdfast::sandbox {

// Limits of the format; beyond, a policy is refused. Far above any policy that
// a person would review.
inline constexpr size_t kMaxPolicyBytes = 64 * 1024;
inline constexpr size_t kMaxRules = 512;  // In one policy, includes and all.
inline constexpr size_t kMaxTerms = 8;    // In one line.
inline constexpr size_t kMaxValues = 16;  // In one { }.
inline constexpr size_t kMaxIncludeDepth = 4;

// Holds when (argument & mask) is one of `values`; with `negated`, when not.
struct Term {
  int argument = 0;  // 0 to 5.
  uint64_t mask = ~uint64_t{0};
  bool negated = false;
  std::vector<uint64_t> values;
};

struct Rule {
  std::string syscall;
  uint32_t number = 0;
  std::vector<Term> terms;  // All must hold; empty: always.
  uint32_t error = 0;       // 0: allow; else the call fails with this errno.
  std::string reason;
  std::string file;
  int line = 0;
};

struct Include {
  std::string name;
  std::string file;  // Where it is included.
  int line = 0;
  size_t rules = 0;  // How many it brought, with its own includes.
};

struct Policy {
  std::vector<Rule> startup;
  std::vector<Rule> steady;
  std::vector<Include> includes;

  // What the two filters are made of.
  std::vector<Rule> StartupRules() const;  // `startup`, then `steady`.
  const std::vector<Rule>& SteadyRules() const { return steady; }
};

// Text of the policy file `name`, which never has a slash in it.
using PolicySource =
    std::function<absl::StatusOr<std::string>(absl::string_view name)>;

// Reads policy `name` and its includes. Errors are kInvalidArgument, or those
// of `source`, and begin with "file:line: ".
absl::StatusOr<Policy> ParsePolicy(absl::string_view name,
                                   const PolicySource& source);

// One system call, as the kernel shows it to a filter.
struct SyscallRecord {
  uint32_t number = 0;
  uint32_t arch = 0;
  std::array<uint64_t, 6> arguments{};
};

enum class Action { kKill, kAllow, kFail };

struct Verdict {
  Action action = Action::kKill;
  uint32_t error = 0;  // Of kFail.
  friend bool operator==(const Verdict& a, const Verdict& b) {
    return a.action == b.action && a.error == b.error;
  }
  friend bool operator!=(const Verdict& a, const Verdict& b) {
    return !(a == b);
  }
};

// What the rules mean, said as plainly as can be. Compiled filters are compared
// with this.
Verdict Decide(const std::vector<Rule>& rules, const SyscallRecord& record);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_POLICY_H_

#include "sandbox/prove.h"

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "sandbox/bpf_eval.h"
#include "sandbox/compile.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

using Arguments = std::array<uint64_t, 6>;

constexpr uint32_t kNumbers = 1024;
constexpr int kRandomRecords = 500;
constexpr uint32_t kOtherArches[] = {
    0x40000003,  // i386
    0xc00000b7,  // aarch64
    0,          0xffffffff, kNativeArch ^ 1,
};
constexpr uint32_t kOtherNumbers[] = {
    kX32Bit - 1, kX32Bit, 0x7fffffff, 0x80000000, 0xffffffff,
};

// Arguments that meet each term of `rule` with its first value, except that
// term `other` is met with its value number `index`. Terms that contradict each
// other give arguments that meet none; that is a record too.
Arguments Meet(const Rule& rule, size_t other, size_t index) {
  Arguments met = {};
  for (size_t i = 0; i < rule.terms.size(); ++i) {
    const Term& term = rule.terms[i];
    uint64_t& argument = met[term.argument];
    argument = (argument & ~term.mask) | term.values[i == other ? index : 0];
    // Another bit of the mask makes it unequal.
    if (term.negated) argument ^= term.mask & (~term.mask + 1);
  }
  return met;
}

// Every value of every term once; not their product, which can be huge.
std::vector<Arguments> WaysToMeet(const Rule& rule) {
  std::vector<Arguments> ways = {Meet(rule, 0, 0)};
  for (size_t term = 0; term < rule.terms.size(); ++term) {
    for (size_t i = 1; i < rule.terms[term].values.size(); ++i) {
      ways.push_back(Meet(rule, term, i));
    }
  }
  return ways;
}

std::vector<uint64_t> Around(uint64_t value) {
  std::vector<uint64_t> values = {0,      ~uint64_t{0}, value + 1,  value - 1,
                                  ~value, value << 32,  value >> 32};
  for (int bit = 0; bit < 64; ++bit) {
    values.push_back(value ^ (uint64_t{1} << bit));
  }
  return values;
}

void AddRecords(uint32_t number, const std::vector<const Rule*>& alternatives,
                std::vector<SyscallRecord>& records) {
  std::vector<Arguments> ways;
  for (const Rule* rule : alternatives) {
    for (const Arguments& way : WaysToMeet(*rule)) ways.push_back(way);
  }
  for (const Arguments& way : ways) {
    records.push_back({number, kNativeArch, way});
    for (size_t argument = 0; argument < way.size(); ++argument) {
      for (const uint64_t value : Around(way[argument])) {
        Arguments changed = way;
        changed[argument] = value;
        records.push_back({number, kNativeArch, changed});
      }
    }
  }
  std::mt19937_64 random(number);
  for (int i = 0; i < kRandomRecords; ++i) {
    Arguments mixed;
    for (size_t argument = 0; argument < mixed.size(); ++argument) {
      const uint64_t base = ways[random() % ways.size()][argument];
      const std::vector<uint64_t> around = Around(base);
      mixed[argument] =
          random() % 2 == 0 ? base : around[random() % around.size()];
    }
    records.push_back({number, kNativeArch, mixed});
  }
}

std::string Describe(const SyscallRecord& record) {
  std::string text = absl::StrCat(SyscallName(record.number), " (number 0x",
                                  absl::Hex(record.number), ", arch 0x",
                                  absl::Hex(record.arch), ") with");
  for (const uint64_t argument : record.arguments) {
    absl::StrAppend(&text, " 0x", absl::Hex(argument));
  }
  return text;
}

// Whether the compiled `mutant` decides some record unlike `rules`. A mutant
// that does not compile counts as noticed.
bool Noticed(const std::vector<Rule>& rules, const std::vector<Rule>& mutant,
             const std::vector<SyscallRecord>& records) {
  const absl::StatusOr<std::vector<sock_filter>> program = Compile(mutant);
  return !program.ok() || !ProveFilter(rules, *program, records).ok();
}

// The records that the removal of something in `rule` can change.
std::vector<SyscallRecord> About(const Rule& rule,
                                 const std::vector<SyscallRecord>& records) {
  std::vector<SyscallRecord> about;
  for (const SyscallRecord& record : records) {
    if (record.number == rule.number) about.push_back(record);
  }
  return about;
}

}  // namespace

std::vector<SyscallRecord> ProofRecords(const std::vector<Rule>& rules) {
  std::vector<SyscallRecord> records;
  // Every number also with the arguments that each limit lets through, so that
  // no block decides on another's call.
  const Arguments zero = {};
  std::vector<Arguments> samples = {zero, zero};
  samples.back().fill(~uint64_t{0});
  for (const Rule& rule : rules) {
    if (!rule.terms.empty()) samples.push_back(WaysToMeet(rule).front());
  }
  for (uint32_t number = 0; number < kNumbers; ++number) {
    for (const Arguments& arguments : samples) {
      records.push_back({number, kNativeArch, arguments});
      records.push_back({number | kX32Bit, kNativeArch, arguments});
      for (const uint32_t arch : kOtherArches) {
        records.push_back({number, arch, arguments});
      }
    }
  }
  for (const uint32_t number : kOtherNumbers) {
    records.push_back({number, kNativeArch, zero});
  }
  std::set<uint32_t> seen;
  for (const Rule& rule : rules) {
    if (!seen.insert(rule.number).second) continue;
    std::vector<const Rule*> alternatives;
    bool limited = false;
    for (const Rule& other : rules) {
      if (other.number != rule.number) continue;
      alternatives.push_back(&other);
      limited = limited || !other.terms.empty();
    }
    if (limited) AddRecords(rule.number, alternatives, records);
  }
  return records;
}

absl::Status ProveFilter(const std::vector<Rule>& rules,
                         absl::Span<const sock_filter> program,
                         const std::vector<SyscallRecord>& records) {
  ASSIGN_OR_RETURN(const CheckedFilter filter, CheckedFilter::Create(program));
  for (const SyscallRecord& record : records) {
    const uint32_t value = filter.Run(record);
    const Verdict meant = Decide(rules, record);
    if (VerdictOf(value) != meant) {
      return absl::InternalError(absl::StrCat(
          "the filter returns 0x", absl::Hex(value), ", the rules mean action ",
          static_cast<int>(meant.action), ", for ", Describe(record)));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> RedundantParts(const std::vector<Rule>& rules) {
  const std::vector<SyscallRecord> records = ProofRecords(rules);
  std::vector<std::string> redundant;
  for (size_t i = 0; i < rules.size(); ++i) {
    const Rule& rule = rules[i];
    const std::vector<SyscallRecord> about = About(rule, records);
    std::vector<Rule> mutant = rules;
    mutant.erase(mutant.begin() + static_cast<ptrdiff_t>(i));
    if (!Noticed(rules, mutant, about)) {
      redundant.push_back(absl::StrCat(rule.file, ":", rule.line, ": '",
                                       rule.syscall, "' changes nothing"));
    }
    for (size_t term = 0; term < rule.terms.size(); ++term) {
      mutant = rules;
      std::vector<Term>& terms = mutant[i].terms;
      terms.erase(terms.begin() + static_cast<ptrdiff_t>(term));
      if (!Noticed(rules, mutant, about)) {
        redundant.push_back(absl::StrCat(rule.file, ":", rule.line, ": limit ",
                                         term + 1, " of '", rule.syscall,
                                         "' changes nothing"));
      }
    }
  }
  return redundant;
}

}  // namespace holdfast::sandbox

#include "sandbox/policy.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

using absl::string_view;

bool IsFileName(string_view name) {
  const auto good = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= 64 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), good);
}

// Cuts the text up to `mark` off the front of `text`, mark included.
bool CutAt(string_view mark, string_view& text, string_view& before) {
  const size_t at = text.find(mark);
  if (at == string_view::npos) return false;
  before = absl::StripAsciiWhitespace(text.substr(0, at));
  text = absl::StripAsciiWhitespace(text.substr(at + mark.size()));
  return true;
}

class Parser {
 public:
  explicit Parser(const PolicySource& source) : source_(source) {}

  absl::Status File(string_view name, size_t depth) {
    ASSIGN_OR_RETURN(const std::string text, source_(name));
    if (text.size() > kMaxPolicyBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, ":1: longer than ", kMaxPolicyBytes, " bytes: split it"));
    }
    files_.emplace_back(name);
    Position position{std::string(name), 0, depth, nullptr};
    for (string_view line : absl::StrSplit(text, '\n')) {
      ++position.line;
      RETURN_IF_ERROR(Line(line, position));
    }
    return absl::OkStatus();
  }

  Policy Take() { return std::move(policy_); }

 private:
  struct Position {
    std::string file;
    int line;
    size_t depth;
    std::vector<Rule>* section;
  };

  template <typename... Args>
  static absl::Status Error(const Position& at, const Args&... what) {
    return absl::InvalidArgumentError(
        absl::StrCat(at.file, ":", at.line, ": ", what...));
  }

  absl::Status Line(string_view line, Position& at) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') return absl::OkStatus();
    if (line == "startup:" || line == "steady:") {
      at.section = line == "steady:" ? &policy_.steady : &policy_.startup;
      return absl::OkStatus();
    }
    string_view statement;
    if (!CutAt("#", line, statement) || line.empty()) {
      return Error(at, "no reason: write '# why' at the end of the line");
    }
    if (absl::ConsumePrefix(&statement, "@include ")) {
      return IncludeFile(absl::StripAsciiWhitespace(statement), at);
    }
    return RuleLine(statement, line, at);
  }

  absl::Status IncludeFile(string_view name, const Position& at) {
    if (!IsFileName(name)) {
      return Error(at, "'", name, "' is not the name of a policy file");
    }
    if (at.depth + 1 > kMaxIncludeDepth) {
      return Error(at, "includes are nested deeper than ", kMaxIncludeDepth);
    }
    if (std::find(files_.begin(), files_.end(), name) != files_.end()) {
      return Error(at, "'", name, "' is included already");
    }
    const size_t rules = policy_.startup.size() + policy_.steady.size();
    const size_t index = policy_.includes.size();
    policy_.includes.push_back({std::string(name), at.file, at.line, 0});
    const absl::Status status = File(name, at.depth + 1);
    if (!status.ok()) {
      // A mistake inside the file names its own place.
      return absl::StartsWith(status.message(), absl::StrCat(name, ":"))
                 ? status
                 : Error(at, status.message());
    }
    policy_.includes[index].rules =
        policy_.startup.size() + policy_.steady.size() - rules;
    return absl::OkStatus();
  }

  absl::Status RuleLine(string_view statement, string_view reason,
                        const Position& at) {
    if (at.section == nullptr) {
      return Error(at, "a rule before 'startup:' or 'steady:'");
    }
    Rule rule;
    rule.reason = std::string(reason);
    rule.file = at.file;
    rule.line = at.line;
    string_view before;
    if (CutAt("->", statement, before)) {
      const absl::optional<uint32_t> error = ErrnoConstant(statement);
      if (!error.has_value()) {
        return Error(at, "'", statement, "' is not an errno that we know");
      }
      rule.error = *error;
      statement = before;
    }
    string_view name = statement;
    string_view conditions = statement;
    if (CutAt(":", conditions, name)) {
      RETURN_IF_ERROR(Terms(conditions, rule.terms, at));
    }
    const absl::optional<uint32_t> number = SyscallNumber(name);
    if (!number.has_value()) {
      return Error(at, "unknown system call '", name, "'");
    }
    rule.syscall = std::string(name);
    rule.number = *number;
    return Add(std::move(rule), at);
  }

  absl::Status Add(Rule rule, const Position& at) {
    for (const Rule& other : *at.section) {
      if (other.number == rule.number && other.terms.empty()) {
        return Error(at, "'", rule.syscall, "' is decided at ", other.file, ":",
                     other.line, " already");
      }
    }
    if (policy_.startup.size() + policy_.steady.size() >= kMaxRules) {
      return Error(at, "more than ", kMaxRules, " rules");
    }
    at.section->push_back(std::move(rule));
    return absl::OkStatus();
  }

  absl::Status Terms(string_view text, std::vector<Term>& terms,
                     const Position& at) {
    for (string_view part : absl::StrSplit(text, "&&")) {
      Term term;
      RETURN_IF_ERROR(OneTerm(absl::StripAsciiWhitespace(part), term, at));
      if (terms.size() >= kMaxTerms) {
        return Error(at, "more than ", kMaxTerms, " terms");
      }
      terms.push_back(std::move(term));
    }
    return absl::OkStatus();
  }

  // argN [& MASK] == VALUE | argN [& MASK] != VALUE | argN [& MASK] in {V, V}
  absl::Status OneTerm(string_view text, Term& term, const Position& at) {
    string_view left;
    string_view right = text;
    if (CutAt("!=", right, left)) {
      term.negated = true;
    } else if (!CutAt("==", right, left)) {
      right = text;
      if (!CutAt(" in ", right, left)) {
        return Error(at, "'", text, "' is not 'argN [& mask] == value', '!=' ",
                     "or 'in {values}'");
      }
      if (!absl::ConsumePrefix(&right, "{") ||
          !absl::ConsumeSuffix(&right, "}")) {
        return Error(at, "'in' needs values in { }");
      }
      RETURN_IF_ERROR(Left(left, term, at));
      return Values(right, term, at);
    }
    RETURN_IF_ERROR(Left(left, term, at));
    ASSIGN_OR_RETURN(const uint64_t value, Value(right, at));
    term.values.push_back(value);
    return Possible(term, at);
  }

  absl::Status Left(string_view text, Term& term, const Position& at) {
    string_view argument = text;
    string_view mask = text;
    if (CutAt("&", mask, argument)) {
      ASSIGN_OR_RETURN(term.mask, Value(mask, at));
    }
    if (argument.size() != 4 || !absl::StartsWith(argument, "arg") ||
        argument[3] < '0' || argument[3] > '5') {
      return Error(at, "'", argument, "' is not one of arg0 to arg5");
    }
    term.argument = argument[3] - '0';
    return absl::OkStatus();
  }

  absl::Status Values(string_view text, Term& term, const Position& at) {
    for (string_view part : absl::StrSplit(text, ',')) {
      ASSIGN_OR_RETURN(const uint64_t value,
                       Value(absl::StripAsciiWhitespace(part), at));
      if (term.values.size() >= kMaxValues) {
        return Error(at, "more than ", kMaxValues, " values");
      }
      term.values.push_back(value);
    }
    return Possible(term, at);
  }

  // A value with bits outside the mask can never be met.
  static absl::Status Possible(const Term& term, const Position& at) {
    for (const uint64_t value : term.values) {
      if ((value & ~term.mask) != 0) {
        return Error(at, "arg", term.argument, ": value ", value,
                     " has bits outside the mask");
      }
    }
    return absl::OkStatus();
  }

  // A sum of numbers and names: MAP_SHARED | MAP_FIXED, 0x10, 7.
  static absl::StatusOr<uint64_t> Value(string_view text, const Position& at) {
    uint64_t value = 0;
    for (string_view part : absl::StrSplit(text, '|')) {
      part = absl::StripAsciiWhitespace(part);
      uint64_t number;
      const absl::optional<uint64_t> named = ArgumentConstant(part);
      if (named.has_value()) {
        number = *named;
      } else if (absl::StartsWith(part, "0x")
                     ? !absl::SimpleHexAtoi(part, &number)
                     : !absl::SimpleAtoi(part, &number)) {
        return Error(at, "'", part, "' is not a number or a name we know");
      }
      value |= number;
    }
    return value;
  }

  const PolicySource& source_;
  std::vector<std::string> files_;
  Policy policy_;
};

bool Holds(const Term& term, const SyscallRecord& record) {
  const uint64_t value = record.arguments[term.argument] & term.mask;
  const bool found = std::find(term.values.begin(), term.values.end(), value) !=
                     term.values.end();
  return found != term.negated;
}

}  // namespace

std::vector<Rule> Policy::StartupRules() const {
  std::vector<Rule> rules = startup;
  rules.insert(rules.end(), steady.begin(), steady.end());
  return rules;
}

absl::StatusOr<Policy> ParsePolicy(string_view name,
                                   const PolicySource& source) {
  if (!IsFileName(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", name, "' is not the name of a policy file"));
  }
  Parser parser(source);
  RETURN_IF_ERROR(parser.File(name, /*depth=*/0));
  return parser.Take();
}

Verdict Decide(const std::vector<Rule>& rules, const SyscallRecord& record) {
  if (record.arch != kNativeArch || record.number >= kX32Bit) return {};
  for (const Rule& rule : rules) {
    if (rule.number != record.number) continue;
    const bool all =
        std::all_of(rule.terms.begin(), rule.terms.end(),
                    [&](const Term& term) { return Holds(term, record); });
    if (!all) continue;
    return rule.error == 0 ? Verdict{Action::kAllow, 0}
                           : Verdict{Action::kFail, rule.error};
  }
  return {};
}

}  // namespace holdfast::sandbox

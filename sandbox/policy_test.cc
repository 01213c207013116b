#include "sandbox/policy.h"

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Files = std::map<std::string, std::string>;

absl::StatusOr<Policy> Parse(const Files& files) {
  return ParsePolicy(
      "p.policy", [&](absl::string_view name) -> absl::StatusOr<std::string> {
        const auto file = files.find(std::string(name));
        if (file == files.end()) {
          return absl::NotFoundError("no such file");
        }
        return file->second;
      });
}

absl::StatusOr<Policy> ParseText(const std::string& text) {
  return Parse({{"p.policy", text}});
}

// The policy of one steady line.
std::vector<Rule> SteadyOf(const std::string& line) {
  const absl::StatusOr<Policy> policy =
      ParseText(absl::StrCat("steady:\n", line, "  # why\n"));
  EXPECT_OK(policy);
  return policy.ok() ? policy->SteadyRules() : std::vector<Rule>();
}

Verdict DecisionOn(const std::vector<Rule>& rules, uint32_t number,
                   std::array<uint64_t, 6> arguments = {}) {
  return Decide(rules, {number, kNativeArch, arguments});
}

constexpr Verdict kAllowed = {Action::kAllow, 0};
constexpr Verdict kKilled = {Action::kKill, 0};

TEST(PolicyParser, KeepsSectionsNumbersReasonsAndPlaces) {
  const absl::StatusOr<Policy> policy = ParseText(
      "# A device.\n"
      "startup:\n"
      "openat  # finds its file\n"
      "\n"
      "steady:\n"
      "  read # kicks # and more\n");
  ASSERT_OK(policy);
  ASSERT_EQ(policy->startup.size(), 1u);
  EXPECT_EQ(policy->startup[0].number, 257u);
  EXPECT_EQ(policy->startup[0].reason, "finds its file");
  EXPECT_EQ(policy->startup[0].line, 3);
  ASSERT_EQ(policy->steady.size(), 1u);
  EXPECT_EQ(policy->steady[0].syscall, "read");
  EXPECT_EQ(policy->steady[0].reason, "kicks # and more");
  EXPECT_EQ(policy->steady[0].file, "p.policy");
}

TEST(PolicyParser, StartupIsTheSumOfBoth) {
  const absl::StatusOr<Policy> policy =
      ParseText("startup:\nopenat # a\nsteady:\nread # b\n");
  ASSERT_OK(policy);
  EXPECT_EQ(policy->StartupRules().size(), 2u);
  EXPECT_EQ(policy->SteadyRules().size(), 1u);
}

TEST(PolicyParser, IncludesAddToBothSections) {
  const absl::StatusOr<Policy> policy = Parse({
      {"p.policy", "steady:\n@include c.policy # base\nwrite # irq\n"},
      {"c.policy", "startup:\nbrk # heap\nsteady:\nread # kick\n"},
  });
  ASSERT_OK(policy);
  EXPECT_EQ(policy->startup.size(), 1u);
  ASSERT_EQ(policy->steady.size(), 2u);
  EXPECT_EQ(policy->steady[0].file, "c.policy");
  EXPECT_EQ(policy->steady[1].syscall, "write") << "still in its own section";
  ASSERT_EQ(policy->includes.size(), 1u);
  EXPECT_EQ(policy->includes[0].rules, 2u);
}

struct BadPolicy {
  const char* text;
  const char* message;
};

class PolicyMistakes : public ::testing::TestWithParam<BadPolicy> {};

TEST_P(PolicyMistakes, AreNamedWithTheirPlace) {
  EXPECT_THAT(ParseText(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith(GetParam().message)))
      << GetParam().text;
}

INSTANTIATE_TEST_SUITE_P(
    All, PolicyMistakes,
    ::testing::Values(
        BadPolicy{"read # r", "p.policy:1: a rule before 'startup:'"},
        BadPolicy{"steady:\nread\n", "p.policy:2: no reason"},
        BadPolicy{"steady:\nread #  \n", "p.policy:2: no reason"},
        BadPolicy{"steady:\n\nraed # r\n",
                  "p.policy:3: unknown system call 'raed'"},
        BadPolicy{"steady:\nread # r\nread # r\n",
                  "p.policy:3: 'read' is decided at p.policy:2 already"},
        BadPolicy{"steady:\nread -> EWRONG # r\n", "p.policy:2: 'EWRONG'"},
        BadPolicy{"steady:\nread: # r\n", "p.policy:2: ''"},
        BadPolicy{"steady:\nread: arg6 == 1 # r\n", "p.policy:2: 'arg6'"},
        BadPolicy{"steady:\nread: fd == 1 # r\n", "p.policy:2: 'fd'"},
        BadPolicy{"steady:\nread: arg0 > 1 # r\n", "p.policy:2: 'arg0 > 1'"},
        BadPolicy{"steady:\nread: arg0 == x # r\n", "p.policy:2: 'x'"},
        BadPolicy{"steady:\nread: arg0 == -1 # r\n", "p.policy:2: '-1'"},
        BadPolicy{"steady:\nread: arg0 == 99999999999999999999 # r\n",
                  "p.policy:2: '99999999999999999999'"},
        BadPolicy{"steady:\nread: arg0 in {1 # r\n",
                  "p.policy:2: 'in' needs values in { }"},
        BadPolicy{"steady:\nread: arg0 in {} # r\n", "p.policy:2: ''"},
        BadPolicy{"steady:\nread: arg0 & 0x4 == 1 # r\n",
                  "p.policy:2: arg0: value 1 has bits outside the mask"},
        BadPolicy{"@include nothing.policy # r\n", "p.policy:1: no such file"},
        BadPolicy{"@include ../etc/passwd # r\n",
                  "p.policy:1: '../etc/passwd' is not the name"},
        BadPolicy{"@include p.policy # r\n",
                  "p.policy:1: 'p.policy' is included already"}));

TEST(PolicyParser, MistakesOfAnIncludeNameTheInclude) {
  EXPECT_THAT(Parse({{"p.policy", "@include c.policy # base\n"},
                     {"c.policy", "steady:\nraed # r\n"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       StartsWith("c.policy:2: unknown")));
}

TEST(PolicyParser, RefusesWhatIsBeyondItsLimits) {
  std::string many = "steady:\n";
  for (size_t i = 0; i <= kMaxRules; ++i) {
    absl::StrAppend(&many, "read: arg0 == ", i, " # r\n");
  }
  EXPECT_THAT(ParseText(many), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("more than 512 rules")));
  EXPECT_THAT(
      ParseText(std::string(kMaxPolicyBytes + 1, '#')),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("longer than")));
  Files deep;
  for (int i = 0; i < 8; ++i) {
    deep[i == 0 ? "p.policy" : absl::StrCat(i, ".policy")] =
        absl::StrCat("@include ", i + 1, ".policy # r\n");
  }
  EXPECT_THAT(Parse(deep), StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr("nested deeper")));
}

TEST(PolicyMeaning, DefaultIsKill) {
  EXPECT_EQ(DecisionOn(SteadyOf("read"), 0), kAllowed);
  EXPECT_EQ(DecisionOn(SteadyOf("read"), 1), kKilled);
  EXPECT_EQ(DecisionOn({}, 0), kKilled);
}

TEST(PolicyMeaning, OtherArchitecturesAndX32AreKilled) {
  const std::vector<Rule> rules = SteadyOf("read");
  EXPECT_EQ(Decide(rules, {0, 0x40000003, {}}), kKilled);
  EXPECT_EQ(Decide(rules, {0 | kX32Bit, kNativeArch, {}}), kKilled);
}

TEST(PolicyMeaning, ArgumentsAreComparedWithAll64Bits) {
  const std::vector<Rule> rules = SteadyOf("prctl: arg0 == 4");
  EXPECT_EQ(DecisionOn(rules, 157, {4}), kAllowed);
  EXPECT_EQ(DecisionOn(rules, 157, {5}), kKilled);
  EXPECT_EQ(DecisionOn(rules, 157, {4 | (uint64_t{1} << 32)}), kKilled);
}

TEST(PolicyMeaning, MaskLooksAtItsBitsOnly) {
  const std::vector<Rule> rules = SteadyOf("mmap: arg2 & PROT_EXEC == 0");
  EXPECT_EQ(DecisionOn(rules, 9, {0, 0, 3}), kAllowed);
  EXPECT_EQ(DecisionOn(rules, 9, {0, 0, 7}), kKilled);
}

TEST(PolicyMeaning, AllTermsOfALineMustHold) {
  const std::vector<Rule> rules =
      SteadyOf("fcntl: arg1 in {F_GETFL, F_SETFL} && arg0 != 3");
  EXPECT_EQ(DecisionOn(rules, 72, {5, 3}), kAllowed);
  EXPECT_EQ(DecisionOn(rules, 72, {5, 4}), kAllowed);
  EXPECT_EQ(DecisionOn(rules, 72, {5, 1}), kKilled);
  EXPECT_EQ(DecisionOn(rules, 72, {3, 4}), kKilled);
}

TEST(PolicyMeaning, LinesOfOneCallAreAlternativesInOrder) {
  const absl::StatusOr<Policy> policy = ParseText(
      "steady:\nread: arg0 == 1 -> EPERM # a\nread: arg0 in {1, 2} # b\n");
  ASSERT_OK(policy);
  EXPECT_EQ(DecisionOn(policy->steady, 0, {1}), (Verdict{Action::kFail, 1}));
  EXPECT_EQ(DecisionOn(policy->steady, 0, {2}), kAllowed);
  EXPECT_EQ(DecisionOn(policy->steady, 0, {3}), kKilled);
}

TEST(SyscallTable, KnowsNamesOfHeadersAndNewerOnes) {
  EXPECT_EQ(SyscallNumber("read"), 0u);
  EXPECT_EQ(SyscallNumber("execveat"), 322u);
  EXPECT_EQ(SyscallNumber("mseal"), 462u);
  EXPECT_EQ(SyscallNumber("nothing"), absl::nullopt);
  EXPECT_EQ(SyscallName(257), "openat");
  EXPECT_EQ(SyscallName(1000), "");
}

}  // namespace
}  // namespace holdfast::sandbox

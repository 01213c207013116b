#include "statestore/testing/crash_explorer.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/shared_access.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

uint64_t* Words(absl::Span<uint8_t> memory) {
  return reinterpret_cast<uint64_t*>(memory.data());
}

uint64_t WordAt(absl::Span<const uint8_t> image, size_t index) {
  uint64_t word;
  std::memcpy(&word, image.data() + 8 * index, sizeof(word));
  return word;
}

TEST(StepThrough, ShowsEveryStoreInProgramOrder) {
  std::vector<uint8_t> image(64);
  std::vector<std::string> seen;
  const StepResult result = StepThrough(
      image,
      [](absl::Span<uint8_t> memory) {
        uint64_t* words = Words(memory);
        SharedAccess::Store<uint64_t>(&words[0], 1);
        SharedAccess::Store<uint64_t>(&words[1], 2);
        SharedAccess::Store<uint64_t>(&words[0], 1);  // Changes nothing.
        SharedAccess::Store<uint64_t>(&words[0], 3);
      },
      [&](absl::Span<const uint8_t> now) {
        seen.push_back(std::to_string(WordAt(now, 0)) + "," +
                       std::to_string(WordAt(now, 1)));
      });
  EXPECT_EQ(result.error, "");
  EXPECT_THAT(seen, ElementsAre("0,0", "1,0", "1,2", "3,2"));
  EXPECT_EQ(result.images, 4u);
  EXPECT_GT(result.instructions, 4u);
  EXPECT_EQ(image, std::vector<uint8_t>(64)) << "works on a copy";
}

TEST(StepThrough, SaysSoWhenTheOperationDies) {
  const std::vector<uint8_t> image(64);
  const StepResult result = StepThrough(
      image,
      [](absl::Span<uint8_t> memory) {
        SharedAccess::Store<uint64_t>(Words(memory), 1);
        _Exit(3);
      },
      [](absl::Span<const uint8_t>) {});
  EXPECT_THAT(result.error, HasSubstr("exited with 3"));
  EXPECT_EQ(result.images, 2u);
}

TEST(TrapThrough, SeesWhatATracerSees) {
  const std::vector<uint8_t> image(8192);
  const auto operation = [](absl::Span<uint8_t> memory) {
    uint64_t* words = Words(memory);
    SharedAccess::Store<uint64_t>(&words[0], 1);
    SharedAccess::Store<uint64_t>(&words[0], 1);  // Changes nothing.
    std::memset(memory.data() + 4000, 7, 300);
    __atomic_fetch_add(&words[1], WordAt(memory, 0), __ATOMIC_SEQ_CST);
  };
  std::vector<std::vector<uint8_t>> traced, trapped;
  const StepResult slow =
      StepThrough(image, operation, [&](absl::Span<const uint8_t> now) {
        traced.emplace_back(now.begin(), now.end());
      });
  const StepResult fast =
      TrapThrough(image, operation, [&](absl::Span<const uint8_t> now) {
        trapped.emplace_back(now.begin(), now.end());
      });
  EXPECT_EQ(slow.error, "");
  EXPECT_EQ(fast.error, "");
  EXPECT_GT(fast.images, 3u);
  EXPECT_EQ(traced, trapped);
  EXPECT_LT(fast.instructions, slow.instructions);
}

TEST(TrapThrough, SaysSoWhenTheOperationDies) {
  const std::vector<uint8_t> image(4096);
  const StepResult result = TrapThrough(
      image, [](absl::Span<uint8_t>) { _Exit(3); },
      [](absl::Span<const uint8_t>) {});
  EXPECT_THAT(result.error, HasSubstr("768"));
}

// Two words that must always be equal, written under a redo record in words 2
// (armed) and 3 (value).
void WriteBoth(absl::Span<uint8_t> memory, uint64_t value, bool arm_first) {
  uint64_t* words = Words(memory);
  SharedAccess::Store(&words[3], value);
  if (arm_first) SharedAccess::Store<uint64_t>(&words[2], 1);
  SharedAccess::Store(&words[0], value);
  if (!arm_first) SharedAccess::Store<uint64_t>(&words[2], 1);
  SharedAccess::Store(&words[1], value);
  SharedAccess::Store<uint64_t>(&words[2], 0);
}

void RecoverBoth(absl::Span<uint8_t> memory) {
  uint64_t* words = Words(memory);
  if (words[2] == 0) return;
  SharedAccess::Store(&words[0], words[3]);
  SharedAccess::Store(&words[1], words[3]);
  SharedAccess::Store<uint64_t>(&words[2], 0);
}

std::string CheckBoth(absl::Span<uint8_t> memory) {
  const uint64_t* words = Words(memory);
  return words[0] == words[1] ? "" : "the words differ";
}

TEST(ExploreCrashes, FindsNothingInACorrectProtocolAtAnyDepth) {
  const std::vector<uint8_t> image(64);
  const auto write = [](absl::Span<uint8_t> memory) {
    WriteBoth(memory, 7, /*arm_first=*/true);
  };
  const CrashReport report =
      ExploreCrashes(image, write, RecoverBoth, CheckBoth, /*depth=*/3);
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.violations, 0u) << report.first_violation;
  // The first one, and one for each store. What a cut recovery leaves are the
  // same images here.
  EXPECT_EQ(report.crash_states, 6u);
  EXPECT_EQ(report.recoveries, report.crash_states);
}

TEST(ExploreCrashes, FindsARecordThatIsArmedTooLate) {
  const std::vector<uint8_t> image(64);
  const auto write = [](absl::Span<uint8_t> memory) {
    WriteBoth(memory, 7, /*arm_first=*/false);
  };
  const CrashReport report =
      ExploreCrashes(image, write, RecoverBoth, CheckBoth);
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.violations, 1u);
  EXPECT_EQ(report.first_violation, "the words differ");
}

// A recovery that disarms before it repairs is right unless it dies too.
TEST(ExploreCrashes, FindsARecoveryThatMustNotDieOnlyAtDepthTwo) {
  const std::vector<uint8_t> image(64);
  const auto write = [](absl::Span<uint8_t> memory) {
    WriteBoth(memory, 7, /*arm_first=*/true);
  };
  const auto disarm_first = [](absl::Span<uint8_t> memory) {
    uint64_t* words = Words(memory);
    if (words[2] == 0) return;
    SharedAccess::Store<uint64_t>(&words[2], 0);
    SharedAccess::Store(&words[0], words[3]);
    SharedAccess::Store(&words[1], words[3]);
  };
  EXPECT_EQ(ExploreCrashes(image, write, disarm_first, CheckBoth, 1).violations,
            0u);
  EXPECT_GT(ExploreCrashes(image, write, disarm_first, CheckBoth, 2).violations,
            0u);
}

// Whichever way the instants are found, they are the same ones.
TEST(ExploreCrashes, SeesTheSameByTrapsAsByATracer) {
  const std::vector<uint8_t> image(4096);
  for (const bool arm_first : {true, false}) {
    const auto write = [arm_first](absl::Span<uint8_t> memory) {
      WriteBoth(memory, 7, arm_first);
    };
    for (const int depth : {1, 2, 3}) {
      const CrashReport traced =
          ExploreCrashes(image, write, RecoverBoth, CheckBoth, depth);
      const CrashReport trapped = ExploreCrashes(
          image, write, RecoverBoth, CheckBoth, depth, Stepping::kTraps);
      EXPECT_EQ(trapped.error, "");
      EXPECT_EQ(trapped.crash_states, traced.crash_states);
      EXPECT_EQ(trapped.recoveries, traced.recoveries);
      EXPECT_EQ(trapped.violations, traced.violations);
      EXPECT_EQ(trapped.violations == 0, arm_first);
    }
  }
}

}  // namespace
}  // namespace holdfast::testing

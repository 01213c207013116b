#include "statestore/recover.h"

#include <cstdint>
#include <random>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/segment.h"
#include "statestore/testing/sample_segment.h"
#include "statestore/transaction.h"

namespace holdfast {
namespace {

using ::holdfast::testing::AlignedMemory;
using ::holdfast::testing::MakeSampleSegment;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Verdict = RecoveryReport::Verdict;

absl::Span<uint8_t> SectionOf(absl::Span<uint8_t> memory, SectionType type) {
  return Segment::Attach(memory)->section(type);
}

TEST(Recover, SeesAnEmptySegment) {
  const std::vector<uint8_t> zero(2 * kPageSize);
  EXPECT_EQ(Recover(zero).verdict, Verdict::kEmpty);
}

TEST(Recover, SaysWhatAWholeSegmentContains) {
  AlignedMemory memory = MakeSampleSegment();
  const RecoveryReport report = Recover(memory.span());
  EXPECT_EQ(report.verdict, Verdict::kWhole) << report.ToString();
  EXPECT_EQ(report.layout.device, "sample0");
  EXPECT_EQ(report.epoch, 3u);
  EXPECT_EQ(report.commit.epoch, 3u);
  EXPECT_EQ(report.current().sequence, 2u);
  ASSERT_EQ(report.current().completions.size(), 2u);
  EXPECT_EQ(report.current().completions[0].counter, 17u);
  EXPECT_EQ(report.current().completions[1].head, 255u);
  EXPECT_EQ(report.current().fields[0], 1);
  EXPECT_TRUE(report.undo_armed);
  EXPECT_EQ(report.undo_entries, 1u);
  EXPECT_EQ(report.undo_bytes, 3u);
}

TEST(Recover, AcceptsAnythingInTheOtherBank) {
  AlignedMemory memory = MakeSampleSegment();
  const RecoveryReport before = Recover(memory.span());
  const absl::Span<uint8_t> state =
      SectionOf(memory.span(), SectionType::kState);
  const size_t stride = (state.size() - sizeof(StateHeader)) / 2;
  const size_t other = sizeof(StateHeader) + (before.commit.bank ^ 1) * stride;
  for (size_t i = 0; i < stride; ++i) state[other + i] ^= 0x55;
  const RecoveryReport after = Recover(memory.span());
  EXPECT_EQ(after.verdict, Verdict::kWhole);
  EXPECT_EQ(after.current().fields, before.current().fields);
}

TEST(Recover, NamesAScribbledBankHeaderAndUndoLog) {
  AlignedMemory bank = MakeSampleSegment();
  const RecoveryReport before = Recover(bank.span());
  absl::Span<uint8_t> state = SectionOf(bank.span(), SectionType::kState);
  const size_t stride = (state.size() - sizeof(StateHeader)) / 2;
  state[sizeof(StateHeader) + before.commit.bank * stride + 60] ^= 1;
  EXPECT_EQ(Recover(bank.span()).verdict, Verdict::kDamaged);
  EXPECT_THAT(Recover(bank.span()).problems,
              ElementsAre(HasSubstr("the current one, fails its checksum")));

  AlignedMemory word = MakeSampleSegment();
  SectionOf(word.span(), SectionType::kState)[0] ^= 4;
  EXPECT_THAT(Recover(word.span()).problems,
              ElementsAre(HasSubstr("another sequence")));

  AlignedMemory header = MakeSampleSegment();
  SectionOf(header.span(), SectionType::kState)[9] ^= 4;
  EXPECT_THAT(Recover(header.span()).problems,
              ElementsAre(HasSubstr("header checksum")));

  AlignedMemory undo = MakeSampleSegment();
  SectionOf(undo.span(), SectionType::kUndo)[9] ^= 4;
  EXPECT_THAT(Recover(undo.span()).problems,
              ElementsAre(HasSubstr("undo log")));

  AlignedMemory page = MakeSampleSegment();
  page.span()[13] ^= 4;
  EXPECT_THAT(Recover(page.span()).problems,
              ElementsAre(HasSubstr("header checksum")));
  EXPECT_FALSE(Recover(page.span()).has_layout);
}

TEST(Recover, IsTotalOnEveryTruncationAndOnNoise) {
  AlignedMemory memory = MakeSampleSegment();
  for (size_t n = 0; n < memory.span().size(); n += 61) {
    EXPECT_EQ(Recover(memory.span().first(n)).verdict, Verdict::kDamaged);
  }
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    AlignedMemory noisy = MakeSampleSegment();
    for (int edit = 0; edit < 8; ++edit) {
      noisy.span()[random() % noisy.span().size()] = random();
    }
    Recover(noisy.span()).ToString();
  }
}

// The promise of the verdict: whole means that a successor gets to work.
TEST(Recover, AgreesWithWhatASuccessorFinds) {
  std::mt19937 random(4);
  int whole = 0;
  for (int i = 0; i < 3000; ++i) {
    AlignedMemory memory = MakeSampleSegment();
    const absl::Span<uint8_t> bytes = memory.span();
    const size_t at = kPageSize + random() % 1024;
    bytes[at] ^= 1 << random() % 8;
    const RecoveryReport report = Recover(bytes);
    absl::Status attached;
    absl::StatusOr<Segment> segment = Segment::Attach(bytes);
    attached = segment.status();
    if (attached.ok()) {
      absl::StatusOr<StateBank> bank = StateBank::Attach(
          segment->section(SectionType::kState), uint64_t{0xffffffff});
      attached = bank.status();
      if (attached.ok()) {
        attached = bank->AttachBulk(segment->section(SectionType::kUndo),
                                    segment->section(SectionType::kBulk));
      }
    }
    EXPECT_EQ(report.verdict == Verdict::kWhole, attached.ok())
        << at << ": " << report.ToString() << attached;
    whole += attached.ok() ? 1 : 0;
  }
  EXPECT_GT(whole, 0);
  EXPECT_LT(whole, 3000);
}

}  // namespace
}  // namespace holdfast

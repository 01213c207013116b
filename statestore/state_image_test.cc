#include "statestore/state_image.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/format.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint32_t kFields = 72;
constexpr uint16_t kQueues = 1;
constexpr size_t kFirstField = CheckedBankSize(kFields, kQueues) - kFields;

// A section at epoch 1.
struct Section {
  Section() {
    FormatState(bytes(), kFields, kQueues);
    words[0] = CommitWord{1, 0, 0}.Pack();
  }
  absl::Span<uint8_t> bytes() {
    return {reinterpret_cast<uint8_t*>(words.data()), words.size() * 8};
  }
  CommitWord commit() const { return CommitWord::Unpack(words[0]); }
  absl::Span<uint8_t> bank(size_t i) {
    const size_t stride = BankStride(kFields, kQueues);
    return bytes().subspan(sizeof(StateHeader) + i * stride, stride);
  }
  StateImage Image() {
    return StateImage(bytes().data(), *ReadStateHeader(bytes()));
  }
  std::vector<uint64_t> words =
      std::vector<uint64_t>(StateSectionSize(kFields, kQueues) / 8);
};

TEST(StateImage, CommitsIntoTheOtherBankAndSealsIt) {
  Section section;
  StateImage image = section.Image();
  ASSERT_OK(image.Load());
  for (uint8_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(image.Matches());
    image.bytes()[kFirstField] = i;
    ASSERT_TRUE(image.Commit());
    EXPECT_EQ(section.commit().epoch, 1u);
    EXPECT_EQ(section.commit().bank, i % 2u);
    EXPECT_EQ(section.commit().sequence, i);
    EXPECT_EQ(image.sequence(), i);
    EXPECT_EQ(section.bank(i % 2)[kFirstField], i);
    EXPECT_EQ(section.bank(i % 2 ^ 1)[kFirstField], i - 1);
    EXPECT_TRUE(BankIsIntact(section.bank(i % 2), kFields, kQueues));
  }
  StateImage successor = section.Image();
  ASSERT_OK(successor.Load());
  EXPECT_EQ(successor.bytes()[kFirstField], 5);
}

// The word has 31 bits of the bank's 64.
TEST(StateImage, TheSequenceOfTheCommitWordWrapsWithoutTouchingBankOrEpoch) {
  Section section;
  FormatBank(section.bank(1), kFields, kQueues, CommitWord::kSequenceMask);
  section.words[0] = CommitWord{9, 1, CommitWord::kSequenceMask}.Pack();
  StateImage image = section.Image();
  ASSERT_OK(image.Load());
  ASSERT_TRUE(image.Commit());
  EXPECT_EQ(section.words[0], (CommitWord{9, 0, 0}.Pack()));
  EXPECT_EQ(image.sequence(), uint64_t{1} << 31);
  EXPECT_OK(section.Image().Load());
}

// Negative control of Matches: each byte of each of the two counts.
TEST(StateImage, FindsOneWrongByteInBankImageAndWord) {
  Section section;
  StateImage image = section.Image();
  ASSERT_OK(image.Load());
  for (size_t at = 0; at < image.size(); ++at) {
    section.bank(0)[at] ^= 1;
    EXPECT_FALSE(image.Matches()) << at;
    section.bank(0)[at] ^= 1;
    image.bytes()[at] ^= 1;
    EXPECT_FALSE(image.Matches()) << at;
    image.bytes()[at] ^= 1;
  }
  for (int bit = 0; bit < 64; ++bit) {
    section.words[0] ^= uint64_t{1} << bit;
    EXPECT_FALSE(image.Matches()) << bit;
    section.words[0] ^= uint64_t{1} << bit;
  }
  EXPECT_TRUE(image.Matches());
}

TEST(StateImage, WritesNothingOnceTheCommitWordIsAnothers) {
  Section section;
  StateImage image = section.Image();
  ASSERT_OK(image.Load());
  image.bytes()[kFirstField] = 1;
  section.words[0] = CommitWord{2, 0, 0}.Pack();
  const std::vector<uint64_t> before = section.words;
  EXPECT_FALSE(image.Commit());
  EXPECT_EQ(section.words, before);
  // And it stays so, even if the word comes back.
  section.words[0] = CommitWord{1, 0, 0}.Pack();
  image.Restore();
  EXPECT_FALSE(image.Matches());
  EXPECT_FALSE(image.Commit());
}

TEST(StateImage, RestoreUndoesChanges) {
  Section section;
  StateImage image = section.Image();
  ASSERT_OK(image.Load());
  image.bytes()[kFirstField] = 1;
  image.bytes()[image.size() - 1] = 1;
  image.Restore();
  EXPECT_TRUE(image.Matches());
  EXPECT_EQ(image.bytes()[kFirstField], 0);
}

// Copying back must not make a scribble the truth.
TEST(StateImage, RestoreDoesNotAdoptAScribble) {
  Section section;
  StateImage image = section.Image();
  ASSERT_OK(image.Load());
  image.bytes()[kFirstField] = 1;
  section.bank(0)[kFirstField + 9] = 1;
  image.Restore();
  EXPECT_FALSE(image.Matches());
  EXPECT_FALSE(image.Commit());
}

TEST(StateImage, LoadRefusesADamagedBankAndAnotherSequence) {
  Section section;
  section.bank(0)[kFirstField] ^= 1;
  EXPECT_THAT(section.Image().Load(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  section.bank(0)[kFirstField] ^= 1;
  section.words[0] = CommitWord{1, 0, 1}.Pack();
  EXPECT_THAT(section.Image().Load(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("sequence")));
}

}  // namespace
}  // namespace holdfast

#include "statestore/undo_log.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

class UndoLogTest : public ::testing::Test {
 protected:
  UndoLogTest() : log_words_(64), bulk_(256) {
    for (size_t i = 0; i < bulk_.size(); ++i) bulk_[i] = i;
  }
  absl::Span<uint8_t> log() {
    return {reinterpret_cast<uint8_t*>(log_words_.data()),
            log_words_.size() * 8};
  }
  UndoLog Attach() { return *UndoLog::Attach(log(), absl::MakeSpan(bulk_)); }

  std::vector<uint64_t> log_words_;
  std::vector<uint8_t> bulk_;
};

TEST_F(UndoLogTest, RollsBackOverlappingWritesNewestFirst) {
  const std::vector<uint8_t> before = bulk_;
  UndoLog undo = Attach();
  ASSERT_OK(undo.Write(7, 10, std::vector<uint8_t>(30, 0xaa)));
  ASSERT_OK(undo.Write(7, 20, std::vector<uint8_t>(5, 0xbb)));
  ASSERT_OK(undo.Write(7, 0, std::vector<uint8_t>(256, 0xcc)));
  EXPECT_EQ(undo.bulk()[21], 0xcc);
  EXPECT_EQ(InspectUndoLog(log(), bulk_.size(), 7)->entries, 3u);
  EXPECT_EQ(InspectUndoLog(log(), bulk_.size(), 7)->bytes, 30u + 5 + 256);
  ASSERT_OK(undo.RollBack(7));
  EXPECT_EQ(bulk_, before);
  EXPECT_FALSE(InspectUndoLog(log(), bulk_.size(), 7)->armed);
  ASSERT_OK(undo.RollBack(7));  // Nothing left to do.
  EXPECT_EQ(bulk_, before);
}

TEST_F(UndoLogTest, ANewSequenceMakesTheLogVoid) {
  UndoLog undo = Attach();
  ASSERT_OK(undo.Write(7, 0, {1, 2, 3}));
  EXPECT_FALSE(InspectUndoLog(log(), bulk_.size(), 8)->armed);
  ASSERT_OK(undo.RollBack(8));
  EXPECT_EQ(bulk_[2], 3);
  // The next write starts at the front again.
  ASSERT_OK(undo.Write(8, 0, {9}));
  EXPECT_EQ(InspectUndoLog(log(), bulk_.size(), 8)->entries, 1u);
  ASSERT_OK(undo.RollBack(8));
  EXPECT_EQ(bulk_[0], 1);
}

TEST_F(UndoLogTest, RefusesWhatDoesNotFit) {
  UndoLog undo = Attach();
  EXPECT_THAT(undo.Write(1, 250, std::vector<uint8_t>(7)),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("at 250")));
  EXPECT_THAT(undo.Write(1, SIZE_MAX, {1}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("bulk")));
  ASSERT_OK(undo.Write(1, 0, std::vector<uint8_t>(256)));
  EXPECT_THAT(undo.Write(1, 0, std::vector<uint8_t>(256)),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("272")));
  EXPECT_FALSE(UndoLog::Attach(log().first(24), absl::MakeSpan(bulk_)).ok());
  EXPECT_FALSE(UndoLog::Attach(log().subspan(1), absl::MakeSpan(bulk_)).ok());
  EXPECT_FALSE(UndoLog::Attach({}, absl::MakeSpan(bulk_)).ok());
}

TEST_F(UndoLogTest, ReportsEveryFlippedBitOfAnArmedLogAndChangesNothing) {
  UndoLog undo = Attach();
  ASSERT_OK(undo.Write(7, 10, std::vector<uint8_t>(24, 0xaa)));
  ASSERT_OK(undo.Write(7, 50, std::vector<uint8_t>(8, 0xbb)));
  const std::vector<uint8_t> written = bulk_;
  const size_t used = UndoEntrySize(24) + UndoEntrySize(8);
  for (size_t bit = 64; bit < (8 + used) * 8; ++bit) {
    log()[bit / 8] ^= 1 << (bit % 8);
    EXPECT_THAT(undo.RollBack(7),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("undo log")))
        << bit;
    EXPECT_EQ(bulk_, written);
    log()[bit / 8] ^= 1 << (bit % 8);
  }
}

TEST_F(UndoLogTest, IsTotalOnGarbage) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    for (uint64_t& word : log_words_) word = random() & random();
    log_words_[0] = uint64_t{7} << 32 | random() % 600;
    // An entry that lies where the walk begins, with plausible numbers.
    for (size_t at = 2; at < log_words_.size(); at += 2) {
      log_words_[at] = (random() % 40) << 32 | random() % 300;
    }
    InspectUndoLog(log(), bulk_.size(), 7).IgnoreError();
    Attach().RollBack(7).IgnoreError();
  }
}

TEST_F(UndoLogTest, SurvivesRandomWritesAndRollbacks) {
  std::mt19937 random(2);
  UndoLog undo = Attach();
  uint64_t sequence = 100;
  std::vector<uint8_t> committed = bulk_;
  for (int i = 0; i < 5000; ++i) {
    const size_t writes = random() % 4;
    for (size_t w = 0; w < writes; ++w) {
      const size_t offset = random() % bulk_.size();
      std::vector<uint8_t> bytes(
          std::min<size_t>(1 + random() % 64, bulk_.size() - offset), random());
      ASSERT_OK(undo.Write(sequence, offset, bytes));
    }
    if (random() % 2 == 0) {
      ++sequence;
      committed = bulk_;
    } else {
      ASSERT_OK(undo.RollBack(sequence));
    }
    ASSERT_EQ(bulk_, committed);
  }
}

}  // namespace
}  // namespace holdfast

#include "statestore/transaction.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/cell.h"
#include "statestore/state_section.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;

struct Counters {
  static constexpr SchemaId kSchema{"counters", 1};
  Cell<uint64_t> a{"a"};
  Cell<uint64_t> b{"b"};
  Cell<bool> flag{"flag"};
  Cell<std::array<uint8_t, 6>> mac{"mac"};
};

// A state section with the cells that fit it.
struct Fixture {
  explicit Fixture(uint16_t queues = 2)
      : schema(*DescribeState<Counters>()),
        cells(*BindState<Counters>(schema)),
        words(StateSectionSize(schema.size, queues) / 8) {
    FormatState(section(), schema.size, queues);
  }
  absl::Span<uint8_t> section() {
    return {reinterpret_cast<uint8_t*>(words.data()), words.size() * 8};
  }
  StateBank Attach(uint64_t epoch) {
    absl::StatusOr<StateBank> bank = StateBank::Attach(section(), epoch);
    EXPECT_OK(bank);
    return *std::move(bank);
  }
  // Bytes of the current bank's fields.
  uint8_t* CurrentBank() {
    const CommitWord word = CommitWord::Unpack(words[0]);
    return section().data() + sizeof(StateHeader) +
           word.bank * BankStride(schema.size, 2);
  }

  Schema schema;
  Counters cells;
  std::vector<uint64_t> words;
};

TEST(StateTxn, ReadsItsOwnWritesAndOthersReadThemAfterCommit) {
  Fixture f;
  StateBank bank = f.Attach(1);
  {
    StateTxn txn = bank.Begin();
    EXPECT_EQ(txn.Get(f.cells.a), 0u);
    EXPECT_FALSE(txn.dirty());
    txn.Set(f.cells.a, 5);
    txn.Set(f.cells.flag, true);
    txn.Set(f.cells.mac, {1, 2, 3, 4, 5, 6});
    EXPECT_EQ(txn.Get(f.cells.a), 5u);
    EXPECT_TRUE(txn.dirty());
    EXPECT_OK(bank.Commit(txn));
  }
  StateTxn txn = bank.Begin();
  EXPECT_EQ(txn.Get(f.cells.a), 5u);
  EXPECT_TRUE(txn.Get(f.cells.flag));
  EXPECT_EQ(txn.Get(f.cells.mac)[5], 6);
  EXPECT_EQ(bank.sequence(), 1u);
}

TEST(StateTxn, LeavesNoTraceWithoutCommit) {
  Fixture f;
  StateBank bank = f.Attach(1);
  {
    StateTxn txn = bank.Begin();
    txn.Set(f.cells.a, 5);
    txn.RecordCompletion(0, {1, 2, 3});
  }
  StateTxn txn = bank.Begin();
  EXPECT_EQ(txn.Get(f.cells.a), 0u);
  EXPECT_EQ(bank.completion(0).counter, 0u);
  EXPECT_EQ(bank.sequence(), 0u);
}

TEST(StateTxn, CommitsNothingWhenNothingChanged) {
  Fixture f;
  StateBank bank = f.Attach(1);
  StateTxn txn = bank.Begin();
  EXPECT_OK(bank.Commit(txn));
  EXPECT_EQ(txn.Get(f.cells.a), 0u);
  EXPECT_OK(bank.Commit(txn));
  EXPECT_EQ(bank.sequence(), 0u);
}

TEST(StateTxn, CanBeUsedAgainAfterCommit) {
  Fixture f;
  StateBank bank = f.Attach(1);
  StateTxn txn = bank.Begin();
  for (uint64_t i = 1; i <= 100; ++i) {
    txn.Set(f.cells.a, txn.Get(f.cells.a) + 1);
    ASSERT_OK(bank.Commit(txn));
    ASSERT_EQ(bank.sequence(), i);
  }
  EXPECT_EQ(txn.Get(f.cells.a), 100u);
}

TEST(StateTxn, CompletionAndFieldsCommitTogether) {
  Fixture f;
  StateBank bank = f.Attach(1);
  StateTxn txn = bank.Begin();
  txn.Set(f.cells.b, 9);
  txn.RecordCompletion(1, {77, 3, 512});
  ASSERT_OK(bank.Commit(txn));
  // A successor finds both.
  StateBank successor = f.Attach(2);
  EXPECT_EQ(successor.completion(1).counter, 77u);
  EXPECT_EQ(successor.completion(1).head, 3u);
  EXPECT_EQ(successor.completion(1).written, 512u);
  EXPECT_EQ(successor.completion(0).counter, 0u);
  EXPECT_EQ(successor.completion(9).counter, 0u);
  EXPECT_EQ(successor.Begin().Get(f.cells.b), 9u);
}

TEST(StateBank, RefusesCommitsOfAnOvertakenEpoch) {
  Fixture f;
  StateBank old = f.Attach(1);
  StateTxn open = old.Begin();
  open.Set(f.cells.a, 1);
  StateBank successor = f.Attach(2);
  EXPECT_THAT(old.Commit(open),
              StatusIs(absl::StatusCode::kAborted,
                       HasSubstr("epoch 1 was overtaken by epoch 2")));
  StateTxn late = old.Begin();
  EXPECT_FALSE(late.intact());
  EXPECT_EQ(late.Get(f.cells.a), 0u);
  late.Set(f.cells.a, 1);
  EXPECT_THAT(old.Commit(late),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("overtaken")));
  EXPECT_EQ(successor.Begin().Get(f.cells.a), 0u);
  EXPECT_THAT(StateBank::Attach(f.section(), 1),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("overtaken")));
}

// The other half of the fence: once overtaken, it does not even scribble on
// the bank that its successor is writing.
TEST(StateBank, AnOvertakenTransactionWritesNothing) {
  Fixture f;
  StateBank old = f.Attach(1);
  StateBank successor = f.Attach(2);
  const std::vector<uint64_t> before = f.words;
  StateTxn late = old.Begin();
  late.Set(f.cells.a, 1);
  late.RecordCompletion(0, {1, 2, 3});
  EXPECT_FALSE(old.Commit(late).ok());
  EXPECT_EQ(f.words, before);
}

// Nor when it was opened before, and only commits too late.
TEST(StateBank, AnOvertakenCommitWritesNothing) {
  Fixture f;
  StateBank old = f.Attach(1);
  StateTxn late = old.Begin();
  late.Set(f.cells.a, 1);
  late.RecordCompletion(0, {1, 2, 3});
  StateBank successor = f.Attach(2);
  const std::vector<uint64_t> before = f.words;
  EXPECT_THAT(old.Commit(late),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("overtaken")));
  EXPECT_EQ(f.words, before);
}

// Giving a transaction up copies the bank back; not what is not of the bank.
TEST(StateBank, ReportsAScribbleAfterATransactionThatWasGivenUp) {
  Fixture f;
  StateBank bank = f.Attach(1);
  {
    StateTxn txn = bank.Begin();
    txn.Set(f.cells.a, 5);
    f.CurrentBank()[70] ^= 0x40;
  }
  StateTxn txn = bank.Begin();
  txn.Set(f.cells.b, 6);
  EXPECT_THAT(bank.Commit(txn),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("outside any")));
}

// What a scribble on the bank that is not committed can do: nothing.
TEST(StateBank, TakesNothingFromTheOtherBank) {
  Fixture f;
  StateBank bank = f.Attach(1);
  StateTxn txn = bank.Begin();
  txn.Set(f.cells.a, 5);
  ASSERT_OK(bank.Commit(txn));
  std::memset(f.section().data() + sizeof(StateHeader), 0xee,
              BankStride(f.schema.size, 2));
  txn.Set(f.cells.b, 6);
  ASSERT_OK(bank.Commit(txn));
  StateBank successor = f.Attach(2);
  EXPECT_EQ(successor.Begin().Get(f.cells.a), 5u);
  EXPECT_EQ(successor.Begin().Get(f.cells.b), 6u);
}

TEST(StateBank, ReportsAScribbleOnAnyByteOfTheCurrentBank) {
  const size_t size = CheckedBankSize(Fixture().schema.size, 2);
  for (size_t at = 0; at < size; ++at) {
    Fixture f;
    StateBank bank = f.Attach(1);
    StateTxn txn = bank.Begin();
    txn.Set(f.cells.a, 5);
    ASSERT_OK(bank.Commit(txn));
    f.CurrentBank()[at] ^= 0x40;
    txn.Set(f.cells.b, 6);
    EXPECT_FALSE(txn.intact());
    EXPECT_THAT(bank.Commit(txn),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("outside any")))
        << at;
    EXPECT_THAT(StateBank::Attach(f.section(), 2),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")))
        << at;
  }
}

TEST(StateBank, ReportsAScribbleOnTheCommitWord) {
  Fixture f;
  StateBank bank = f.Attach(1);
  f.words[0] ^= 2;
  EXPECT_THAT(StateBank::Attach(f.section(), 1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("sequence")));
  StateTxn txn = bank.Begin();
  txn.Set(f.cells.a, 1);
  EXPECT_THAT(bank.Commit(txn),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("outside")));
}

TEST(StateBank, ResetStartsFromZeroUnderTheNewEpoch) {
  Fixture f;
  StateBank bank = f.Attach(1);
  StateTxn txn = bank.Begin();
  txn.Set(f.cells.a, 5);
  txn.RecordCompletion(0, {1, 2, 3});
  ASSERT_OK(bank.Commit(txn));
  f.CurrentBank()[70] ^= 1;
  ASSERT_FALSE(StateBank::Attach(f.section(), 2).ok());
  ASSERT_OK(StateBank::Reset(f.section(), 3));
  StateBank fresh = f.Attach(3);
  EXPECT_EQ(fresh.Begin().Get(f.cells.a), 0u);
  EXPECT_EQ(fresh.completion(0).counter, 0u);
  EXPECT_THAT(StateBank::Reset(f.section(), 2),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("overtaken")));
}

TEST(StateBank, RefusesCellsAndQueuesThatAreNotOfThisSegment) {
  Fixture f;
  StateBank bank = f.Attach(1);
  const Cell<uint64_t> unbound("a");
  StateTxn txn = bank.Begin();
  EXPECT_EQ(txn.Get(unbound), 0u);
  txn.Set(f.cells.a, 1);
  EXPECT_THAT(bank.Commit(txn),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not bound")));
  txn.RecordCompletion(2, {1, 2, 3});
  EXPECT_THAT(bank.Commit(txn),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("queue")));
  EXPECT_EQ(bank.Begin().Get(f.cells.a), 0u);
}

TEST(StateBank, RefusesAMalformedSection) {
  Fixture f;
  EXPECT_FALSE(StateBank::Attach({}, 1).ok());
  EXPECT_FALSE(StateBank::Attach(f.section().first(64), 1).ok());
  EXPECT_THAT(StateBank::Attach(f.section(), 0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("epoch")));
  EXPECT_THAT(StateBank::Attach(f.section(), uint64_t{1} << 32),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("epoch")));
  f.section()[offsetof(StateHeader, fields_size)] ^= 8;
  EXPECT_THAT(StateBank::Attach(f.section(), 1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("header")));
}

TEST(StateBank, SerialisesTransactionsOfSeveralThreads) {
  Fixture f;
  StateBank bank = f.Attach(1);
  constexpr int kThreads = 4;
  constexpr int kCommits = 5000;
  std::vector<std::thread> threads;
  for (uint16_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kCommits; ++i) {
        StateTxn txn = bank.Begin();
        txn.Set(f.cells.a, txn.Get(f.cells.a) + 1);
        txn.Set(f.cells.b, txn.Get(f.cells.b) + 2);
        ASSERT_OK(bank.Commit(txn));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  StateTxn txn = bank.Begin();
  EXPECT_EQ(txn.Get(f.cells.a), uint64_t{kThreads} * kCommits);
  EXPECT_EQ(txn.Get(f.cells.b), uint64_t{kThreads} * kCommits * 2);
  EXPECT_EQ(bank.sequence(), uint64_t{kThreads} * kCommits);
}

// A state with bulk data and its undo log.
struct BulkFixture : Fixture {
  StateBank AttachWithBulk(uint64_t epoch) {
    StateBank bank = Attach(epoch);
    EXPECT_OK(bank.AttachBulk(log(), absl::MakeSpan(bulk)));
    return bank;
  }
  absl::Span<uint8_t> log() {
    return {reinterpret_cast<uint8_t*>(log_words.data()), log_words.size() * 8};
  }
  std::vector<uint64_t> log_words = std::vector<uint64_t>(64);
  std::vector<uint8_t> bulk = std::vector<uint8_t>(128);
};

TEST(StateBankBulk, CommitsWithTheFieldsAndRollsBackWithThem) {
  BulkFixture f;
  StateBank bank = f.AttachWithBulk(1);
  {
    StateTxn txn = bank.Begin();
    txn.Set(f.cells.a, 1);
    ASSERT_OK(txn.WriteBulk(4, {1, 2, 3}));
    EXPECT_EQ(bank.bulk()[5], 2);
  }
  EXPECT_EQ(bank.bulk()[5], 0);  // Given up.
  StateTxn txn = bank.Begin();
  ASSERT_OK(txn.WriteBulk(4, {1, 2, 3}));
  ASSERT_OK(bank.Commit(txn));
  EXPECT_EQ(f.AttachWithBulk(2).bulk()[5], 2);
}

TEST(StateBankBulk, ASuccessorPutsBackWhatWasNotCommitted) {
  BulkFixture f;
  StateBank bank = f.AttachWithBulk(1);
  StateTxn txn = bank.Begin();
  ASSERT_OK(txn.WriteBulk(4, {1, 2, 3}));
  EXPECT_EQ(f.bulk[5], 2);
  StateBank successor = f.AttachWithBulk(2);
  EXPECT_EQ(successor.bulk()[5], 0);
  EXPECT_THAT(bank.Commit(txn),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("overtaken")));
  EXPECT_EQ(successor.bulk()[5], 0);
}

TEST(StateBankBulk, AFailedWriteFailsTheTransaction) {
  BulkFixture f;
  StateBank bank = f.AttachWithBulk(1);
  StateTxn txn = bank.Begin();
  ASSERT_OK(txn.WriteBulk(0, {7}));
  EXPECT_THAT(txn.WriteBulk(128, {7}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("bulk")));
  EXPECT_THAT(bank.Commit(txn),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("bulk")));
  EXPECT_EQ(bank.bulk()[0], 0);
  StateBank without = f.Attach(2);
  StateTxn other = without.Begin();
  EXPECT_THAT(other.WriteBulk(0, {7}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("no bulk data")));
  EXPECT_TRUE(without.bulk().empty());
}

TEST(StateBank, KeepsAStateWithoutFieldsAndQueues) {
  std::vector<uint64_t> words(StateSectionSize(0, 0) / 8);
  const absl::Span<uint8_t> section(reinterpret_cast<uint8_t*>(words.data()),
                                    words.size() * 8);
  FormatState(section, 0, 0);
  absl::StatusOr<StateBank> bank = StateBank::Attach(section, 1);
  ASSERT_OK(bank);
  StateTxn txn = bank->Begin();
  EXPECT_TRUE(txn.intact());
  EXPECT_OK(bank->Commit(txn));
}

}  // namespace
}  // namespace holdfast

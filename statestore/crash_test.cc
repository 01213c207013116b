// The state store killed after every instruction that changes a segment. Each
// test prints how many crash states it saw. The controls at the end break one
// rule each and must be caught.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "gtest/gtest.h"
#include "statestore/recover.h"
#include "statestore/segment.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"
#include "statestore/testing/crash_explorer.h"
#include "statestore/testing/sample_segment.h"
#include "statestore/transaction.h"
#include "statestore/undo_log.h"

namespace holdfast {
namespace {

using ::holdfast::testing::AlignedMemory;
using ::holdfast::testing::CrashReport;
using ::holdfast::testing::ExploreCrashes;
using ::holdfast::testing::SampleSpec;
using ::holdfast::testing::StepResult;
using ::holdfast::testing::StepThrough;

constexpr size_t kBulkSize = 64;
constexpr size_t kLogSize = 128;
constexpr uint64_t kOld = 0x1111111111111111;
constexpr uint64_t kNew = 0x2222222222222222;

void Print(const char* what, const CrashReport& report) {
  std::printf("%s: %llu crash states, %llu recoveries, %llu violations\n", what,
              static_cast<unsigned long long>(report.crash_states),
              static_cast<unsigned long long>(report.recoveries),
              static_cast<unsigned long long>(report.violations));
}

void ExpectClean(const char* what, const CrashReport& report) {
  Print(what, report);
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.violations, 0u) << report.first_violation;
}

// State of kWords numbers that are always equal, to each other, to the counter
// of the queue's completion, and to every bulk byte. In memory: state section,
// undo log, bulk data.
template <size_t kWords>
struct Machine {
  struct State {
    static constexpr SchemaId kSchema{"machine", 1};
    Cell<std::array<uint64_t, kWords>> words{"words"};
  };
  static constexpr size_t kStateSize = StateSectionSize(8 * kWords, 1);
  static constexpr size_t kSize = kStateSize + kLogSize + kBulkSize;

  explicit Machine(absl::Span<uint8_t> memory)
      : state(memory.first(kStateSize)),
        log(memory.subspan(kStateSize, kLogSize)),
        bulk(memory.subspan(kStateSize + kLogSize)) {}

  // Bound once, before any child: its instructions are of no interest.
  static const State& cells() {
    static const State* const state =
        new State(*BindState<State>(*DescribeState<State>()));
    return *state;
  }

  StateBank Attach(uint64_t epoch) {
    StateBank bank = *StateBank::Attach(state, epoch);
    if (!bank.AttachBulk(log, bulk).ok()) std::abort();
    return bank;
  }

  // The whole life of a request's effects.
  void Change(StateBank& bank, uint64_t value, bool with_bulk, bool commit) {
    StateTxn txn = bank.Begin();
    std::array<uint64_t, kWords> words;
    words.fill(value);
    txn.Set(cells().words, words);
    txn.RecordCompletion(0, {value, 1, 2});
    if (with_bulk) {
      // Two that overlap, so that the order of rolling back matters.
      const std::vector<uint8_t> bytes(40, static_cast<uint8_t>(value));
      if (!txn.WriteBulk(0, bytes).ok()) std::abort();
      if (!txn.WriteBulk(24, bytes).ok()) std::abort();
    }
    if (commit && !bank.Commit(txn).ok()) std::abort();
  }

  // A machine at kOld under epoch 1, at rest.
  static std::vector<uint8_t> Image() {
    AlignedMemory memory(kSize);
    Machine machine(memory.span());
    FormatState(machine.state, 8 * kWords, 1);
    StateBank bank = machine.Attach(1);
    machine.Change(bank, kOld, /*with_bulk=*/true, /*commit=*/true);
    return {memory.span().begin(), memory.span().end()};
  }

  static void Recover(absl::Span<uint8_t> memory) {
    Machine machine(memory);
    absl::StatusOr<StateBank> bank = StateBank::Attach(machine.state, 2);
    if (bank.ok()) {
      bank->AttachBulk(machine.log, machine.bulk).IgnoreError();
    }
  }

  static std::string Check(absl::Span<uint8_t> memory, bool with_bulk) {
    Machine machine(memory);
    absl::StatusOr<StateBank> bank = StateBank::Attach(machine.state, 3);
    if (!bank.ok()) return std::string(bank.status().message());
    StateTxn txn = bank->Begin();
    const std::array<uint64_t, kWords> words = txn.Get(machine.cells().words);
    const uint64_t value = words[0];
    if (value != kOld && value != kNew) return "a value that nobody wrote";
    for (uint64_t word : words) {
      if (word != value) return "a torn state";
    }
    if (bank->completion(0).counter != value) {
      return "state and completion disagree";
    }
    const uint64_t bulk_value = with_bulk ? value : kOld;
    for (uint8_t byte : machine.bulk) {
      if (byte != static_cast<uint8_t>(bulk_value)) {
        return "state and bulk data disagree";
      }
    }
    return "";
  }

  static CrashReport Explore(bool with_bulk, bool commit, int depth) {
    return ExploreCrashes(
        Image(),
        [=](absl::Span<uint8_t> memory) {
          Machine machine(memory);
          StateBank bank = machine.Attach(1);
          machine.Change(bank, kNew, with_bulk, commit);
        },
        Recover,
        [=](absl::Span<uint8_t> memory) { return Check(memory, with_bulk); },
        depth);
  }

  absl::Span<uint8_t> state;
  absl::Span<uint8_t> log;
  absl::Span<uint8_t> bulk;
};

TEST(CrashAtEveryStore, CommitOf64To1024Bytes) {
  ExpectClean("commit 64", Machine<8>::Explore(false, true, 1));
  ExpectClean("commit 256", Machine<32>::Explore(false, true, 1));
  ExpectClean("commit 1024", Machine<128>::Explore(false, true, 1));
}

TEST(CrashAtEveryStore, CommitWithBulkData) {
  ExpectClean("commit 64 + bulk", Machine<8>::Explore(true, true, 1));
}

TEST(CrashAtEveryStore, TransactionThatIsGivenUp) {
  ExpectClean("abandon 64", Machine<8>::Explore(false, false, 1));
  ExpectClean("abandon 64 + bulk", Machine<8>::Explore(true, false, 1));
}

TEST(CrashAtEveryStore, AlsoInsideRecoveryThreeDeep) {
  ExpectClean("commit 8 + bulk, depth 3", Machine<1>::Explore(true, true, 3));
}

// Whether it ran to the end: the last image is the new state.
TEST(CrashAtEveryStore, ReachesTheNewStateAtTheEnd) {
  std::vector<uint8_t> last;
  StepThrough(
      Machine<8>::Image(),
      [](absl::Span<uint8_t> memory) {
        Machine<8> machine(memory);
        StateBank bank = machine.Attach(1);
        machine.Change(bank, kNew, true, true);
      },
      [&](absl::Span<const uint8_t> image) {
        last.assign(image.begin(), image.end());
      });
  AlignedMemory memory(last.size());
  std::memcpy(memory.span().data(), last.data(), last.size());
  Machine<8> machine(memory.span());
  EXPECT_EQ(machine.Attach(2).completion(0).counter, kNew);
}

TEST(CrashAtEveryStore, ResetOfALostState) {
  std::vector<uint8_t> image = Machine<8>::Image();
  image[sizeof(StateHeader) + 40] ^= 1;
  image[sizeof(StateHeader) + 128 + 40] ^= 1;
  const CrashReport report = ExploreCrashes(
      image,
      [](absl::Span<uint8_t> memory) {
        StateBank::Reset(Machine<8>(memory).state, 2).IgnoreError();
      },
      // A successor finds it lost again, or zero.
      [](absl::Span<uint8_t> memory) {
        const absl::Span<uint8_t> state = Machine<8>(memory).state;
        if (absl::IsDataLoss(StateBank::Attach(state, 2).status())) {
          StateBank::Reset(state, 2).IgnoreError();
        }
      },
      [](absl::Span<uint8_t> memory) -> std::string {
        Machine<8> machine(memory);
        absl::StatusOr<StateBank> bank = StateBank::Attach(machine.state, 2);
        if (!bank.ok()) return std::string(bank.status().message());
        StateTxn txn = bank->Begin();
        return txn.Get(machine.cells().words)[0] == 0 ? "" : "not zero";
      });
  ExpectClean("reset 64", report);
  EXPECT_GE(report.crash_states, 8u);
}

// ---- FormatSegment ----

std::string CheckFormatted(absl::Span<uint8_t> memory) {
  const RecoveryReport report = Recover(memory);
  return report.verdict == RecoveryReport::Verdict::kWhole ? ""
                                                           : report.ToString();
}

// The sample without its large sections, which stay zero.
const SegmentSpec& SmallSpec() {
  static const SegmentSpec* const spec = [] {
    auto* small = new SegmentSpec(SampleSpec());
    small->lane_count = 0;
    small->bulk_size = small->undo_size = 0;
    return small;
  }();
  return *spec;
}

// What OpenSegment does.
void FormatSmall(absl::Span<uint8_t> memory) {
  if (Segment::IsEmpty(memory))
    FormatSegment(memory, SmallSpec()).IgnoreError();
}

CrashReport CutFormatting(uint8_t fill) {
  std::vector<uint8_t> image(*SegmentSize(SmallSpec()), fill);
  std::memset(image.data(), 0, sizeof(kSegmentMagic));
  return ExploreCrashes(image, FormatSmall, FormatSmall, CheckFormatted);
}

TEST(CrashAtEveryStore, FormatSegmentOnZeroMemory) {
  const CrashReport report = CutFormatting(0);
  ExpectClean("format, zero memory", report);
  EXPECT_GT(report.crash_states, 30u);
}

TEST(CrashAtEveryStore, FormatSegmentOverWhatADeadFormatterLeft) {
  const CrashReport report = CutFormatting(0xa5);
  ExpectClean("format, dirty memory", report);
  EXPECT_GT(report.crash_states, 1000u);
}

// ---- Controls: each breaks one rule, and the explorer must see it. ----

// Any order of a commit's three steps, on the layout of docs/state-format.md.
void HandWrittenCommit(absl::Span<uint8_t> memory, const char* order) {
  Machine<8> machine(memory);
  uint8_t* state = machine.state.data();
  const uint64_t word = LoadWord(state);
  CommitWord commit = CommitWord::Unpack(word);
  const size_t stride = BankStride(64, 1);
  uint8_t* current = state + sizeof(StateHeader) + commit.bank * stride;
  uint8_t* other = state + sizeof(StateHeader) + (commit.bank ^ 1) * stride;
  // The bank as it shall be, made apart from the segment.
  AlignedMemory apart(kPageSize);
  std::memcpy(apart.span().data(), memory.data(), memory.size());
  Machine<8> model(apart.span());
  StateBank bank = model.Attach(commit.epoch);
  model.Change(bank, kNew, false, true);
  const uint8_t* made = apart.span().data() + (other - memory.data());
  ++commit.sequence;
  commit.bank ^= 1;
  for (const char* step = order; *step != '\0'; ++step) {
    if (*step == 'w') StoreWord(state, commit.Pack());
    if (*step == 'b') SharedAccess::Copy(other + 16, made + 16, stride - 16);
    if (*step == 's') SharedAccess::Copy(other, made, 16);
    if (*step == 'i') SharedAccess::Copy(current, made, stride);
  }
}

CrashReport CutByHand(const char* order) {
  return ExploreCrashes(
      Machine<8>::Image(),
      [order](absl::Span<uint8_t> memory) { HandWrittenCommit(memory, order); },
      Machine<8>::Recover,
      [](absl::Span<uint8_t> memory) {
        return Machine<8>::Check(memory, /*with_bulk=*/false);
      });
}

TEST(CrashControl, TheRightOrderByHandPasses) {
  ExpectClean("by hand: bank, sums, word", CutByHand("bsw"));
}

TEST(CrashControl, CommitWordBeforeTheBankIsCaught) {
  const CrashReport report = CutByHand("wbs");
  Print("control: word first", report);
  EXPECT_GT(report.violations, 0u);
}

TEST(CrashControl, CommitWithoutSumsIsCaught) {
  const CrashReport report = CutByHand("bw");
  Print("control: no sums", report);
  EXPECT_GT(report.violations, 0u);
}

TEST(CrashControl, WritingTheCurrentBankInPlaceIsCaught) {
  const CrashReport report = CutByHand("i");
  Print("control: in place", report);
  EXPECT_GT(report.violations, 0u);
}

// Without the check of the sums a word flipped too early goes unnoticed at
// recovery, and the torn state would be served.
TEST(CrashControl, SkippingTheChecksumServesATornState) {
  const auto check_without_sums = [](absl::Span<uint8_t> memory) {
    const CommitWord commit = CommitWord::Unpack(LoadWord(memory.data()));
    const uint8_t* fields = memory.data() + sizeof(StateHeader) +
                            commit.bank * BankStride(64, 1) +
                            CheckedBankSize(64, 1) - 64;
    for (size_t i = 8; i < 64; ++i) {
      if (fields[i] != fields[0]) return std::string("served a torn state");
    }
    return std::string();
  };
  const CrashReport report = ExploreCrashes(
      Machine<8>::Image(),
      [](absl::Span<uint8_t> memory) { HandWrittenCommit(memory, "wbs"); },
      [](absl::Span<uint8_t>) {}, check_without_sums);
  Print("control: sums not checked", report);
  EXPECT_GT(report.violations, 0u);
  EXPECT_EQ(report.first_violation, "served a torn state");
}

// Bulk data written before the log is armed.
TEST(CrashControl, UndoArmedAfterTheWriteIsCaught) {
  const auto write_then_arm = [](absl::Span<uint8_t> memory) {
    Machine<8> machine(memory);
    // The armed log, made apart from the segment.
    AlignedMemory apart(kPageSize);
    std::memcpy(apart.span().data(), memory.data(), memory.size());
    Machine<8> model(apart.span());
    StateBank bank = model.Attach(1);
    StateTxn txn = bank.Begin();
    const std::vector<uint8_t> bytes(64, static_cast<uint8_t>(kNew));
    if (!txn.WriteBulk(0, bytes).ok()) std::abort();
    SharedAccess::Copy(machine.bulk.data(), bytes.data(), bytes.size());
    SharedAccess::Copy(machine.log.data() + 8, model.log.data() + 8,
                       kLogSize - 8);
    StoreWord(machine.log.data(), LoadWord(model.log.data()));
  };
  const CrashReport report =
      ExploreCrashes(Machine<8>::Image(), write_then_arm, Machine<8>::Recover,
                     [](absl::Span<uint8_t> memory) {
                       return Machine<8>::Check(memory, true);
                     });
  Print("control: undo armed late", report);
  EXPECT_GT(report.violations, 0u);
  EXPECT_EQ(report.first_violation, "state and bulk data disagree");
}

TEST(CrashControl, MagicFirstIsCaught) {
  const std::vector<uint8_t> image(*SegmentSize(SmallSpec()));
  AlignedMemory apart(image.size());
  FormatSmall(apart.span());
  const CrashReport report = ExploreCrashes(
      image,
      [&apart](absl::Span<uint8_t> memory) {
        // Forward, one word at a time.
        for (size_t at = 0; at < memory.size(); at += sizeof(uint64_t)) {
          StoreWord(memory.data() + at, LoadWord(apart.span().data() + at));
        }
      },
      FormatSmall, CheckFormatted);
  Print("control: magic first", report);
  EXPECT_GT(report.violations, 0u);
}

}  // namespace
}  // namespace holdfast

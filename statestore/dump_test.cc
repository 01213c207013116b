#include "statestore/dump.h"

#include <array>
#include <cmath>
#include <string>

#include "base/testing/matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "statestore/testing/sample_segment.h"

namespace holdfast {
namespace {

using ::holdfast::testing::AlignedMemory;
using ::holdfast::testing::MakeSampleSegment;
using ::holdfast::testing::SampleState;

// The sample segment after one more transaction.
template <typename Change>
RecoveryReport After(Change change) {
  AlignedMemory memory = MakeSampleSegment();
  const Segment segment = *Segment::Attach(memory.span());
  StateBank bank = *StateBank::Attach(segment.section(SectionType::kState), 3);
  StateTxn txn = bank.Begin();
  change(txn, *BindState<SampleState>(segment.schema()));
  EXPECT_OK(bank.Commit(txn));
  return Recover(memory.span());
}

RecoveryReport Sample() { return Recover(MakeSampleSegment().span()); }

TEST(Dump, ShowsEveryFieldByItsStoredName) {
  EXPECT_EQ(Dump(Sample()),
            "verdict: whole\n"
            "device: sample0, epoch 3\n"
            "state: bank 0, commit 2, epoch 3\n"
            "undo: 3 bytes in 1 entries to roll back\n"
            "compat version: 4, queues: 2, lanes: 1, bytes: 24576\n"
            "schema: sample version 2\n"
            "  queue0/completed  record    counter 17, head 3, written 4096\n"
            "  queue1/completed  record    counter 9, head 255, written 1\n"
            "  u8                u8        1\n"
            "  u16               u16       65244\n"
            "  u32               u32       4275878552\n"
            "  u64               u64       18364758544493064720\n"
            "  i8                i8        -1\n"
            "  i16               i16       -2\n"
            "  i32               i32       -3\n"
            "  i64               i64       -4\n"
            "  flag              bool      true\n"
            "  f32               f32       0.5\n"
            "  f64               f64       -0.25\n"
            "  mode              u16       7\n"
            "  array             u16[3]    [1, 2, 3]\n"
            "  raw               bytes[5]  \"0a0b0c0d0e\"\n");
}

TEST(DumpJson, SaysTheSameForPrograms) {
  EXPECT_EQ(
      DumpJson(Sample()),
      "{\"verdict\": \"whole\", \"problems\": [], \"device\": \"sample0\", "
      "\"compat_version\": 4, \"epoch\": 3, \"size\": 24576, \"schema\": "
      "{\"name\": \"sample\", \"version\": 2}, \"commits\": 2, "
      "\"undo_armed\": true, \"state\": {"
      "\"queue0/completed\": {\"counter\": 17, \"head\": 3, \"written\": "
      "4096}, \"queue1/completed\": {\"counter\": 9, \"head\": 255, "
      "\"written\": 1}, \"u8\": 1, \"u16\": 65244, \"u32\": 4275878552, "
      "\"u64\": 18364758544493064720, \"i8\": -1, \"i16\": -2, \"i32\": -3, "
      "\"i64\": -4, \"flag\": true, \"f32\": 0.5, \"f64\": -0.25, \"mode\": "
      "7, \"array\": [1, 2, 3], \"raw\": \"0a0b0c0d0e\"}}");
}

TEST(DumpJson, KeepsToJsonForNumbersThatItCannotWrite) {
  const std::string json =
      DumpJson(After([](StateTxn& txn, const SampleState& cells) {
        txn.Set(cells.f32, INFINITY);
        txn.Set(cells.f64, std::nan(""));
      }));
  EXPECT_THAT(json, ::testing::HasSubstr("\"f32\": \"inf\""));
  EXPECT_THAT(json, ::testing::HasSubstr("\"f64\": \"nan\""));
}

TEST(Dump, ShowsProblemsOfADamagedSegment) {
  AlignedMemory memory = MakeSampleSegment();
  memory.span()[100] = 1;
  const RecoveryReport report = Recover(memory.span());
  EXPECT_EQ(Dump(report),
            "verdict: damaged\nproblem: segment: header checksum differs\n");
  EXPECT_EQ(DumpJson(report),
            "{\"verdict\": \"damaged\", \"problems\": [\"segment: header "
            "checksum differs\"]}");
}

TEST(Diff, IsEmptyForEqualContent) {
  EXPECT_EQ(Diff(Sample(), Sample()), "");
  EXPECT_EQ(DiffJson(Sample(), Sample()), "[]");
  // Another commit that changes nothing visible.
  const RecoveryReport same = After(
      [](StateTxn& txn, const SampleState& cells) { txn.Set(cells.u8, 1); });
  EXPECT_EQ(Diff(Sample(), same), "");
}

TEST(Diff, ShowsWhatChangedFieldByField) {
  const RecoveryReport after =
      After([](StateTxn& txn, const SampleState& cells) {
        txn.Set(cells.u8, 2);
        txn.Set(cells.array, {1, 9, 3});
        txn.RecordCompletion(1, {10, 4, 1});
      });
  EXPECT_EQ(Diff(Sample(), after),
            "queue1/completed: counter 9, head 255, written 1 -> counter 10, "
            "head 4, written 1\n"
            "u8: 1 -> 2\n"
            "array[1]: 2 -> 9\n");
  EXPECT_EQ(DiffJson(Sample(), after),
            "[{\"field\": \"queue1/completed\", \"before\": {\"counter\": 9, "
            "\"head\": 255, \"written\": 1}, \"after\": {\"counter\": 10, "
            "\"head\": 4, \"written\": 1}}, "
            "{\"field\": \"u8\", \"before\": 1, \"after\": 2}, "
            "{\"field\": \"array\", \"before\": [1, 2, 3], \"after\": [1, 9, "
            "3]}]");
}

TEST(Diff, ShowsRunsOfElements) {
  const RecoveryReport after =
      After([](StateTxn& txn, const SampleState& cells) {
        txn.Set(cells.array, {7, 8, 3});
        txn.Set(cells.raw, testing::SampleRaw{{0xa, 1, 2, 0xd, 0}});
      });
  EXPECT_EQ(Diff(Sample(), after),
            "array[0..1]: 1, 2 -> 7, 8\n"
            "raw[1..2]: 0b0c -> 0102\n"
            "raw[4]: 0e -> 00\n");
}

struct LongState {
  static constexpr SchemaId kSchema{"long", 1};
  Cell<std::array<uint8_t, 40>> bytes{"bytes"};
};

TEST(Dump, CutsWhatNobodyReadsButNotInJson) {
  RecoveryReport report;
  report.verdict = RecoveryReport::Verdict::kWhole;
  report.has_layout = report.has_state = true;
  report.layout.schema = *DescribeState<LongState>();
  report.banks[0].fields.assign(report.layout.schema.size, 0);
  RecoveryReport other = report;
  for (uint8_t& byte : other.banks[0].fields) byte = 1;
  EXPECT_THAT(Dump(report), ::testing::EndsWith("0, 0...]\n"));
  EXPECT_THAT(Diff(report, other),
              ::testing::AllOf(::testing::StartsWith("bytes[0..39]: 0, 0"),
                               ::testing::EndsWith("1, 1...\n")));
  EXPECT_THAT(DumpJson(report), ::testing::HasSubstr("0, 0]}"));
}

TEST(Diff, ShowsFieldsOfOneSideAndChangedTypes) {
  RecoveryReport other = Sample();
  std::vector<Field>& fields = other.layout.schema.fields;
  fields[0].name = "renamed";
  fields[1].type.kind = FieldType::Kind::kI16;
  EXPECT_EQ(Diff(Sample(), other),
            "u8: 1 -> absent\n"
            "u16: 65244 (u16) -> -292 (i16)\n"
            "renamed: absent -> 1\n");
}

}  // namespace
}  // namespace holdfast

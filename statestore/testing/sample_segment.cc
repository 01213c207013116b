#include "statestore/testing/sample_segment.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "statestore/format.h"
#include "statestore/state_section.h"

namespace holdfast::testing {
namespace {

void Expect(const absl::Status& status) {
  if (!status.ok()) std::abort();
}

void FirstCommit(StateBank& bank, const SampleState& cells) {
  StateTxn txn = bank.Begin();
  txn.Set(cells.u8, 0xfe);
  txn.Set(cells.u16, 0xfedc);
  txn.Set(cells.u32, 0xfedcba98);
  txn.Set(cells.u64, 0xfedcba9876543210);
  txn.Set(cells.i8, -1);
  txn.Set(cells.i16, -2);
  txn.Set(cells.i32, -3);
  txn.Set(cells.i64, -4);
  txn.Set(cells.flag, true);
  txn.Set(cells.f32, 0.5f);
  txn.Set(cells.f64, -0.25);
  txn.Set(cells.mode, SampleMode::kBusy);
  txn.Set(cells.array, {1, 2, 3});
  txn.Set(cells.raw, SampleRaw{{0xa, 0xb, 0xc, 0xd, 0xe}});
  Expect(bank.Commit(txn));
}

void SecondCommit(StateBank& bank, const SampleState& cells) {
  StateTxn txn = bank.Begin();
  txn.Set(cells.u8, 1);
  txn.RecordCompletion(0, {17, 3, 4096});
  txn.RecordCompletion(1, {9, 255, 1});
  Expect(txn.WriteBulk(100, {'b', 'u', 'l', 'k'}));
  Expect(bank.Commit(txn));
}

// The other bank when a commit was cut: its words are there, its checksum is
// still an earlier one's.
void HalfCommit(absl::Span<uint8_t> section, const SampleState& cells) {
  const StateHeader header = *ReadStateHeader(section);
  const size_t size = CheckedBankSize(header.fields_size, header.queue_count);
  const size_t stride = BankStride(header.fields_size, header.queue_count);
  const uint32_t committed = CommitWord::Unpack(header.commit_word).bank;
  uint8_t* const banks = section.data() + sizeof(header);
  const uint8_t* const from = banks + committed * stride;
  uint8_t* const to = banks + (committed ^ 1) * stride;
  constexpr size_t kWords = offsetof(BankHeader, sequence);
  std::memcpy(to + kWords, from + kWords, size - kWords);
  const uint64_t value = 1;
  std::memcpy(to + size - header.fields_size + cells.u64.offset(), &value,
              sizeof(value));
}

}  // namespace

SegmentSpec SampleSpec() {
  SegmentSpec spec;
  spec.device = "sample0";
  spec.compat_version = 4;
  spec.state = *DescribeState<SampleState>();
  spec.queue_count = 2;
  spec.max_queue_size = 8;
  spec.inflight_size = 200;
  spec.lane_count = 1;
  spec.lane_size = 4096;
  spec.session_size = 64;
  spec.bulk_size = 256;
  spec.undo_size = 256;
  spec.flight_recorder_size = 128;
  spec.crash_record_size = 128;
  return spec;
}

AlignedMemory::AlignedMemory(size_t size)
    : size_(size), pages_(new Page[(size + 4095) / 4096 + 1]()) {}

AlignedMemory MakeSampleSegment() {
  const SegmentSpec spec = SampleSpec();
  AlignedMemory memory(*SegmentSize(spec));
  Expect(FormatSegment(memory.span(), spec));
  const Segment segment = *Segment::Attach(memory.span());
  if (!segment.ClaimEpoch(3)) std::abort();
  const SampleState cells = *BindState<SampleState>(segment.schema());
  StateBank bank = *StateBank::Attach(segment.section(SectionType::kState), 3);
  Expect(bank.AttachBulk(segment.section(SectionType::kUndo),
                         segment.section(SectionType::kBulk)));
  FirstCommit(bank, cells);
  SecondCommit(bank, cells);
  // What a process leaves that dies in the middle of a third one: giving the
  // transaction up would undo its bulk write, so the bytes are taken before.
  StateTxn txn = bank.Begin();
  txn.Set(cells.u64, 1);
  Expect(txn.WriteBulk(102, {'X', 'Y', 'Z'}));
  AlignedMemory dead(memory.span().size());
  std::memcpy(dead.span().data(), memory.span().data(), memory.span().size());
  const Segment torn = *Segment::Attach(dead.span());
  HalfCommit(torn.section(SectionType::kState), cells);
  return dead;
}

}  // namespace holdfast::testing

#include "statestore/recover.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"
#include "statestore/undo_log.h"

namespace holdfast {
namespace {

absl::Span<const uint8_t> SectionOf(absl::Span<const uint8_t> memory,
                                    const SegmentLayout& layout,
                                    SectionType type) {
  const SectionEntry* s = layout.Find(type);
  if (s == nullptr) return {};
  return memory.subspan(s->offset, s->size);
}

RecoveryReport::Bank ReadBank(absl::Span<const uint8_t> bytes,
                              const StateHeader& header) {
  RecoveryReport::Bank bank;
  BankHeader bank_header;
  std::memcpy(&bank_header, bytes.data(), sizeof(bank_header));
  bank.intact = BankIsIntact(bytes, header.fields_size, header.queue_count);
  bank.sequence = bank_header.sequence;
  bank.completions.resize(header.queue_count);
  const size_t records_size = header.queue_count * sizeof(CompletionRecord);
  if (records_size != 0) {
    std::memcpy(bank.completions.data(), bytes.data() + sizeof(bank_header),
                records_size);
  }
  const absl::Span<const uint8_t> fields =
      bytes.subspan(sizeof(bank_header) + records_size, header.fields_size);
  bank.fields.assign(fields.begin(), fields.end());
  return bank;
}

void ExamineState(absl::Span<const uint8_t> section, RecoveryReport& report) {
  const absl::StatusOr<StateHeader> header = ReadStateHeader(section);
  if (!header.ok()) {
    report.problems.emplace_back(header.status().message());
    return;
  }
  if (header->fields_size != report.layout.schema.size ||
      header->queue_count != report.layout.queue_count) {
    report.problems.push_back("state: header does not fit the schema");
    return;
  }
  report.has_state = true;
  report.commit = CommitWord::Unpack(header->commit_word);
  const size_t stride = BankStride(header->fields_size, header->queue_count);
  for (size_t i = 0; i < 2; ++i) {
    report.banks[i] = ReadBank(
        section.subspan(sizeof(StateHeader) + i * stride, stride), *header);
  }
  const RecoveryReport::Bank& current = report.current();
  if (!current.intact) {
    report.problems.push_back(
        absl::StrCat("state: bank ", report.commit.bank,
                     ", the current one, fails its checksum"));
  } else if ((current.sequence & CommitWord::kSequenceMask) !=
             report.commit.sequence) {
    report.problems.push_back(
        "state: the commit word names another sequence than its bank");
  }
}

void ExamineUndoLog(absl::Span<const uint8_t> memory, RecoveryReport& report) {
  const absl::Span<const uint8_t> log =
      SectionOf(memory, report.layout, SectionType::kUndo);
  if (log.empty() || !report.has_state) return;
  const absl::StatusOr<UndoState> undo = InspectUndoLog(
      log, SectionOf(memory, report.layout, SectionType::kBulk).size(),
      report.current().sequence);
  if (!undo.ok()) {
    report.problems.emplace_back(undo.status().message());
    return;
  }
  report.undo_armed = undo->armed;
  report.undo_entries = undo->entries;
  report.undo_bytes = undo->bytes;
}

const char* VerdictName(RecoveryReport::Verdict verdict) {
  switch (verdict) {
    case RecoveryReport::Verdict::kEmpty:
      return "empty";
    case RecoveryReport::Verdict::kWhole:
      return "whole";
    case RecoveryReport::Verdict::kDamaged:
      return "damaged";
  }
  return "?";
}

}  // namespace

RecoveryReport Recover(absl::Span<const uint8_t> memory) {
  RecoveryReport report;
  if (Segment::IsEmpty(memory)) {
    report.verdict = RecoveryReport::Verdict::kEmpty;
    return report;
  }
  absl::StatusOr<SegmentLayout> layout = ReadLayout(memory);
  if (!layout.ok()) {
    report.problems.emplace_back(layout.status().message());
    return report;
  }
  report.has_layout = true;
  report.layout = *std::move(layout);
  report.epoch = LoadWord(memory.data() + offsetof(SegmentHeader, epoch));
  ExamineState(SectionOf(memory, report.layout, SectionType::kState), report);
  ExamineUndoLog(memory, report);
  if (report.problems.empty()) {
    report.verdict = RecoveryReport::Verdict::kWhole;
  }
  return report;
}

std::string RecoveryReport::ToString() const {
  std::string text = absl::StrCat("verdict: ", VerdictName(verdict), "\n");
  for (const std::string& problem : problems) {
    absl::StrAppend(&text, "problem: ", problem, "\n");
  }
  if (has_layout) {
    absl::StrAppend(&text, "device: ", layout.device, ", epoch ", epoch, "\n");
  }
  if (has_state) {
    absl::StrAppend(&text, "state: bank ", commit.bank, ", commit ",
                    current().sequence, ", epoch ", commit.epoch, "\n");
  }
  if (undo_armed) {
    absl::StrAppend(&text, "undo: ", undo_bytes, " bytes in ", undo_entries,
                    " entries to roll back\n");
  }
  return text;
}

}  // namespace holdfast

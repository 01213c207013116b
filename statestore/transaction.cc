#include "statestore/transaction.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"

namespace holdfast {

StateBank::StateBank(uint8_t* section, const StateHeader& header)
    : image_(section, header),
      section_(section),
      fields_offset_(static_cast<uint32_t>(image_.size() - header.fields_size)),
      fields_size_(header.fields_size),
      queue_count_(header.queue_count) {}

const uint8_t* StateBank::current() const {
  return section_ + sizeof(StateHeader) +
         CommitWord::Unpack(LoadWord(section_)).bank *
             BankStride(fields_size_, queue_count_);
}

absl::Status StateBank::TakeOver(uint64_t epoch) {
  if (epoch == 0 || epoch > UINT32_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("state: epoch ", epoch, " is not in 1..2^32-1"));
  }
  uint64_t word = LoadWord(section_);
  for (;;) {
    CommitWord commit = CommitWord::Unpack(word);
    if (commit.epoch > epoch) {
      return absl::AbortedError(absl::StrCat(
          "state: epoch ", epoch, " was overtaken by epoch ", commit.epoch));
    }
    commit.epoch = static_cast<uint32_t>(epoch);
    if (CompareAndSwapWord(section_, word, commit.Pack())) break;
  }
  epoch_ = static_cast<uint32_t>(epoch);
  return absl::OkStatus();
}

absl::StatusOr<StateBank> StateBank::Attach(absl::Span<uint8_t> section,
                                            uint64_t epoch, Threads threads) {
  ASSIGN_OR_RETURN(const StateHeader header, ReadStateHeader(section));
  StateBank result(section.data(), header);
  RETURN_IF_ERROR(result.TakeOver(epoch));
  RETURN_IF_ERROR(result.image_.Load());
  if (threads == Threads::kMany) {
    result.mutex_ = std::make_unique<std::mutex>();
  }
  return result;
}

absl::Status StateBank::Reset(absl::Span<uint8_t> section, uint64_t epoch) {
  ASSIGN_OR_RETURN(const StateHeader header, ReadStateHeader(section));
  StateBank state(section.data(), header);
  RETURN_IF_ERROR(state.TakeOver(epoch));
  uint64_t word = LoadWord(section.data());
  CommitWord commit = CommitWord::Unpack(word);
  if (commit.epoch != state.epoch_) {
    return state.FaultStatus(StateTxn::Fault::kOvertaken);
  }
  commit.bank ^= 1;
  commit.sequence = (commit.sequence + 1) & CommitWord::kSequenceMask;
  const size_t stride = BankStride(header.fields_size, header.queue_count);
  FormatBank(
      section.subspan(sizeof(StateHeader) + commit.bank * stride, stride),
      header.fields_size, header.queue_count, commit.sequence);
  if (!CompareAndSwapWord(section.data(), word, commit.Pack())) {
    return state.FaultStatus(StateTxn::Fault::kOvertaken);
  }
  return absl::OkStatus();
}

absl::Status StateBank::AttachBulk(absl::Span<uint8_t> log,
                                   absl::Span<uint8_t> bulk) {
  ASSIGN_OR_RETURN(UndoLog undo, UndoLog::Attach(log, bulk));
  RETURN_IF_ERROR(undo.RollBack(sequence()));
  undo_ = undo;
  return absl::OkStatus();
}

CompletionRecord StateBank::completion(uint16_t queue) const {
  CompletionRecord record{};
  if (queue < queue_count_) {
    std::memcpy(&record,
                current() + sizeof(BankHeader) + queue * sizeof(record),
                sizeof(record));
  }
  return record;
}

uint64_t StateBank::sequence() const {
  uint64_t sequence;
  std::memcpy(&sequence, current() + offsetof(BankHeader, sequence),
              sizeof(sequence));
  return sequence;
}

absl::Status StateBank::FaultStatus(StateTxn::Fault fault) const {
  switch (fault) {
    case StateTxn::Fault::kNone:
      return absl::OkStatus();
    case StateTxn::Fault::kOvertaken:
      return absl::AbortedError(
          absl::StrCat("state: epoch ", epoch_, " was overtaken by epoch ",
                       CommitWord::Unpack(LoadWord(section_)).epoch));
    case StateTxn::Fault::kScribbled:
      return absl::DataLossError(
          "state: the current bank was changed outside any transaction");
    case StateTxn::Fault::kUnbound:
      return absl::InternalError(
          "state: a cell of the transaction is not bound to this segment");
    case StateTxn::Fault::kNoSuchQueue:
      return absl::InternalError(
          "state: completion recorded for a queue that does not exist");
    case StateTxn::Fault::kBulk:
      return absl::InternalError(
          "state: a write to the bulk data of the transaction failed");
  }
  return absl::InternalError("state: unknown fault");
}

StateTxn::Fault StateBank::Mismatch() const {
  return CommitWord::Unpack(LoadWord(section_)).epoch != epoch_
             ? StateTxn::Fault::kOvertaken
             : StateTxn::Fault::kScribbled;
}

// Ends a transaction that has nothing to commit, or cannot.
absl::Status StateBank::GiveUp(StateTxn& txn) {
  if (!txn.flags_.open) return absl::OkStatus();
  // Without a fault of its own the compare-and-swap has failed.
  if (txn.flags_.dirty) txn.Fail(Mismatch());
  const absl::Status status = FaultStatus(txn.flags_.fault);
  txn.Close();
  return status;
}

absl::Status StateTxn::WriteBulk(size_t offset,
                                 absl::Span<const uint8_t> bytes) {
  if (!flags_.open) Open();
  if (flags_.fault != Fault::kNone || !bank_.undo_.has_value()) {
    return absl::FailedPreconditionError(
        "state: no bulk data, or the transaction has failed");
  }
  flags_.bulk_dirty = flags_.dirty = true;
  absl::Status status =
      bank_.undo_->Write(bank_.image_.sequence(), offset, bytes);
  if (!status.ok()) Fail(Fault::kBulk);
  return status;
}

void StateTxn::Undo() {
  // Once overtaken, the successor rolls back, and this process keeps off.
  if (flags_.bulk_dirty && bank_.Mismatch() != Fault::kOvertaken) {
    // A log that was scribbled on cannot be undone; without it no transaction
    // can write bulk data any more, and the next Attach reports it.
    if (!bank_.undo_->RollBack(bank_.sequence()).ok()) bank_.undo_.reset();
  }
  bank_.image_.Restore();
}

}  // namespace holdfast

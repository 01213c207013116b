#include "statestore/transaction.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "base/crc32c.h"
#include "base/status_macros.h"
#include "statestore/shared_word.h"

namespace holdfast {
namespace {

constexpr size_t kSequenceOffset = offsetof(BankHeader, sequence);
static_assert(sizeof(BankHeader::stripes) == sizeof(Crc32cStripes));

size_t CheckedWords(uint32_t fields_size, uint16_t queue_count) {
  return (CheckedBankSize(fields_size, queue_count) - kSequenceOffset) / 8;
}

uint32_t HeaderCheck(const StateHeader& header) {
  constexpr size_t kFrom = offsetof(StateHeader, fields_size);
  constexpr size_t kTo = offsetof(StateHeader, check);
  return Crc32c(
      {reinterpret_cast<const uint8_t*>(&header) + kFrom, kTo - kFrom});
}

uint64_t SequenceOf(const uint8_t* bank) {
  uint64_t sequence;
  std::memcpy(&sequence, bank + kSequenceOffset, sizeof(sequence));
  return sequence;
}

Crc32cStripes StripesOf(const uint8_t* bank) {
  Crc32cStripes stripes;
  std::memcpy(&stripes, bank, sizeof(stripes));
  return stripes;
}

void Seal(uint8_t* bank, size_t words) {
  const Crc32cStripes sums = Crc32cStriped(bank + kSequenceOffset, words);
  std::memcpy(bank, &sums, sizeof(sums));
}

}  // namespace

absl::StatusOr<StateHeader> ReadStateHeader(absl::Span<const uint8_t> section) {
  if (reinterpret_cast<uintptr_t>(section.data()) % sizeof(uint64_t) != 0) {
    return absl::InvalidArgumentError("state: misaligned section");
  }
  StateHeader header;
  if (section.size() < sizeof(header)) {
    return absl::DataLossError("state: section too short");
  }
  std::memcpy(&header, section.data(), sizeof(header));
  if (header.check != HeaderCheck(header)) {
    return absl::DataLossError("state: header checksum differs");
  }
  if (header.fields_size > kMaxFieldsSize || header.fields_size % 8 != 0 ||
      header.queue_count > kMaxQueues ||
      section.size() !=
          StateSectionSize(header.fields_size, header.queue_count)) {
    return absl::DataLossError("state: header does not fit its section");
  }
  return header;
}

void FormatState(absl::Span<uint8_t> section, uint32_t fields_size,
                 uint16_t queue_count) {
  std::memset(section.data(), 0, section.size());
  StateHeader header{};
  header.fields_size = fields_size;
  header.queue_count = queue_count;
  header.check = HeaderCheck(header);
  std::memcpy(section.data(), &header, sizeof(header));
  for (size_t i = 0; i < 2; ++i) {
    Seal(section.data() + sizeof(header) +
             i * BankStride(fields_size, queue_count),
         CheckedWords(fields_size, queue_count));
  }
}

bool BankIsIntact(absl::Span<const uint8_t> bank, uint32_t fields_size,
                  uint16_t queue_count) {
  if (bank.size() < CheckedBankSize(fields_size, queue_count)) return false;
  return StripesOf(bank.data()) ==
         Crc32cStriped(bank.data() + kSequenceOffset,
                       CheckedWords(fields_size, queue_count));
}

StateBank::StateBank(uint8_t* section, uint32_t fields_size,
                     uint16_t queue_count)
    : section_(section),
      banks_(section + sizeof(StateHeader)),
      stride_(BankStride(fields_size, queue_count)),
      checked_words_(CheckedWords(fields_size, queue_count)),
      fields_offset_(static_cast<uint32_t>(
          CheckedBankSize(fields_size, queue_count) - fields_size)),
      fields_size_(fields_size),
      queue_count_(queue_count) {}

const uint8_t* StateBank::current() const {
  return bank(CommitWord::Unpack(LoadWord(section_)).bank);
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
  StateBank result(section.data(), header.fields_size, header.queue_count);
  RETURN_IF_ERROR(result.TakeOver(epoch));
  if (threads == Threads::kMany) {
    result.mutex_ = std::make_unique<std::mutex>();
  }
  const CommitWord commit = CommitWord::Unpack(LoadWord(section.data()));
  const uint8_t* bank = result.bank(commit.bank);
  if (!BankIsIntact({bank, result.stride_}, header.fields_size,
                    header.queue_count)) {
    return absl::DataLossError(
        absl::StrCat("state: bank ", commit.bank, " fails its checksum"));
  }
  if ((SequenceOf(bank) & CommitWord::kSequenceMask) != commit.sequence) {
    return absl::DataLossError(
        "state: the commit word names another sequence than its bank");
  }
  return result;
}

absl::Status StateBank::Reset(absl::Span<uint8_t> section, uint64_t epoch) {
  ASSIGN_OR_RETURN(const StateHeader header, ReadStateHeader(section));
  StateBank state(section.data(), header.fields_size, header.queue_count);
  RETURN_IF_ERROR(state.TakeOver(epoch));
  uint64_t word = LoadWord(section.data());
  CommitWord commit = CommitWord::Unpack(word);
  if (commit.epoch != state.epoch_) {
    return state.FaultStatus(StateTxn::Fault::kOvertaken);
  }
  commit.bank ^= 1;
  commit.sequence = (commit.sequence + 1) & CommitWord::kSequenceMask;
  uint8_t* bank = state.bank(commit.bank);
  std::memset(bank, 0, state.stride_);
  const uint64_t sequence = commit.sequence;
  std::memcpy(bank + kSequenceOffset, &sequence, sizeof(sequence));
  Seal(bank, state.checked_words_);
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

uint64_t StateBank::sequence() const { return SequenceOf(current()); }

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

absl::Status StateBank::Commit(StateTxn& txn) {
  if (!txn.flags_.open) return absl::OkStatus();
  if (!txn.flags_.dirty || txn.flags_.fault != StateTxn::Fault::kNone) {
    const absl::Status status = FaultStatus(txn.flags_.fault);
    txn.Close();
    return status;
  }
  CommitWord commit = CommitWord::Unpack(txn.word_);
  const uint64_t sequence = SequenceOf(txn.shadow_) + 1;
  std::memcpy(txn.shadow_ + kSequenceOffset, &sequence, sizeof(sequence));
  Seal(txn.shadow_, checked_words_);
  commit.bank ^= 1;
  commit.sequence = static_cast<uint32_t>(sequence);
  uint64_t seen = txn.word_;
  const bool committed = CompareAndSwapWord(section_, seen, commit.Pack());
  // The new sequence has made the undo log void.
  if (committed) txn.flags_.bulk_dirty = false;
  txn.Close();
  if (committed) return absl::OkStatus();
  return FaultStatus(CommitWord::Unpack(seen).epoch != epoch_
                         ? StateTxn::Fault::kOvertaken
                         : StateTxn::Fault::kScribbled);
}

void StateTxn::Open() {
  if (bank_.mutex_ != nullptr) bank_.mutex_->lock();
  flags_.open = true;
  word_ = LoadWord(bank_.section_);
  const CommitWord commit = CommitWord::Unpack(word_);
  // The inactive bank is the successor's once the epoch has moved on.
  if (commit.epoch != bank_.epoch_) return Fail(Fault::kOvertaken);
  const uint8_t* current = bank_.bank(commit.bank);
  shadow_ = bank_.bank(commit.bank ^ 1);
  const Crc32cStripes sums =
      Crc32cStripedCopy(shadow_ + kSequenceOffset, current + kSequenceOffset,
                        bank_.checked_words_);
  if (sums != StripesOf(current) ||
      (SequenceOf(shadow_) & CommitWord::kSequenceMask) != commit.sequence) {
    return Fail(Fault::kScribbled);
  }
}

void StateTxn::Close() {
  if (flags_.bulk_dirty) UndoBulk();
  flags_ = Flags();
  if (bank_.mutex_ != nullptr) bank_.mutex_->unlock();
}

absl::Status StateTxn::WriteBulk(size_t offset,
                                 absl::Span<const uint8_t> bytes) {
  if (!flags_.open) Open();
  if (flags_.fault != Fault::kNone || !bank_.undo_.has_value()) {
    return absl::FailedPreconditionError(
        "state: no bulk data, or the transaction has failed");
  }
  flags_.bulk_dirty = flags_.dirty = true;
  absl::Status status = bank_.undo_->Write(SequenceOf(shadow_), offset, bytes);
  if (!status.ok()) Fail(Fault::kBulk);
  return status;
}

void StateTxn::UndoBulk() {
  // Once overtaken, the successor rolls back, and this process keeps off.
  if (CommitWord::Unpack(LoadWord(bank_.section_)).epoch != bank_.epoch_) {
    return;
  }
  // A log that was scribbled on cannot be undone; without it no transaction
  // can write bulk data any more, and the next Attach reports it.
  if (!bank_.undo_->RollBack(SequenceOf(bank_.current())).ok()) {
    bank_.undo_.reset();
  }
}

void StateTxn::RecordCompletion(uint16_t queue, CompletionRecord record) {
  if (!flags_.open) Open();
  if (flags_.fault != Fault::kNone) return;
  if (queue >= bank_.queue_count_) return Fail(Fault::kNoSuchQueue);
  std::memcpy(shadow_ + sizeof(BankHeader) + queue * sizeof(record), &record,
              sizeof(record));
  flags_.dirty = true;
}

}  // namespace holdfast

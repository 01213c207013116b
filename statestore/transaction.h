#ifndef HOLDFAST_STATESTORE_TRANSACTION_H_
#define HOLDFAST_STATESTORE_TRANSACTION_H_

// Transactions on the state of a device: section kState of a segment, two
// banks of which one is the truth.
//
// The rule of exactly once, stated here and nowhere else: everything durable
// that a request changes, and the fact that this request did it (its
// CompletionRecord), becomes true by one compare-and-swap of the commit word.
// Whoever dies before it has changed nothing, and the request is executed
// again; whoever dies after it has changed everything, and the request is only
// completed again. The word carries the epoch, so an incarnation that was
// overtaken cannot commit any more.
//
// Effects outside the segment (disk writes, packets) are not part of this.

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "statestore/cell.h"
#include "statestore/format.h"
#include "statestore/state_image.h"
#include "statestore/undo_log.h"

namespace holdfast {

class StateBank;

// One transaction. Reads see its own writes. It takes effect by
// StateBank::Commit; destroying it without one leaves no trace. The first use
// opens it: then, with Threads::kMany, other threads' transactions on the same
// bank wait until this one ends, so keep it short and never block inside. A
// StateTxn belongs to one thread. After Commit it may be used again, as a new
// one.
//
// A transaction that cannot succeed any more (the bank fails its checksum, the
// epoch was overtaken, a cell is not bound to this segment) reads zeros, drops
// writes, and says why in Commit.
class StateTxn {
 public:
  explicit StateTxn(StateBank& bank) : bank_(bank) {}
  StateTxn(const StateTxn&) = delete;
  StateTxn& operator=(const StateTxn&) = delete;
  ~StateTxn() {
    if (flags_.open) Close();
  }

  // The value of a field.
  template <typename T>
  T Get(const Cell<T>& cell) {
    if (!flags_.open) Open();
    const uint8_t* field = Find(cell.offset(), sizeof(T));
    if (field == nullptr) return T{};
    if constexpr (std::is_same_v<T, bool>) {
      return *field != 0;
    } else {
      T value;
      std::memcpy(&value, field, sizeof(T));
      return value;
    }
  }

  // Changes a field. The second type is not deduced, so that literals convert.
  template <typename T>
  void Set(const Cell<T>& cell, const std::common_type_t<T>& value) {
    if (!flags_.open) Open();
    uint8_t* field = Find(cell.offset(), sizeof(T));
    if (field == nullptr) return;
    std::memcpy(field, &value, sizeof(T));
    flags_.dirty = true;
  }

  // Says that the effects of this request of `queue` are in this transaction.
  // The previous request of that queue must have been published to the guest
  // before, since its record is replaced.
  void RecordCompletion(uint16_t queue, CompletionRecord record);

  // Changes bulk data together with the fields; StateBank::bulk() reads it, own
  // writes included. After an error the transaction can only be given up.
  // Errors: FailedPrecondition, the segment has no bulk data or the
  // transaction cannot succeed any more; else those of UndoLog::Write.
  absl::Status WriteBulk(size_t offset, absl::Span<const uint8_t> bytes);

  // Whether the state could be read at all; opens the transaction. Ask before
  // acting on the outside world on the strength of what Get returned.
  bool intact() {
    if (!flags_.open) Open();
    return flags_.fault == Fault::kNone;
  }

  // Whether there is anything to commit.
  bool dirty() const { return flags_.dirty; }

 private:
  friend class StateBank;
  enum class Fault : uint8_t {
    kNone,
    kOvertaken,
    kScribbled,
    kUnbound,
    kNoSuchQueue,
    kBulk,
  };

  // Null, and the transaction has failed, if the field is nowhere.
  uint8_t* Find(uint32_t offset, size_t size);
  void Fail(Fault fault) {
    if (flags_.fault == Fault::kNone) flags_.fault = fault;
  }
  void Open();
  void Close();
  void Undo();

  // In one word: a commit waits for every store before it.
  struct Flags {
    bool open = false;
    bool dirty = false;
    bool bulk_dirty = false;
    Fault fault = Fault::kNone;
  };
  StateBank& bank_;
  Flags flags_;
};

// Section kState, attached by the owner. A view: the memory must stay mapped
// and the StateBank must stay where it is while a StateTxn lives. Commits of
// different threads are serialised inside one process; across processes the
// epoch decides. One StateBank per section and epoch. Allocates at Attach only.
class StateBank {
 public:
  // Whether several threads open transactions on this bank. kOne leaves out a
  // mutex (3 ns): then the caller vouches for one open transaction at a time.
  enum class Threads { kOne, kMany };

  // Takes the state over for `epoch` (from 1; below 2^32): from here on commits
  // of lower epochs fail. A crash may have happened at any instruction; there
  // is nothing to repair. Errors: Aborted, a higher epoch has it; DataLoss, the
  // header or the current bank fails its checksum (then see Reset);
  // InvalidArgument.
  static absl::StatusOr<StateBank> Attach(absl::Span<uint8_t> section,
                                          uint64_t epoch,
                                          Threads threads = Threads::kMany);

  // Gives up what the state was: all fields and completions zero, committed
  // under `epoch`. For a device whose state was lost and that tells its driver
  // so. Errors: Aborted; DataLoss when even the header is not to be trusted.
  static absl::Status Reset(absl::Span<uint8_t> section, uint64_t epoch);

  // Gives transactions the bulk data of the segment (sections kUndo and kBulk),
  // after putting back what an unfinished one had changed. Errors: DataLoss,
  // the log is malformed; InvalidArgument, it is too small.
  absl::Status AttachBulk(absl::Span<uint8_t> log, absl::Span<uint8_t> bulk);
  // Empty without AttachBulk.
  absl::Span<const uint8_t> bulk() const {
    return undo_.has_value() ? undo_->bulk() : absl::Span<const uint8_t>();
  }

  StateTxn Begin() { return StateTxn(*this); }

  // Makes what `txn` did true, all of it, and ends it. A transaction that
  // changed nothing commits nothing. Errors, after which nothing has changed:
  // Aborted: a later epoch owns the state, stop at once. DataLoss: somebody
  // wrote over the bank outside any transaction; the device must not go on as
  // if nothing had happened. Internal: a cell or a queue is not of this
  // segment. Never allocates on success.
  absl::Status Commit(StateTxn& txn);

  // The last completion recorded for `queue`; zeros for none or no such queue.
  // For recovery, before transactions start.
  CompletionRecord completion(uint16_t queue) const;

  // Commits since the segment was formatted.
  uint64_t sequence() const;
  uint64_t epoch() const { return epoch_; }
  uint32_t fields_size() const { return fields_size_; }
  uint16_t queue_count() const { return queue_count_; }

 private:
  friend class StateTxn;
  StateBank(uint8_t* section, const StateHeader& header);
  const uint8_t* current() const;  // The bank that the commit word names.
  absl::Status TakeOver(uint64_t epoch);
  StateTxn::Fault Mismatch() const;  // Why the image does not match.
  absl::Status GiveUp(StateTxn& txn);
  absl::Status FaultStatus(StateTxn::Fault fault) const;

  StateImage image_;
  uint8_t* section_;
  uint32_t fields_offset_;  // In a bank.
  uint32_t fields_size_;
  uint32_t epoch_ = 0;
  uint16_t queue_count_;
  std::unique_ptr<std::mutex> mutex_;  // Null: one thread.
  std::optional<UndoLog> undo_;
};

// Inline: for a small state the calls would take longer than the work.

inline uint8_t* StateTxn::Find(uint32_t offset, size_t size) {
  if (flags_.fault == Fault::kNone &&
      uint64_t{offset} + size <= bank_.fields_size_) {
    return bank_.image_.bytes() + bank_.fields_offset_ + offset;
  }
  Fail(Fault::kUnbound);
  return nullptr;
}

inline void StateTxn::RecordCompletion(uint16_t queue,
                                       CompletionRecord record) {
  if (!flags_.open) Open();
  if (flags_.fault != Fault::kNone) return;
  if (queue >= bank_.queue_count_) return Fail(Fault::kNoSuchQueue);
  std::memcpy(
      bank_.image_.bytes() + sizeof(BankHeader) + queue * sizeof(record),
      &record, sizeof(record));
  flags_.dirty = true;
}

inline void StateTxn::Open() {
  if (bank_.mutex_ != nullptr) bank_.mutex_->lock();
  flags_.open = true;
  if (!bank_.image_.Matches()) Fail(bank_.Mismatch());
}

inline void StateTxn::Close() {
  if (flags_.dirty) Undo();
  flags_ = Flags();
  if (bank_.mutex_ != nullptr) bank_.mutex_->unlock();
}

inline absl::Status StateBank::Commit(StateTxn& txn) {
  if (!txn.flags_.dirty || txn.flags_.fault != StateTxn::Fault::kNone ||
      !image_.Commit()) {
    return GiveUp(txn);
  }
  txn.flags_.dirty = false;  // And the new sequence makes the undo log void.
  txn.Close();
  return absl::OkStatus();
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_TRANSACTION_H_

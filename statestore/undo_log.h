#ifndef HOLDFAST_STATESTORE_UNDO_LOG_H_
#define HOLDFAST_STATESTORE_UNDO_LOG_H_

// The undo log: internal state too large to be copied at every commit (sections
// kBulk and kUndo; docs/state-format.md, "Bulk and its undo log").

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace holdfast {

// Bytes that a write of `length` takes in the log.
constexpr size_t UndoEntrySize(size_t length) {
  return 16 + (length + 7) / 8 * 8;
}

// Whether the log of a segment would be rolled back, and whether it can be.
struct UndoState {
  bool armed = false;
  size_t entries = 0;  // That would be rolled back.
  size_t bytes = 0;    // Of old data in them.
};

// Reads the log for a state at `sequence`. Pure; total: DataLoss when the log
// is armed but malformed. `log` is read once.
absl::StatusOr<UndoState> InspectUndoLog(absl::Span<const uint8_t> log,
                                         size_t bulk_size, uint64_t sequence);

// Writes bulk data so that it changes together with the state's commit. Each
// write first saves the old bytes under the sequence of the state that they
// belong to (StateBank::sequence). Committing a transaction raises that
// sequence, which makes the saved bytes void in the same instant: there is no
// second commit. A crash or an abort before it is answered by RollBack.
//
// View of two sections of one segment, which must stay mapped. One thread at a
// time. Never allocates.
class UndoLog {
 public:
  // InvalidArgument: misaligned, or `log` too small for one byte. Reads
  // nothing; call RollBack before the first Write.
  static absl::StatusOr<UndoLog> Attach(absl::Span<uint8_t> log,
                                        absl::Span<uint8_t> bulk);

  // Puts back what was written since the state reached `sequence`; nothing if
  // that is not what the log is armed for. May itself die anywhere and run
  // again. DataLoss: the log is malformed, nothing was changed.
  absl::Status RollBack(uint64_t sequence);

  // Replaces bulk bytes from `offset` on. `bytes` must not lie in the log.
  // OutOfRange: outside the bulk section. ResourceExhausted: the log is full;
  // everything written under this sequence may still be committed or rolled
  // back.
  absl::Status Write(uint64_t sequence, size_t offset,
                     absl::Span<const uint8_t> bytes);

  absl::Span<const uint8_t> bulk() const { return bulk_; }

 private:
  UndoLog(absl::Span<uint8_t> log, absl::Span<uint8_t> bulk)
      : log_(log), bulk_(bulk) {}

  absl::Span<uint8_t> log_;
  absl::Span<uint8_t> bulk_;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_UNDO_LOG_H_

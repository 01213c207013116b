#ifndef HOLDFAST_STATESTORE_RECOVER_H_
#define HOLDFAST_STATESTORE_RECOVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "statestore/format.h"
#include "statestore/segment.h"

namespace holdfast {

// What a successor would find in a segment.
struct RecoveryReport {
  enum class Verdict {
    kEmpty,    // Not formatted: a first start.
    kWhole,    // Every invariant holds: a successor goes on from here.
    kDamaged,  // `problems` says what is wrong; the state is not to be resumed.
  };
  struct Bank {
    bool intact = false;
    uint64_t sequence = 0;
    std::vector<CompletionRecord> completions;  // One a queue.
    std::vector<uint8_t> fields;
  };

  Verdict verdict = Verdict::kDamaged;
  std::vector<std::string> problems;

  // Valid when the header could be read.
  bool has_layout = false;
  SegmentLayout layout;
  uint64_t epoch = 0;

  // Valid when the state section could be read. The other bank is allowed to
  // be anything: a transaction may have been writing it.
  bool has_state = false;
  CommitWord commit{};
  Bank banks[2];
  const Bank& current() const { return banks[commit.bank]; }

  bool undo_armed = false;  // Bulk data would be rolled back.
  size_t undo_entries = 0;
  size_t undo_bytes = 0;

  std::string ToString() const;  // A few lines.
};

// Examines a segment without changing it. Pure; total: any bytes of any size
// give a report. It allocates in proportion to `memory` at most. `memory` is a
// copy that nobody writes (CopySegment) or a segment whose owner is dead.
RecoveryReport Recover(absl::Span<const uint8_t> memory);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_RECOVER_H_

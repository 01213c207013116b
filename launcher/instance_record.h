#ifndef HOLDFAST_LAUNCHER_INSTANCE_RECORD_H_
#define HOLDFAST_LAUNCHER_INSTANCE_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "launcher/restart_policy.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// What the launcher itself must not forget about an instance when it dies: the
// spec and the counters of `holdfast status`. The bytes lie in a memfd that the
// store keeps and the core has mapped; counters are updated in place, so a
// launcher that dies loses nothing. The new launcher takes nothing in it for
// granted. Pure over a byte span; one writer.

// A counted cause: "SIGKILL", 3.
using CauseCount = std::pair<std::string, uint64_t>;

// A child that was alive when the record was written.
struct RecordedChild {
  uint32_t number = 0;
  int32_t pid = 0;
};

// A process of a wrapped back-end.
struct RecordedLife {
  uint32_t number = 0;
  int32_t pid = 0;
  uint64_t started = 0;  // StartTimeOf(pid).
  // Of its connection, see SocketCookie. 0: it is not to be gone on with.
  uint64_t cookie = 0;
};

// Of a wrapped back-end.
struct RecordedBackend {
  std::vector<RecordedLife> lives;  // At most kMaxRecordedLives.
  uint32_t next_life = 1;
  // The first life of the program that the spec names; those before are of
  // another one, which it is to replace.
  uint32_t since = 0;
  RestartPolicy::Saved policy;
  bool denied = false;  // The restart budget was empty.
  // Whether the record says anything of the last two.
  bool has_policy = false;
};

// The last end of a child that nobody had asked for.
struct LastExit {
  std::string cause;  // At most kMaxCauseName bytes; empty: none yet.
  int32_t pid = 0;
  int64_t unix_ns = 0;  // Wall clock, for people: when it was noticed.
};

struct RecordCounters {
  uint32_t next_child = 1;   // The supervisor's next child number.
  uint64_t epoch = 0;        // Promotions so far.
  uint64_t accepted_ns = 0;  // CLOCK_MONOTONIC, when the spec was accepted.
  uint64_t recoveries = 0;
  uint64_t last_recovery_us = 0;
  uint64_t max_recovery_us = 0;
  std::vector<uint32_t> recovery_us;  // The last kMaxRecordedRecoveries.
  LastExit last_exit;
  uint64_t oom_kills = 0;      // Of its control group, reported already.
  uint64_t forks_refused = 0;  // Likewise.
  RestartPolicy::Saved policy;
  bool denied = false;                  // The crash budget was empty.
  std::vector<RecordedChild> children;  // At most kMaxRecordedChildren.
  bool stopping = false;                // An operator has asked for the end.
  std::vector<CauseCount> restarts;     // At most kMaxCauses; then "other".
  RecordedBackend backend;
};

inline constexpr size_t kMaxCauses = 8;
// The active one, the standby, and one that makes room for another.
inline constexpr size_t kMaxRecordedChildren = 4;
// One that works, and a spare.
inline constexpr size_t kMaxRecordedLives = 2;
inline constexpr size_t kMaxCauseName = 47;
// Enough for a median that a single slow one does not move.
inline constexpr size_t kMaxRecordedRecoveries = 64;
// Bytes of the memfd.
inline constexpr size_t kRecordSize = 36 * 1024;

// Writes a new record. Precondition: `memory` has kRecordSize bytes and is
// 8-byte aligned; ValidateSpec(spec) is OK.
void WriteRecord(absl::Span<uint8_t> memory, const LaunchSpec& spec,
                 const RecordCounters& counters);
// Replaces the counters only.
void UpdateRecord(absl::Span<uint8_t> memory, const RecordCounters& counters);

struct ParsedRecord {
  LaunchSpec spec;
  RecordCounters counters;
};
// Of this version or one of the three before. kInvalidArgument or kDataLoss for
// bytes that are no record.
absl::StatusOr<ParsedRecord> ReadRecord(absl::Span<const uint8_t> memory);

// Adds one to `cause`.
void CountCause(std::vector<CauseCount>& restarts, absl::string_view cause);

// Adds a recovery that took `us`.
void CountRecovery(RecordCounters& counters, uint64_t us);
// Of the last kMaxRecordedRecoveries that are known; 0 if none is.
uint64_t MedianRecovery(const RecordCounters& counters);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_INSTANCE_RECORD_H_

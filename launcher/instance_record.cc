#include "launcher/instance_record.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/status_macros.h"

namespace holdfast::launcher {
namespace {

constexpr uint32_t kMagic = 0x43524648;  // "HFRC"
constexpr uint32_t kVersion = 6;

struct RawCause {
  char name[kMaxCauseName + 1];
  uint64_t count;
};
static_assert(sizeof(RawCause) == 56);

struct RawPolicy {
  double tokens;
  uint64_t last_loss_ns;  // 0: none.
  uint64_t credited_until_ns;
  uint32_t in_a_row;
  uint32_t serving;
};

struct RawRecord {
  uint32_t magic;
  uint32_t version;
  uint32_t spec_size;
  uint32_t next_child;
  uint64_t accepted_ns;
  uint64_t recoveries;
  uint64_t last_recovery_us;
  uint64_t max_recovery_us;
  uint64_t oom_kills;
  uint64_t forks_refused;
  uint64_t epoch;
  RawPolicy policy;
  uint32_t denied;
  uint32_t stopping;
  RecordedChild children[kMaxRecordedChildren];  // Unused: number 0.
  RawCause causes[kMaxCauses];
  uint32_t recovery_us[kMaxRecordedRecoveries];
  uint32_t recovery_count;  // Of those, from the first on.
  int32_t last_exit_pid;
  int64_t last_exit_ns;
  char last_exit[kMaxCauseName + 1];
  uint32_t next_life;  // From here on since version 5.
  uint32_t reserved;
  RecordedLife lives[kMaxRecordedLives];  // Unused: number 0.
  uint32_t backend_since;                 // From here on since version 6.
  uint32_t backend_denied;
  RawPolicy backend_policy;
};
static_assert(sizeof(RawRecord) == 1008, "bump kVersion");
static_assert(sizeof(RawRecord) + kMaxSpecBytes <= kRecordSize);

uint64_t NsOf(Uptime time) {
  if (time <= absl::ZeroDuration()) return 0;
  return static_cast<uint64_t>(absl::ToInt64Nanoseconds(time));
}

Uptime TimeOf(uint64_t ns) {
  return absl::Nanoseconds(
      static_cast<int64_t>(std::min<uint64_t>(ns, INT64_MAX)));
}

void PutName(const std::string& name, char (&field)[kMaxCauseName + 1]) {
  std::memset(field, 0, sizeof(field));
  std::memcpy(field, name.data(), std::min(name.size(), kMaxCauseName));
}

std::string NameIn(const char (&field)[kMaxCauseName + 1]) {
  return std::string(field, strnlen(field, kMaxCauseName));
}

RawPolicy ToRaw(const RestartPolicy::Saved& policy) {
  return {policy.tokens, NsOf(policy.last_loss), NsOf(policy.credited_until),
          policy.in_a_row, policy.serving ? 1u : 0u};
}

RestartPolicy::Saved FromRaw(const RawPolicy& raw) {
  RestartPolicy::Saved policy;
  policy.tokens = raw.tokens;
  if (raw.last_loss_ns != 0) policy.last_loss = TimeOf(raw.last_loss_ns);
  policy.credited_until = TimeOf(raw.credited_until_ns);
  policy.in_a_row = raw.in_a_row;
  policy.serving = raw.serving != 0;
  return policy;
}

RecordedBackend BackendIn(const RawRecord& raw) {
  RecordedBackend backend;
  backend.next_life = std::max(raw.next_life, uint32_t{1});
  for (const RecordedLife& life : raw.lives) {
    if (life.number == 0 || life.number == UINT32_MAX || life.pid <= 0) {
      continue;
    }
    backend.lives.push_back(life);
    backend.next_life = std::max(backend.next_life, life.number + 1);
  }
  backend.since = raw.backend_since;
  backend.denied = raw.backend_denied != 0;
  backend.policy = FromRaw(raw.backend_policy);
  backend.has_policy = raw.version == kVersion;
  return backend;
}

// Bytes before the spec; 0: no such version. Version 3 knew neither recoveries
// nor the last exit, version 4 no life of a back-end, version 5 nothing of its
// budget, nor which lives are of its program. A record keeps the
// version that it was made with, and a field that it has no place for is
// forgotten with the launcher.
size_t HeadSize(uint32_t version) {
  switch (version) {
    case 3:
      return offsetof(RawRecord, recovery_us);
    case 4:
      return offsetof(RawRecord, next_life);
    case 5:
      return offsetof(RawRecord, backend_since);
    case kVersion:
      return sizeof(RawRecord);
    default:
      return 0;
  }
}

// Zeros where the record's version has nothing. Precondition: kRecordSize.
RawRecord Load(absl::Span<const uint8_t> memory) {
  RawRecord raw = {};
  uint32_t version;
  std::memcpy(&version, memory.data() + offsetof(RawRecord, version),
              sizeof(version));
  std::memcpy(&raw, memory.data(), HeadSize(version));
  return raw;
}

}  // namespace

void WriteRecord(absl::Span<uint8_t> memory, const LaunchSpec& spec,
                 const RecordCounters& counters) {
  const std::vector<uint8_t> bytes = EncodeSpec(spec);
  RawRecord raw = {};
  raw.magic = kMagic;
  raw.version = kVersion;
  raw.spec_size = static_cast<uint32_t>(bytes.size());
  std::memcpy(memory.data(), &raw, sizeof(raw));
  std::memcpy(memory.data() + sizeof(raw), bytes.data(), bytes.size());
  UpdateRecord(memory, counters);
}

void UpdateRecord(absl::Span<uint8_t> memory, const RecordCounters& counters) {
  RawRecord raw = Load(memory);
  raw.next_child = counters.next_child;
  raw.accepted_ns = counters.accepted_ns;
  raw.recoveries = counters.recoveries;
  raw.last_recovery_us = counters.last_recovery_us;
  raw.max_recovery_us = counters.max_recovery_us;
  raw.oom_kills = counters.oom_kills;
  raw.forks_refused = counters.forks_refused;
  raw.epoch = counters.epoch;
  raw.policy = ToRaw(counters.policy);
  raw.denied = counters.denied ? 1 : 0;
  raw.stopping = counters.stopping ? 1 : 0;
  for (size_t i = 0; i < kMaxRecordedChildren; ++i) {
    raw.children[i] =
        i < counters.children.size() ? counters.children[i] : RecordedChild{};
  }
  for (size_t i = 0; i < kMaxCauses; ++i) {
    raw.causes[i] = {};
    if (i >= counters.restarts.size()) continue;
    PutName(counters.restarts[i].first, raw.causes[i].name);
    raw.causes[i].count = counters.restarts[i].second;
  }
  raw.recovery_count = static_cast<uint32_t>(
      std::min(counters.recovery_us.size(), kMaxRecordedRecoveries));
  std::copy_n(counters.recovery_us.begin(), raw.recovery_count,
              raw.recovery_us);
  raw.last_exit_pid = counters.last_exit.pid;
  raw.last_exit_ns = counters.last_exit.unix_ns;
  PutName(counters.last_exit.cause, raw.last_exit);
  const RecordedBackend& backend = counters.backend;
  for (size_t i = 0; i < kMaxRecordedLives; ++i) {
    raw.lives[i] = i < backend.lives.size() ? backend.lives[i] : RecordedLife{};
  }
  raw.next_life = backend.next_life;
  raw.backend_since = backend.since;
  raw.backend_denied = backend.denied ? 1 : 0;
  raw.backend_policy = ToRaw(backend.policy);
  std::memcpy(memory.data(), &raw, HeadSize(raw.version));
}

absl::StatusOr<ParsedRecord> ReadRecord(absl::Span<const uint8_t> memory) {
  if (memory.size() < kRecordSize) {
    return absl::DataLossError("instance record is too short");
  }
  const RawRecord raw = Load(memory);
  const size_t head = HeadSize(raw.version);
  if (raw.magic != kMagic || head == 0 || raw.spec_size > kMaxSpecBytes) {
    return absl::DataLossError("instance record is malformed");
  }
  ParsedRecord record;
  ASSIGN_OR_RETURN(record.spec,
                   DecodeSpec(memory.subspan(head, raw.spec_size)));
  RecordCounters& counters = record.counters;
  counters.next_child = std::max<uint32_t>(raw.next_child, 1);
  counters.accepted_ns = raw.accepted_ns;
  counters.recoveries = raw.recoveries;
  counters.last_recovery_us = raw.last_recovery_us;
  counters.max_recovery_us = raw.max_recovery_us;
  counters.oom_kills = raw.oom_kills;
  counters.forks_refused = raw.forks_refused;
  counters.epoch = raw.epoch;
  counters.policy = FromRaw(raw.policy);
  counters.denied = raw.denied != 0;
  counters.stopping = raw.stopping != 0;
  for (const RecordedChild& child : raw.children) {
    if (child.number != 0 && child.pid > 0) counters.children.push_back(child);
  }
  for (const RawCause& cause : raw.causes) {
    if (cause.count == 0) continue;
    counters.restarts.emplace_back(NameIn(cause.name), cause.count);
  }
  const size_t recoveries =
      std::min<size_t>(raw.recovery_count, kMaxRecordedRecoveries);
  counters.recovery_us.assign(raw.recovery_us, raw.recovery_us + recoveries);
  counters.last_exit = {NameIn(raw.last_exit), raw.last_exit_pid,
                        raw.last_exit_ns};
  counters.backend = BackendIn(raw);
  return record;
}

void CountCause(std::vector<CauseCount>& restarts, absl::string_view cause) {
  const std::string name(cause.substr(0, kMaxCauseName));
  for (CauseCount& counted : restarts) {
    if (counted.first == name) {
      ++counted.second;
      return;
    }
  }
  if (restarts.size() + 1 < kMaxCauses) {
    restarts.emplace_back(name, 1);
  } else if (restarts.size() < kMaxCauses) {
    restarts.emplace_back("other", 1);
  } else {
    ++restarts.back().second;
  }
}

void CountRecovery(RecordCounters& counters, uint64_t us) {
  ++counters.recoveries;
  counters.last_recovery_us = us;
  counters.max_recovery_us = std::max(counters.max_recovery_us, us);
  std::vector<uint32_t>& times = counters.recovery_us;
  if (times.size() >= kMaxRecordedRecoveries) times.erase(times.begin());
  times.push_back(static_cast<uint32_t>(std::min<uint64_t>(us, UINT32_MAX)));
}

uint64_t MedianRecovery(const RecordCounters& counters) {
  std::vector<uint32_t> times = counters.recovery_us;
  if (times.empty()) return 0;
  const auto middle = times.begin() + times.size() / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace holdfast::launcher

#include "launcher/instance_record.h"

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"

namespace holdfast::launcher {
namespace {

constexpr uint32_t kMagic = 0x43524648;  // "HFRC"
constexpr uint32_t kVersion = 2;

struct RawCause {
  char name[kMaxCauseName + 1];
  uint64_t count;
};
static_assert(sizeof(RawCause) == 56);

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
  uint32_t stopping;
  uint32_t reserved;
  RawCause causes[kMaxCauses];
};
static_assert(sizeof(RawRecord) == 520, "bump kVersion");
static_assert(sizeof(RawRecord) + kMaxSpecBytes <= kRecordSize);

RawRecord Load(absl::Span<const uint8_t> memory) {
  RawRecord raw;
  std::memcpy(&raw, memory.data(), sizeof(raw));
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
  raw.stopping = counters.stopping ? 1 : 0;
  for (size_t i = 0; i < kMaxCauses; ++i) {
    raw.causes[i] = {};
    if (i >= counters.restarts.size()) continue;
    const std::string& name = counters.restarts[i].first;
    std::memcpy(raw.causes[i].name, name.data(),
                std::min(name.size(), kMaxCauseName));
    raw.causes[i].count = counters.restarts[i].second;
  }
  std::memcpy(memory.data(), &raw, sizeof(raw));
}

absl::StatusOr<ParsedRecord> ReadRecord(absl::Span<const uint8_t> memory) {
  if (memory.size() < kRecordSize) {
    return absl::DataLossError("instance record is too short");
  }
  const RawRecord raw = Load(memory);
  if (raw.magic != kMagic || raw.version != kVersion ||
      raw.spec_size > kMaxSpecBytes) {
    return absl::DataLossError("instance record is malformed");
  }
  ParsedRecord record;
  ASSIGN_OR_RETURN(record.spec,
                   DecodeSpec(memory.subspan(sizeof(raw), raw.spec_size)));
  RecordCounters& counters = record.counters;
  counters.next_child = std::max<uint32_t>(raw.next_child, 1);
  counters.accepted_ns = raw.accepted_ns;
  counters.recoveries = raw.recoveries;
  counters.last_recovery_us = raw.last_recovery_us;
  counters.max_recovery_us = raw.max_recovery_us;
  counters.oom_kills = raw.oom_kills;
  counters.forks_refused = raw.forks_refused;
  counters.stopping = raw.stopping != 0;
  for (const RawCause& cause : raw.causes) {
    if (cause.count == 0) continue;
    counters.restarts.emplace_back(
        std::string(cause.name, strnlen(cause.name, kMaxCauseName)),
        cause.count);
  }
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

}  // namespace holdfast::launcher

// DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE.

#include <cstring>

#include "base/status_macros.h"
#include "devices/vfio_user/migration.h"
#include "devices/vfio_user/turn.h"

namespace holdfast::vfio_user {
namespace {

// Writes are noted by pages of this size, whatever the client would like.
constexpr uint64_t kLogPage = 4096;

struct Feature {
  uint32_t index;
  uint32_t methods;
};
constexpr Feature kFeatures[] = {
    {kFeatureMigration, kFeatureGet},
    {kFeatureMigrationState, kFeatureGet | kFeatureSet},
    {kFeatureDmaLoggingStart, kFeatureSet},
    {kFeatureDmaLoggingStop, kFeatureSet},
    {kFeatureDmaLoggingReport, kFeatureGet},
};

// What is offered of a feature; 0: nothing.
uint32_t MethodsOf(uint32_t index) {
  for (const Feature& feature : kFeatures) {
    if (feature.index == index) return feature.methods;
  }
  return 0;
}

bool IsPageSize(uint64_t size) {
  return size >= kLogPage && (size & (size - 1)) == 0;
}

// Reads a T from the beginning of the feature's data.
template <typename T>
absl::Status Take(const Turn& turn, T& value) {
  const absl::Span<const uint8_t> data = turn.request.data;
  if (data.size() < sizeof(T)) {
    return turn.Invalid(data.size(), " bytes of data, at least ", sizeof(T),
                        " are needed");
  }
  std::memcpy(&value, data.data(), sizeof(T));
  return absl::OkStatus();
}

// Begins the reply with all that follows its header: `size` bytes in all.
absl::Status BeginReply(Turn& turn, uint64_t size) {
  const uint64_t whole = sizeof(DeviceFeature) + size;
  if (turn.request.feature.argsz < whole) {
    return turn.Invalid("argsz is ", turn.request.feature.argsz, ", at least ",
                        whole, " are needed");
  }
  turn.writer.Append(
      DeviceFeature{static_cast<uint32_t>(whole), turn.request.feature.flags});
  return absl::OkStatus();
}

absl::Status GetMigrationState(Turn& turn) {
  RETURN_IF_ERROR(BeginReply(turn, sizeof(MigrationStateData)));
  turn.writer.Append(
      MigrationStateData{static_cast<uint32_t>(MigrationOf(turn.next)), 0});
  return absl::OkStatus();
}

absl::Status SetMigrationState(Turn& turn) {
  MigrationStateData data{};
  RETURN_IF_ERROR(Take(turn, data));
  RETURN_IF_ERROR(BeginReply(turn, sizeof(data)));
  const auto goal = static_cast<MigrationState>(data.device_state);
  MigrationState now = MigrationOf(turn.next);
  do {
    const auto next =
        data.device_state <= 0xff ? NextOnTheWay(now, goal) : absl::nullopt;
    if (!next) {
      return turn.Invalid("no way from state ", static_cast<int>(now), " to ",
                          data.device_state);
    }
    if (*next == now) break;
    RETURN_IF_ERROR(turn.environment.EnterState(now, *next));
    const bool goes_on =
        now == MigrationState::kPreCopy && *next == MigrationState::kStopCopy;
    if (!goes_on) turn.next.migrated = 0;
    now = *next;
  } while (now != goal);
  turn.next.migration_state = static_cast<uint8_t>(now) ^ kMigrationRunning;
  turn.writer.Append(data);
  return absl::OkStatus();
}

absl::Status StartLogging(Turn& turn) {
  LoggingControl control{};
  RETURN_IF_ERROR(Take(turn, control));
  const absl::Span<const uint8_t> bytes =
      turn.request.data.subspan(sizeof(control));
  LoggingRange ranges[kMaxLoggingRanges];
  if (!IsPageSize(control.page_size) ||
      control.range_count > kMaxLoggingRanges ||
      bytes.size() != control.range_count * sizeof(LoggingRange)) {
    return turn.Invalid("pages of ", control.page_size, " bytes, ",
                        control.range_count, " ranges in ", bytes.size(),
                        " bytes");
  }
  if (!bytes.empty()) std::memcpy(ranges, bytes.data(), bytes.size());
  for (uint32_t i = 0; i < control.range_count; ++i) {
    if (ranges[i].size == 0 || Wraps(ranges[i].address, ranges[i].size - 1)) {
      return turn.Invalid("range ", i, " is empty or wraps around");
    }
  }
  RETURN_IF_ERROR(BeginReply(turn, turn.request.data.size()));
  RETURN_IF_ERROR(turn.environment.StartLogging(
      kLogPage, absl::MakeConstSpan(ranges, control.range_count)));
  turn.next.logging = 1;
  turn.next.log_page_size = kLogPage;
  control.page_size = kLogPage;
  turn.writer.Append(control);
  turn.writer.AppendBytes(bytes);
  return absl::OkStatus();
}

absl::Status StopLogging(Turn& turn) {
  RETURN_IF_ERROR(BeginReply(turn, 0));
  turn.next.logging = 0;
  turn.next.log_page_size = 0;
  return absl::OkStatus();
}

absl::Status ReportLogging(Turn& turn) {
  LoggingReport report{};
  RETURN_IF_ERROR(Take(turn, report));
  if (turn.next.logging == 0) return turn.Invalid("nothing is noted");
  if (!IsPageSize(report.page_size) || report.size == 0 ||
      report.address % report.page_size != 0 ||
      Wraps(report.address, report.size - 1)) {
    return turn.Invalid("pages of ", report.page_size, " bytes from ",
                        report.address, " + ", report.size);
  }
  const uint64_t pages = (report.size - 1) / report.page_size + 1;
  const uint64_t bitmap_size = ((pages - 1) / 64 + 1) * sizeof(uint64_t);
  if (bitmap_size > turn.next.max_transfer) {
    return turn.Invalid("a bitmap of ", bitmap_size, " bytes, at most ",
                        turn.next.max_transfer, " are sent");
  }
  RETURN_IF_ERROR(BeginReply(turn, sizeof(report) + bitmap_size));
  turn.writer.Append(report);
  const absl::Span<uint8_t> bitmap = turn.writer.AppendSpace(bitmap_size);
  if (bitmap.size() != bitmap_size) return turn.Exhausted("no room to answer");
  std::memset(bitmap.data(), 0, bitmap.size());
  return turn.environment.ReportDirty(report.address, report.size,
                                      report.page_size, bitmap);
}

absl::Status GetOrSet(Turn& turn, uint32_t index, bool get) {
  switch (index) {
    case kFeatureMigration:
      RETURN_IF_ERROR(BeginReply(turn, sizeof(uint64_t)));
      turn.writer.Append(kMigrationStopCopy | kMigrationPreCopy);
      return absl::OkStatus();
    case kFeatureMigrationState:
      return get ? GetMigrationState(turn) : SetMigrationState(turn);
    case kFeatureDmaLoggingStart:
      return StartLogging(turn);
    case kFeatureDmaLoggingStop:
      return StopLogging(turn);
    default:
      return ReportLogging(turn);
  }
}

}  // namespace

absl::Status DecideFeature(Turn& turn) {
  const uint32_t flags = turn.request.feature.flags;
  const uint32_t index = flags & kFeatureIndexMask;
  const uint32_t methods = flags & (kFeatureGet | kFeatureSet);
  const bool probe = (flags & kFeatureProbe) != 0;
  const uint32_t offered = turn.environment.CanMigrate() ? MethodsOf(index) : 0;
  const bool one = methods == kFeatureGet || methods == kFeatureSet;
  if (offered == 0 || (methods & ~offered) != 0 || (!probe && !one) ||
      (flags & ~(kFeatureIndexMask | methods | kFeatureProbe)) != 0) {
    return turn.Invalid("feature ", index, " with flags ", flags,
                        " is not offered");
  }
  if (!probe) return GetOrSet(turn, index, methods == kFeatureGet);
  RETURN_IF_ERROR(BeginReply(turn, turn.request.data.size()));
  turn.writer.AppendBytes(turn.request.data);
  return absl::OkStatus();
}

absl::Status DecideMigrationRead(Turn& turn) {
  const MigrationState now = MigrationOf(turn.next);
  const uint32_t size = turn.request.migration.size;
  if (now != MigrationState::kPreCopy && now != MigrationState::kStopCopy) {
    return turn.Invalid("in state ", static_cast<int>(now));
  }
  if (size > turn.next.max_transfer) {
    return turn.Invalid(size, " bytes, at most ", turn.next.max_transfer,
                        " are allowed");
  }
  const absl::Span<uint8_t> space =
      turn.writer.AppendSpace(sizeof(MigrationData) + size);
  if (space.empty()) return turn.Exhausted("no room to answer");
  ASSIGN_OR_RETURN(
      const size_t read,
      turn.environment.ReadMigrationData(turn.next.migrated,
                                         space.subspan(sizeof(MigrationData))));
  if (read > size) return absl::InternalError("MIG_DATA_READ: too much");
  const MigrationData head{static_cast<uint32_t>(sizeof(MigrationData) + read),
                           static_cast<uint32_t>(read)};
  std::memcpy(space.data(), &head, sizeof(head));
  turn.writer.TakeBack(size - read);
  turn.next.migrated += read;
  return absl::OkStatus();
}

absl::Status DecideMigrationWrite(Turn& turn) {
  const MigrationState now = MigrationOf(turn.next);
  if (now != MigrationState::kResuming) {
    return turn.Invalid("in state ", static_cast<int>(now));
  }
  RETURN_IF_ERROR(turn.environment.WriteMigrationData(turn.next.migrated,
                                                      turn.request.data));
  turn.next.migrated += turn.request.data.size();
  return absl::OkStatus();
}

}  // namespace holdfast::vfio_user

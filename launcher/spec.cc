#include "launcher/spec.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "launcher/wire.h"
#include "statestore/store/backend_resources.h"

namespace holdfast::launcher {
namespace {

constexpr uint64_t kPageSize = 4096;

constexpr uint16_t kFirstVersion = 3;  // That is still read.
constexpr uint16_t kFirstWithDirect = 4;
constexpr uint16_t kFirstWithBackend = 5;
constexpr uint16_t kFirstWithPolls = 6;
constexpr uint16_t kFirstWithSynchronous = 7;

absl::Status Bad(absl::string_view field, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", problem));
}

// Quoted for a message: control characters would forge log lines.
std::string Quoted(absl::string_view text) {
  std::string quoted = "'";
  for (char c : text.substr(0, 64)) quoted += (c < 0x20 || c == 0x7f) ? '?' : c;
  return quoted + "'";
}

bool IsLowerWord(absl::string_view text, char extra) {
  if (text.empty()) return false;
  for (char c : text) {
    const bool ok =
        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == extra;
    if (!ok) return false;
  }
  return true;
}

// Printable or not, a path may hold any byte but NUL.
absl::Status CheckPath(absl::string_view field, const std::string& path,
                       size_t most) {
  if (path.empty()) return Bad(field, "is empty: give an absolute path");
  if (path.size() > most) {
    return Bad(field, absl::StrCat("is ", path.size(),
                                   " bytes long: use at "
                                   "most ",
                                   most));
  }
  if (absl::StrContains(path, '\0')) {
    return Bad(field, "contains a NUL byte: remove it");
  }
  if (path[0] != '/') {
    return Bad(field, absl::StrCat(Quoted(path),
                                   " is not absolute: give the whole path"));
  }
  return absl::OkStatus();
}

absl::Status CheckArguments(absl::string_view name,
                            const std::vector<std::string>& args) {
  if (args.size() > kMaxArguments) {
    return Bad(name, absl::StrCat("has ", args.size(), " entries: use at most ",
                                  kMaxArguments));
  }
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string field = absl::StrCat(name, "[", i, "]");
    if (args[i].size() > kMaxArgument) {
      return Bad(field, absl::StrCat("is longer than ", kMaxArgument,
                                     " bytes: shorten it"));
    }
    if (absl::StrContains(args[i], '\0')) {
      return Bad(field, "contains a NUL byte: remove it");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAccount(absl::string_view field, const std::string& name) {
  bool ok = name.size() <= kMaxAccountName;
  for (char c : name) {
    ok = ok && (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                absl::StrContains("_.@$-", c));
  }
  if (ok) return absl::OkStatus();
  return Bad(field, absl::StrCat(Quoted(name),
                                 " is no name of a user or group: use 1 to ",
                                 kMaxAccountName, " of a-z A-Z 0-9 _ . @ $ -"));
}

absl::Status CheckSocket(const LaunchSpec& spec) {
  if (spec.socket_path.empty()) {
    const char* const needs = "needs a socket_path: give one, or leave it out";
    if (!spec.socket_owner.empty()) return Bad("socket_owner", needs);
    if (!spec.socket_group.empty()) return Bad("socket_group", needs);
    if (spec.socket_mode != 0) return Bad("socket_mode", needs);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckPath("socket_path", spec.socket_path, kMaxSocketPath));
  RETURN_IF_ERROR(CheckAccount("socket_owner", spec.socket_owner));
  RETURN_IF_ERROR(CheckAccount("socket_group", spec.socket_group));
  // Permissions to read and write, 6xx, written in decimal land outside.
  if ((spec.socket_mode & ~0666u) != 0) {
    return Bad("socket_mode",
               absl::StrFormat("%d is %#o: write it in octal, with a 0 in "
                               "front and within 0666, such as 0660",
                               spec.socket_mode, spec.socket_mode));
  }
  return absl::OkStatus();
}

absl::Status CheckResources(const LaunchSpec& spec) {
  if (spec.resources.size() > kMaxResources) {
    return Bad("resources",
               absl::StrCat("has ", spec.resources.size(),
                            " entries: use at most ", kMaxResources));
  }
  std::set<std::string> names;
  for (size_t i = 0; i < spec.resources.size(); ++i) {
    const ResourceSpec& resource = spec.resources[i];
    const std::string field = absl::StrCat("resources[", i, "]");
    if (!IsLowerWord(resource.name, '_') ||
        resource.name.size() > kMaxInstanceName) {
      return Bad(field + ".name",
                 absl::StrCat(Quoted(resource.name),
                              " is not a name: use 1 to 32 of a-z 0-9 _"));
    }
    if (!names.insert(resource.name).second) {
      return Bad(field + ".name", absl::StrCat(Quoted(resource.name),
                                               " stands twice: rename one"));
    }
    RETURN_IF_ERROR(CheckPath(field + ".path", resource.path, kMaxPath));
    if (resource.access == ResourceAccess::kReadWrite &&
        resource.lock == ResourceLock::kShared) {
      return Bad(field + ".lock",
                 "is shared on a writable resource: make access read-only or "
                 "the lock exclusive");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRestart(const RestartLimits& restart) {
  const std::pair<absl::string_view, absl::Duration> durations[] = {
      {"restart.refill_every", restart.refill_every},
      {"restart.backoff_base", restart.backoff_base},
      {"restart.backoff_max", restart.backoff_max},
      {"restart.healthy_after", restart.healthy_after}};
  for (const auto& [field, value] : durations) {
    if (value < absl::ZeroDuration() || value > absl::Hours(24)) {
      return Bad(field, absl::StrCat(absl::FormatDuration(value),
                                     " is out of range: use 0 to 24h"));
    }
  }
  if (restart.budget > 1000000) {
    return Bad("restart.budget", "is above 1000000: use 0 for no limit");
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const LaunchSpec& spec) {
  if (spec.segment_bytes < kMinSegmentBytes ||
      spec.segment_bytes > kMaxSegmentBytes ||
      spec.segment_bytes % kPageSize != 0) {
    return Bad("segment_bytes",
               absl::StrCat(spec.segment_bytes,
                            " is not possible: use a "
                            "multiple of 4096 from ",
                            kMinSegmentBytes, " to ", kMaxSegmentBytes));
  }
  // A child is born with 7 descriptors and needs some for its queues.
  if (spec.limits.open_files < 16 || spec.limits.open_files > 65536) {
    return Bad("limits.open_files", "is out of range: use 16 to 65536");
  }
  if (spec.limits.threads < 1 || spec.limits.threads > 4096) {
    return Bad("limits.threads", "is out of range: use 1 to 4096");
  }
  if (spec.realtime_priority > 49) {
    return Bad("realtime_priority",
               "is above 49: use 1 to 49, below the kernel's own threads, or "
               "0 for none");
  }
  return absl::OkStatus();
}

absl::Status CheckGroupLimits(const GroupLimits& limits) {
  constexpr uint64_t kLeast = 4 << 20;  // A child would not get as far as main.
  if (limits.memory != 0 &&
      (limits.memory < kLeast || limits.memory > uint64_t{1} << 50)) {
    return Bad("group_limits.memory",
               absl::StrCat(limits.memory, " is out of range: use ", kLeast,
                            " bytes to 1 PiB, or 0 for no limit"));
  }
  // The active child and the standby.
  if (limits.tasks != 0 && (limits.tasks < 2 || limits.tasks > 4194304)) {
    return Bad("group_limits.tasks",
               "is out of range: use 2 to 4194304, or 0 for no limit");
  }
  if (limits.cpu_percent > 100000) {
    return Bad("group_limits.cpu_percent",
               "is above 100000: 100 is one processor, 0 is no limit");
  }
  return absl::OkStatus();
}

absl::Status CheckBackend(const LaunchSpec& spec) {
  if (spec.backend.binary.empty()) {
    if (spec.backend.args.empty()) return absl::OkStatus();
    return Bad("backend.binary", "is empty: give the wrapped program's path");
  }
  RETURN_IF_ERROR(CheckPath("backend.binary", spec.backend.binary, kMaxPath));
  RETURN_IF_ERROR(CheckArguments("backend.args", spec.backend.args));
  constexpr size_t kMost = kMaxResources - store::kBackendResourceCount;
  if (spec.resources.size() > kMost) {
    return Bad("resources",
               absl::StrCat("has ", spec.resources.size(),
                            " entries: with a backend, use at most ", kMost));
  }
  for (size_t i = 0; i < spec.resources.size(); ++i) {
    for (const char* taken : store::kBackendResourceNames) {
      if (spec.resources[i].name != taken) continue;
      return Bad(absl::StrCat("resources[", i, "].name"),
                 "is taken by the backend: rename it");
    }
  }
  return absl::OkStatus();
}

void WriteArguments(WireWriter& writer, const std::vector<std::string>& args) {
  writer.U16(static_cast<uint16_t>(args.size()));
  for (const std::string& arg : args) writer.String(arg);
}

bool ReadArguments(WireReader& reader, std::vector<std::string>& args) {
  const size_t count = reader.U16();
  if (count > kMaxArguments) return false;
  for (size_t i = 0; i < count; ++i) {
    args.push_back(reader.String(kMaxArgument));
  }
  return true;
}

void WriteDuration(WireWriter& writer, absl::Duration duration) {
  writer.U64(static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration)));
}
absl::Duration ReadDuration(WireReader& reader) {
  return absl::Nanoseconds(static_cast<int64_t>(reader.U64()));
}

void WriteResources(WireWriter& writer, const LaunchSpec& spec) {
  writer.U16(static_cast<uint16_t>(spec.resources.size()));
  for (const ResourceSpec& resource : spec.resources) {
    writer.String(resource.name);
    writer.String(resource.path);
    writer.Bool(resource.access == ResourceAccess::kReadWrite);
    writer.Bool(resource.kind == ResourceKind::kBlockDevice);
    writer.Bool(resource.lock == ResourceLock::kShared);
    writer.Bool(resource.direct);
  }
}

bool ReadResources(WireReader& reader, uint16_t version, LaunchSpec& spec) {
  const size_t count = reader.U16();
  if (count > kMaxResources) return false;
  for (size_t i = 0; i < count; ++i) {
    ResourceSpec resource;
    resource.name = reader.String(kMaxInstanceName);
    resource.path = reader.String(kMaxPath);
    resource.access =
        reader.Bool() ? ResourceAccess::kReadWrite : ResourceAccess::kReadOnly;
    resource.kind =
        reader.Bool() ? ResourceKind::kBlockDevice : ResourceKind::kFile;
    resource.lock =
        reader.Bool() ? ResourceLock::kShared : ResourceLock::kExclusive;
    if (version >= kFirstWithDirect) resource.direct = reader.Bool();
    spec.resources.push_back(std::move(resource));
  }
  return true;
}

}  // namespace

absl::Status ValidateSpec(const LaunchSpec& spec) {
  if (!IsLowerWord(spec.name, '-') || spec.name.size() > kMaxInstanceName) {
    return Bad("name", absl::StrCat(Quoted(spec.name),
                                    " is not an instance name: use 1 to 32 of "
                                    "a-z 0-9 -"));
  }
  RETURN_IF_ERROR(CheckPath("binary", spec.binary, kMaxPath));
  RETURN_IF_ERROR(CheckArguments("args", spec.args));
  RETURN_IF_ERROR(CheckSocket(spec));
  RETURN_IF_ERROR(CheckResources(spec));
  RETURN_IF_ERROR(CheckLimits(spec));
  RETURN_IF_ERROR(CheckGroupLimits(spec.group_limits));
  if (!spec.policy.empty()) {
    RETURN_IF_ERROR(CheckPath("policy", spec.policy, kMaxPath));
  }
  RETURN_IF_ERROR(CheckBackend(spec));
  return CheckRestart(spec.restart);
}

std::vector<uint8_t> EncodeSpec(const LaunchSpec& spec) {
  WireWriter writer;
  writer.U32(kSpecMagic);
  writer.U16(kSpecVersion);
  writer.String(spec.name);
  writer.String(spec.binary);
  WriteArguments(writer, spec.args);
  writer.String(spec.socket_path);
  writer.String(spec.socket_owner);
  writer.String(spec.socket_group);
  writer.U32(spec.socket_mode);
  WriteResources(writer, spec);
  writer.U64(spec.segment_bytes);
  writer.U32(spec.uid);
  writer.U64(spec.limits.open_files);
  writer.U64(spec.limits.threads);
  writer.U64(spec.limits.file_size);
  writer.U64(spec.limits.locked_memory);
  writer.U64(spec.group_limits.memory);
  writer.U32(spec.group_limits.tasks);
  writer.U32(spec.group_limits.cpu_percent);
  writer.String(spec.policy);
  writer.Bool(spec.confined);
  writer.Bool(spec.standby);
  writer.U32(spec.realtime_priority);
  writer.U32(spec.restart.budget);
  WriteDuration(writer, spec.restart.refill_every);
  WriteDuration(writer, spec.restart.backoff_base);
  WriteDuration(writer, spec.restart.backoff_max);
  WriteDuration(writer, spec.restart.healthy_after);
  writer.String(spec.backend.binary);
  WriteArguments(writer, spec.backend.args);
  writer.U8(static_cast<uint8_t>(spec.backend.handover));
  writer.Bool(spec.backend.standby);
  writer.Bool(spec.backend.polls);
  writer.Bool(spec.backend.synchronous);
  return writer.Take();
}

absl::StatusOr<LaunchSpec> DecodeSpec(absl::Span<const uint8_t> bytes) {
  const absl::Status torn =
      absl::InvalidArgumentError("the encoded spec is cut or malformed");
  if (bytes.size() > kMaxSpecBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the encoded spec has ", bytes.size(), " bytes: at most ",
                     kMaxSpecBytes, " are accepted"));
  }
  WireReader reader(bytes);
  if (reader.U32() != kSpecMagic) return torn;
  const uint16_t version = reader.U16();
  if (version < kFirstVersion || version > kSpecVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("the encoded spec has version ", version,
                     ", this launcher knows version ", kSpecVersion,
                     ": use the holdfast and holdfastd of one release"));
  }
  LaunchSpec spec;
  spec.name = reader.String(kMaxInstanceName);
  spec.binary = reader.String(kMaxPath);
  if (!ReadArguments(reader, spec.args)) return torn;
  spec.socket_path = reader.String(kMaxSocketPath);
  spec.socket_owner = reader.String(kMaxAccountName);
  spec.socket_group = reader.String(kMaxAccountName);
  spec.socket_mode = reader.U32();
  if (!ReadResources(reader, version, spec)) return torn;
  spec.segment_bytes = reader.U64();
  spec.uid = reader.U32();
  spec.limits.open_files = reader.U64();
  spec.limits.threads = reader.U64();
  spec.limits.file_size = reader.U64();
  spec.limits.locked_memory = reader.U64();
  spec.group_limits.memory = reader.U64();
  spec.group_limits.tasks = reader.U32();
  spec.group_limits.cpu_percent = reader.U32();
  spec.policy = reader.String(kMaxPath);
  spec.confined = reader.Bool();
  spec.standby = reader.Bool();
  spec.realtime_priority = reader.U32();
  spec.restart.budget = reader.U32();
  spec.restart.refill_every = ReadDuration(reader);
  spec.restart.backoff_base = ReadDuration(reader);
  spec.restart.backoff_max = ReadDuration(reader);
  spec.restart.healthy_after = ReadDuration(reader);
  if (version >= kFirstWithBackend) {
    spec.backend.binary = reader.String(kMaxPath);
    if (!ReadArguments(reader, spec.backend.args)) return torn;
    const uint8_t handover = reader.U8();
    if (handover > static_cast<uint8_t>(BackendHandover::kListeningPath)) {
      return torn;
    }
    spec.backend.handover = static_cast<BackendHandover>(handover);
    spec.backend.standby = reader.Bool();
    if (version >= kFirstWithPolls) spec.backend.polls = reader.Bool();
    if (version >= kFirstWithSynchronous) {
      spec.backend.synchronous = reader.Bool();
    }
  }
  if (!reader.Finished()) return torn;
  RETURN_IF_ERROR(ValidateSpec(spec));
  return spec;
}

}  // namespace holdfast::launcher

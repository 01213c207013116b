#include "launcher/core_protocol.h"

#include <algorithm>
#include <csignal>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "launcher/spec.h"
#include "launcher/wire.h"

namespace holdfast::launcher {
namespace {

// Bounds of the parts of an answer; with them the largest answer, 32 statuses
// or 128 events, stays below kMaxCorePacket.
constexpr size_t kMaxStatuses = 32;
constexpr size_t kMaxWord = 64;
constexpr size_t kMaxText = 256;
constexpr size_t kMaxRestartCauses = 8;
constexpr size_t kMaxDegraded = 8;
constexpr size_t kMaxMessage = 2048;
constexpr size_t kMaxServants = 4;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, " is malformed"));
}

absl::Status CheckVersion(absl::string_view what, uint16_t version) {
  if (version == kCoreProtocolVersion) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " has protocol version ", version, ", this is version ",
      kCoreProtocolVersion, ": use programs of one release"));
}

void WriteText(WireWriter& writer, absl::string_view text, size_t most) {
  writer.String(text.substr(0, most));
}

void WriteTexts(WireWriter& w, const std::vector<std::string>& texts) {
  const size_t count = std::min(texts.size(), kMaxDegraded);
  w.U16(static_cast<uint16_t>(count));
  for (size_t i = 0; i < count; ++i) WriteText(w, texts[i], kMaxText);
}

bool ReadTexts(WireReader& r, std::vector<std::string>& texts) {
  const size_t count = r.U16();
  if (count > kMaxDegraded) return false;
  for (size_t i = 0; i < count; ++i) texts.push_back(r.String(kMaxText));
  return r.ok();
}

void WriteStatus(WireWriter& w, const InstanceStatus& s) {
  WriteText(w, s.name, kMaxInstanceName);
  WriteText(w, s.state, kMaxWord);
  WriteText(w, s.binary, kMaxText);
  WriteText(w, s.socket_path, kMaxSocketPath);
  w.U32(static_cast<uint32_t>(s.active_pid));
  w.U32(static_cast<uint32_t>(s.standby_pid));
  w.Bool(s.standby_ready);
  w.Bool(s.connected);
  w.U64(s.epoch);
  w.U64(s.uptime_us);
  w.U64(s.recoveries);
  w.U64(s.last_recovery_us);
  w.U64(s.max_recovery_us);
  w.U64(s.median_recovery_us);
  WriteText(w, s.last_exit_cause, kMaxWord);
  w.U32(static_cast<uint32_t>(s.last_exit_pid));
  w.U64(static_cast<uint64_t>(s.last_exit_unix_ns));
  w.U64(s.segment_bytes);
  w.U32(s.crash_budget);
  const size_t causes = std::min(s.restarts.size(), kMaxRestartCauses);
  w.U16(static_cast<uint16_t>(causes));
  for (size_t i = 0; i < causes; ++i) {
    WriteText(w, s.restarts[i].first, kMaxWord);
    w.U64(s.restarts[i].second);
  }
  WriteTexts(w, s.degraded);
  WriteText(w, s.backend.binary, kMaxText);
  WriteText(w, s.backend.state, kMaxWord);
  w.U32(static_cast<uint32_t>(s.backend.pid));
  w.U32(static_cast<uint32_t>(s.backend.spare_pid));
  w.U64(s.backend.lives);
  WriteText(w, s.backend.tracking, kMaxWord);
}

bool ReadStatus(WireReader& r, InstanceStatus& s) {
  s.name = r.String(kMaxInstanceName);
  s.state = r.String(kMaxWord);
  s.binary = r.String(kMaxText);
  s.socket_path = r.String(kMaxSocketPath);
  s.active_pid = static_cast<int32_t>(r.U32());
  s.standby_pid = static_cast<int32_t>(r.U32());
  s.standby_ready = r.Bool();
  s.connected = r.Bool();
  s.epoch = r.U64();
  s.uptime_us = r.U64();
  s.recoveries = r.U64();
  s.last_recovery_us = r.U64();
  s.max_recovery_us = r.U64();
  s.median_recovery_us = r.U64();
  s.last_exit_cause = r.String(kMaxWord);
  s.last_exit_pid = static_cast<int32_t>(r.U32());
  s.last_exit_unix_ns = static_cast<int64_t>(r.U64());
  s.segment_bytes = r.U64();
  s.crash_budget = r.U32();
  const size_t causes = r.U16();
  if (causes > kMaxRestartCauses) return false;
  for (size_t i = 0; i < causes; ++i) {
    std::string cause = r.String(kMaxWord);
    const uint64_t count = r.U64();
    s.restarts.emplace_back(std::move(cause), count);
  }
  if (!ReadTexts(r, s.degraded)) return false;
  s.backend.binary = r.String(kMaxText);
  s.backend.state = r.String(kMaxWord);
  s.backend.pid = static_cast<int32_t>(r.U32());
  s.backend.spare_pid = static_cast<int32_t>(r.U32());
  s.backend.lives = r.U64();
  s.backend.tracking = r.String(kMaxWord);
  return true;
}

void WriteServant(WireWriter& w, const ServantStatus& s) {
  WriteText(w, s.name, kMaxWord);
  w.U32(static_cast<uint32_t>(s.pid));
  w.U64(s.lost);
  WriteText(w, s.last_loss, kMaxWord);
  WriteTexts(w, s.degraded);
}

bool ReadServant(WireReader& r, ServantStatus& s) {
  s.name = r.String(kMaxWord);
  s.pid = static_cast<int32_t>(r.U32());
  s.lost = r.U64();
  s.last_loss = r.String(kMaxWord);
  return ReadTexts(r, s.degraded);
}

void WriteEvent(WireWriter& w, const LaunchEvent& e) {
  w.U64(e.sequence);
  w.U64(static_cast<uint64_t>(e.unix_ns));
  WriteText(w, e.type, kMaxWord);
  WriteText(w, e.instance, kMaxInstanceName);
  w.U32(static_cast<uint32_t>(e.pid));
  WriteText(w, e.cause, kMaxWord);
  w.U64(e.microseconds);
  WriteText(w, e.detail, kMaxText);
}

bool ReadEvent(WireReader& r, LaunchEvent& e) {
  e.sequence = r.U64();
  e.unix_ns = static_cast<int64_t>(r.U64());
  e.type = r.String(kMaxWord);
  e.instance = r.String(kMaxInstanceName);
  e.pid = static_cast<int32_t>(r.U32());
  e.cause = r.String(kMaxWord);
  e.microseconds = r.U64();
  e.detail = r.String(kMaxText);
  return r.ok();
}

}  // namespace

int SignalOf(Fault fault) {
  switch (fault) {
    case Fault::kKill:
      return SIGKILL;
    case Fault::kStop:
      return SIGSTOP;
    case Fault::kSegv:
      return SIGSEGV;
  }
  return SIGKILL;
}

std::vector<uint8_t> EncodeRequest(const Request& request) {
  WireWriter writer;
  writer.U16(kCoreProtocolVersion);
  writer.U16(static_cast<uint16_t>(request.op));
  writer.U32(request.tag);
  WriteText(writer, request.instance, kMaxInstanceName + 1);
  writer.Bytes(request.spec);
  writer.U8(static_cast<uint8_t>(request.fault));
  writer.U8(static_cast<uint8_t>(request.target));
  writer.U64(request.since);
  writer.Bool(request.wait);
  WriteText(writer, request.file, kMaxSpecFileName);
  WriteText(writer, request.refusal, kMaxRefusal);
  return writer.Take();
}

absl::StatusOr<Request> DecodeRequest(absl::Span<const uint8_t> bytes) {
  WireReader reader(bytes);
  const uint16_t version = reader.U16();
  if (!reader.ok()) return Malformed("request");
  if (absl::Status status = CheckVersion("request", version); !status.ok()) {
    return status;
  }
  Request request;
  const uint16_t op = reader.U16();
  request.op = static_cast<Op>(op);
  request.tag = reader.U32();
  // One more than allowed: the answer then says "no such instance".
  request.instance = reader.String(kMaxInstanceName + 1);
  request.spec = reader.Bytes(kMaxSpecBytes);
  const uint8_t fault = reader.U8();
  const uint8_t target = reader.U8();
  request.since = reader.U64();
  request.wait = reader.Bool();
  request.file = reader.String(kMaxSpecFileName);
  request.refusal = reader.String(kMaxRefusal);
  if (!reader.Finished()) return Malformed("request");
  if (op < static_cast<uint16_t>(Op::kRun) ||
      op > static_cast<uint16_t>(Op::kReplace) ||
      fault > static_cast<uint8_t>(Fault::kSegv) ||
      target > static_cast<uint8_t>(FaultTarget::kBackend)) {
    return Malformed("request");
  }
  request.fault = static_cast<Fault>(fault);
  request.target = static_cast<FaultTarget>(target);
  return request;
}

std::vector<uint8_t> EncodeAnswer(const Answer& answer) {
  WireWriter writer;
  writer.U16(kCoreProtocolVersion);
  writer.U32(answer.tag);
  writer.U32(static_cast<uint32_t>(answer.status.code()));
  WriteText(writer, answer.status.message(), kMaxMessage);
  const size_t statuses = std::min(answer.statuses.size(), kMaxStatuses);
  writer.U16(static_cast<uint16_t>(statuses));
  for (size_t i = 0; i < statuses; ++i) WriteStatus(writer, answer.statuses[i]);
  const size_t servants = std::min(answer.servants.size(), kMaxServants);
  writer.U16(static_cast<uint16_t>(servants));
  for (size_t i = 0; i < servants; ++i) {
    WriteServant(writer, answer.servants[i]);
  }
  const size_t events = std::min(answer.events.size(), kMaxEventsInAnswer);
  writer.U16(static_cast<uint16_t>(events));
  for (size_t i = 0; i < events; ++i) WriteEvent(writer, answer.events[i]);
  writer.U64(answer.last_sequence);
  writer.U64(answer.events_lost);
  WriteText(writer, answer.file.name, kMaxSpecFileName);
  WriteText(writer, answer.file.text, kMaxSpecText);
  return writer.Take();
}

absl::StatusOr<Answer> DecodeAnswer(absl::Span<const uint8_t> bytes) {
  WireReader reader(bytes);
  const uint16_t version = reader.U16();
  if (!reader.ok()) return Malformed("answer");
  if (absl::Status status = CheckVersion("answer", version); !status.ok()) {
    return status;
  }
  Answer answer;
  answer.tag = reader.U32();
  const uint32_t code = reader.U32();
  const std::string message = reader.String(kMaxMessage);
  if (code > static_cast<uint32_t>(absl::StatusCode::kUnauthenticated)) {
    return Malformed("answer");
  }
  answer.status = absl::Status(static_cast<absl::StatusCode>(code), message);
  const size_t statuses = reader.U16();
  if (statuses > kMaxStatuses) return Malformed("answer");
  answer.statuses.resize(statuses);
  for (InstanceStatus& status : answer.statuses) {
    if (!ReadStatus(reader, status)) return Malformed("answer");
  }
  const size_t servants = reader.U16();
  if (servants > kMaxServants) return Malformed("answer");
  answer.servants.resize(servants);
  for (ServantStatus& servant : answer.servants) {
    if (!ReadServant(reader, servant)) return Malformed("answer");
  }
  const size_t events = reader.U16();
  if (events > kMaxEventsInAnswer) return Malformed("answer");
  answer.events.resize(events);
  for (LaunchEvent& event : answer.events) {
    if (!ReadEvent(reader, event)) return Malformed("answer");
  }
  answer.last_sequence = reader.U64();
  answer.events_lost = reader.U64();
  answer.file.name = reader.String(kMaxSpecFileName);
  answer.file.text = reader.String(kMaxSpecText);
  if (!reader.Finished()) return Malformed("answer");
  return answer;
}

}  // namespace holdfast::launcher

#include "launcher/cli/render.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace holdfast::cli {
namespace {

using Row = std::vector<std::string>;

std::string Clean(std::string text) {
  for (char& c : text) {
    if ((c >= 0 && c < 0x20) || c == 0x7f) c = '?';
  }
  return text;
}

std::string OrDash(std::string text) {
  return text.empty() ? "-" : Clean(std::move(text));
}

std::string Pid(int32_t pid) { return pid == 0 ? "-" : absl::StrCat(pid); }

std::string Microseconds(uint64_t us) {
  if (us < 10000) return absl::StrCat(us, "us");
  return absl::StrFormat("%.1fms", static_cast<double>(us) / 1000);
}

// A moment before now.
std::string Ago(uint64_t us) {
  if (us < 1000) return "now";
  if (us < 1000000) return absl::StrCat(us / 1000, "ms ago");
  if (us < 120000000) return absl::StrCat(us / 1000000, "s ago");
  if (us < 7200000000) return absl::StrCat(us / 60000000, "min ago");
  return absl::StrCat(us / 3600000000, "h ago");
}

std::string Time(int64_t unix_ns, absl::string_view format) {
  return absl::FormatTime(format, absl::FromUnixNanos(unix_ns),
                          absl::UTCTimeZone());
}

std::string Uptime(uint64_t us) {
  const uint64_t seconds = us / 1000000;
  if (seconds < 3600) {
    return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  }
  if (seconds < 86400) {
    return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
  }
  return absl::StrFormat("%dd%02dh", seconds / 86400, seconds / 3600 % 24);
}

std::string Table(const std::vector<Row>& rows) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      absl::StrAppend(&text, row[i],
                      std::string(widths[i] - row[i].size() + 2, ' '));
    }
    absl::StrAppend(&text, row.back(), "\n");
  }
  return text;
}

std::string Standby(const v1::InstanceStatus& status) {
  if (status.standby_pid() == 0) return "-";
  return absl::StrCat(status.standby_pid(),
                      status.standby_ready() ? "" : " (not ready)");
}

std::string Losses(const v1::InstanceStatus& status) {
  return absl::StrJoin(
      status.restarts(), ", ", [](std::string* out, const auto& restart) {
        absl::StrAppend(out, restart.count(), " x ", Clean(restart.cause()));
      });
}

std::string Recoveries(const v1::InstanceStatus& status) {
  if (status.recoveries() == 0) return "0";
  std::string median;
  if (status.median_recovery_us() != 0) {
    median = absl::StrCat("median ", Microseconds(status.median_recovery_us()),
                          ", ");
  }
  return absl::StrCat(status.recoveries(), " (last ",
                      Microseconds(status.last_recovery_us()), ", ", median,
                      "longest ", Microseconds(status.max_recovery_us()), ")");
}

std::string LastExit(const v1::InstanceStatus& status) {
  if (!status.has_last_exit()) return "-";
  const v1::InstanceStatus::Exit& exit = status.last_exit();
  return absl::StrCat(Clean(exit.cause()), ", pid ", exit.pid(), ", ",
                      Time(exit.unix_ns(), "%Y-%m-%dT%H:%M:%SZ"));
}

Row QueueRow(const v1::QueueFigures& queue) {
  return {
      absl::StrCat(queue.queue()),
      absl::StrCat(queue.requests()),
      absl::StrCat(queue.in_flight()),
      queue.has_last_answer_ago_us() ? Ago(queue.last_answer_ago_us()) : "-",
      absl::StrCat(queue.resubmitted()),
      absl::StrCat(queue.errors()),
      absl::StrCat(queue.poisoned())};
}

std::string PoisonText(const v1::QueueFigures& queue) {
  const v1::QueueFigures::Poisoned& last = queue.last_poisoned();
  return absl::StrCat("poisoned: queue ", queue.queue(), ": the request at ",
                      "descriptor ", last.head(), " killed ", last.deaths(),
                      " processes and was answered with an error ",
                      Ago(last.ago_us()), "\n");
}

// One row for each of `texts`, without the word that they all begin with.
template <typename Texts>
void AddDegraded(const Texts& texts, const std::string& of,
                 std::vector<Row>& rows) {
  for (const std::string& text : texts) {
    rows.push_back({"degraded:", of + Clean(std::string(absl::StripPrefix(
                                          text, "degraded: ")))});
  }
}

// What the next process of it knows of the requests that were in flight.
std::string RecoveryOf(const std::string& tracking) {
  constexpr struct {
    const char* tracking;
    const char* meaning;
  } kLevels[] = {
      {"offered", "exact, by its own in-flight region (level A)"},
      {"forced", "exact, by an in-flight region forced on it (level B)"},
      {"in-order", "in order: what was in flight is done again (level C)"},
      {"shadow", "exact, by shadow rings, at a cost (level E)"},
  };
  for (const auto& level : kLevels) {
    if (tracking == level.tracking) {
      return absl::StrCat("recovery ", level.meaning);
    }
  }
  return absl::StrCat("recovery ", OrDash(tracking));
}

}  // namespace

std::string RenderList(const v1::ListResponse& list) {
  std::vector<Row> rows = {{"NAME", "STATE", "ACTIVE", "STANDBY", "VMM",
                            "UPTIME", "RECOVERIES", "LAST"}};
  for (const v1::InstanceStatus& status : list.instances()) {
    rows.push_back(
        {OrDash(status.name()), OrDash(status.state()),
         Pid(status.active_pid()), Standby(status),
         status.connected() ? "connected" : "-", Uptime(status.uptime_us()),
         absl::StrCat(status.recoveries()),
         status.recoveries() == 0 ? "-"
                                  : Microseconds(status.last_recovery_us())});
  }
  return Table(rows);
}

std::string RenderStatus(const v1::InstanceStatus& status) {
  std::vector<Row> rows = {
      {"name:", OrDash(status.name())},
      {"state:", OrDash(status.state())},
      {"binary:", OrDash(status.binary())},
      {"socket:", OrDash(status.socket_path())},
      {"VMM:", status.connected() ? "connected" : "not connected"},
      {"active:", Pid(status.active_pid())},
      {"standby:", Standby(status)},
      {"epoch:", absl::StrCat(status.epoch())},
      {"commits:", status.segment().error().empty()
                       ? absl::StrCat(status.segment().commits())
                       : "-"},
      {"uptime:", Uptime(status.uptime_us())},
      {"segment:", absl::StrCat(status.segment_bytes(), " bytes")},
      {"recoveries:", Recoveries(status)},
      {"lost children:", status.restarts().empty() ? "none" : Losses(status)},
      {"last loss:", LastExit(status)},
      {"crash budget:", absl::StrCat(status.crash_budget())}};
  if (status.has_backend()) {
    const v1::InstanceStatus::Backend& backend = status.backend();
    rows.push_back({"back-end:", OrDash(backend.binary())});
    rows.push_back(
        {"", absl::StrCat(OrDash(backend.state()), ", pid ", Pid(backend.pid()),
                          ", spare ", Pid(backend.spare_pid()), ", ",
                          backend.lives(), " lives")});
    rows.push_back({"", RecoveryOf(backend.tracking())});
  }
  AddDegraded(status.degraded(), "", rows);
  if (status.state() == "QUARANTINED") {
    rows.push_back({"why:",
                    "it lost more children than its crash budget allows; a "
                    "connected guest waits, its state is kept"});
    rows.push_back(
        {"what to do:",
         absl::StrCat(
             "read holdfast events and holdfastd's log, mend or replace the "
             "program, then: holdfast restart ",
             OrDash(status.name()))});
  }
  return absl::StrCat(Table(rows), RenderFigures(status.segment()));
}

std::string RenderEverything(const v1::ListResponse& list) {
  std::vector<Row> rows = {{"PROCESS", "PID", "LOST", "LAST"}};
  std::vector<Row> degraded;
  for (const v1::ProcessStatus& process : list.processes()) {
    rows.push_back({OrDash(process.name()), Pid(process.pid()),
                    absl::StrCat(process.lost()), OrDash(process.last_loss())});
    AddDegraded(process.degraded(), OrDash(process.name()) + ": ", degraded);
  }
  std::string text = absl::StrCat(Table(rows), Table(degraded));
  for (const v1::InstanceStatus& status : list.instances()) {
    absl::StrAppend(&text, "\n", RenderStatus(status));
  }
  if (list.instances().empty()) absl::StrAppend(&text, "\nno instances\n");
  return text;
}

std::string RenderFigures(const v1::SegmentFigures& segment) {
  if (!segment.error().empty()) {
    return absl::StrCat("figures: none: ", Clean(segment.error()), "\n");
  }
  std::vector<Row> rows = {{"QUEUE", "REQUESTS", "IN FLIGHT", "LAST ANSWER",
                            "RESUBMITTED", "ERRORS", "POISONED"}};
  std::string notes;
  for (const v1::QueueFigures& queue : segment.queues()) {
    if (!queue.error().empty()) {
      absl::StrAppend(
          &notes, "queue ", queue.queue(),
          ": what its device wrote cannot be: ", Clean(queue.error()), "\n");
      continue;
    }
    rows.push_back(QueueRow(queue));
    if (queue.has_last_poisoned()) notes += PoisonText(queue);
  }
  return rows.size() == 1 ? notes : absl::StrCat(Table(rows), notes);
}

std::string RenderFiguresDiff(const v1::SegmentFigures& before,
                              const v1::SegmentFigures& after) {
  const int queues = std::min(before.queues_size(), after.queues_size());
  std::string text;
  for (int i = 0; i < queues; ++i) {
    const v1::QueueFigures& from = before.queues(i);
    const v1::QueueFigures& to = after.queues(i);
    const auto add = [&](absl::string_view name, uint64_t was, uint64_t is) {
      if (was == is) return;
      absl::StrAppend(&text, "queue ", i, ": ", name, " ", was, " -> ", is,
                      "\n");
    };
    add("requests", from.requests(), to.requests());
    add("in flight", from.in_flight(), to.in_flight());
    add("resubmitted", from.resubmitted(), to.resubmitted());
    add("errors", from.errors(), to.errors());
    add("poisoned", from.poisoned(), to.poisoned());
  }
  return text;
}

// The core's log begins anew with it, and so with its own start.
std::string LostText(const v1::EventsResponse& events) {
  for (const v1::Event& event : events.events()) {
    if (event.type() == "core-started") {
      return "the core was restarted: what the one before had not yet said of "
             "its last moments is lost";
    }
  }
  return "events before these were overwritten";
}

std::string RenderEvents(const v1::EventsResponse& events) {
  std::string text;
  if (events.lost() > 0) absl::StrAppend(&text, "(", LostText(events), ")\n");
  for (const v1::Event& event : events.events()) {
    absl::StrAppend(&text, Time(event.unix_ns(), "%Y-%m-%dT%H:%M:%E3SZ"), " ",
                    event.instance().empty() ? "-" : Clean(event.instance()),
                    " ", Clean(event.type()));
    if (event.pid() != 0) absl::StrAppend(&text, " pid=", event.pid());
    if (!event.cause().empty()) {
      absl::StrAppend(&text, " cause=\"", Clean(event.cause()), "\"");
    }
    if (event.microseconds() != 0) {
      absl::StrAppend(&text, " us=", event.microseconds());
    }
    if (!event.detail().empty()) {
      absl::StrAppend(&text, " ", Clean(event.detail()));
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

std::string RenderText(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(message, &text);
  return text;
}

std::string RenderJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  // Fails only on text that is not UTF-8.
  if (!google::protobuf::util::MessageToJsonString(message, &text, options)
           .ok()) {
    return "{\"error\":\"not printable as JSON\"}\n";
  }
  return text + "\n";
}

}  // namespace holdfast::cli

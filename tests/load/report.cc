#include "tests/load/report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace holdfast::load {
namespace {

constexpr double kMillisecondsPerSecond = 1000;

std::string Quoted(absl::string_view text) {
  return absl::StrCat(
      "\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

}  // namespace

std::string ReportJson(const LoadCounts& counts, const GapRecorder& gaps,
                       const absl::Status& status, double seconds,
                       bool read_back) {
  std::string json = absl::StrCat(
      "{\"clean\":", IsClean(counts, status) ? "true" : "false",
      ",\"status\":", Quoted(status.ToString()), ",\"seconds\":", seconds,
      ",\"operations\":", counts.operations(), ",\"reads\":", counts.reads,
      ",\"writes\":", counts.writes, ",\"flushes\":", counts.flushes,
      ",\"bytes\":", counts.bytes,
      ",\"checked_blocks\":", counts.checked_blocks,
      ",\"read_back\":", read_back ? "true" : "false",
      ",\"errors\":", counts.errors, ",\"bad_blocks\":", counts.bad_blocks());
  for (int i = 1; i < kBlockVerdicts; ++i) {
    absl::StrAppend(&json, ",\"", VerdictName(static_cast<BlockVerdict>(i)),
                    "\":", counts.bad[i]);
  }
  absl::StrAppend(&json, ",\"longest_gap_ms\":",
                  gaps.longest_gap() * kMillisecondsPerSecond,
                  ",\"longest_request_ms\":",
                  gaps.longest_request() * kMillisecondsPerSecond, "}");
  return json;
}

bool IsClean(const LoadCounts& counts, const absl::Status& status) {
  return status.ok() && counts.errors == 0 && counts.bad_blocks() == 0;
}

}  // namespace holdfast::load

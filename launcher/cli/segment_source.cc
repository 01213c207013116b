#include "launcher/cli/segment_source.h"

#include <chrono>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "launcher/api/figures.h"
#include "launcher/cli/files.h"
#include "launcher/cli/render.h"
#include "launcher/spec.h"
#include "statestore/dump.h"
#include "statestore/figures.h"
#include "statestore/format.h"
#include "statestore/recover.h"

namespace holdfast::cli {
namespace {

constexpr char kRemedyOfAFile[] =
    "to save one, holdfast state dump INSTANCE --output=FILE";
constexpr char kRemedyOfAnInstance[] =
    "nothing can be recovered from it: stop the instance and run it again, "
    "which gives it a new one";

absl::Span<const uint8_t> BytesOf(const SegmentSource& source) {
  return absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(source.bytes.data()),
      source.bytes.size());
}

// Their times are of this machine's clock since its start.
v1::SegmentFigures FiguresIn(const SegmentSource& source) {
  return launcher::ToProto(
      ReadFigures(BytesOf(source)),
      std::chrono::nanoseconds(
          std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

absl::Status CheckWhole(const SegmentSource& source,
                        const RecoveryReport& report) {
  if (report.verdict != RecoveryReport::Verdict::kDamaged) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      source.name, report.has_layout ? ": is damaged: " : ": is no segment: ",
      absl::StrJoin(report.problems, "; "), ": ", source.remedy));
}

absl::Status CheckStateOf(const SegmentSource& source,
                          const RecoveryReport& report) {
  if (report.has_state) return absl::OkStatus();
  RETURN_IF_ERROR(CheckWhole(source, report));
  return absl::InvalidArgumentError(absl::StrCat(
      source.name, ": holds no state: its device has not written any yet: ",
      kRemedyOfAFile));
}

}  // namespace

absl::StatusOr<SegmentSource> ReadSegmentFile(const std::string& path) {
  ASSIGN_OR_RETURN(std::string bytes,
                   ReadFile(path, launcher::kMaxSegmentBytes));
  if (bytes.size() < kPageSize) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": is no segment: has ", bytes.size(), " bytes, and one has ",
        kPageSize, " or more: ", kRemedyOfAFile));
  }
  return SegmentSource{path, std::move(bytes), kRemedyOfAFile};
}

SegmentSource SegmentOf(const std::string& instance, std::string bytes) {
  return SegmentSource{"the segment of " + instance, std::move(bytes),
                       kRemedyOfAnInstance};
}

absl::Status CheckState(const SegmentSource& source) {
  return CheckStateOf(source, Recover(BytesOf(source)));
}

absl::Status PrintState(const SegmentSource& source, bool json,
                        std::ostream& out) {
  const RecoveryReport report = Recover(BytesOf(source));
  out << (json ? DumpJson(report) + "\n"
               : Dump(report) + RenderFigures(FiguresIn(source)));
  return CheckWhole(source, report);
}

absl::Status PrintStateDiff(const SegmentSource& before,
                            const SegmentSource& now, bool json,
                            std::ostream& out) {
  const RecoveryReport from = Recover(BytesOf(before));
  RETURN_IF_ERROR(CheckStateOf(before, from));
  const RecoveryReport to = Recover(BytesOf(now));
  RETURN_IF_ERROR(CheckStateOf(now, to));
  if (json) {
    out << DiffJson(from, to) << "\n";
  } else {
    const std::string text =
        Diff(from, to) + RenderFiguresDiff(FiguresIn(before), FiguresIn(now));
    out << (text.empty() ? "nothing differs\n" : text);
  }
  RETURN_IF_ERROR(CheckWhole(before, from));
  return CheckWhole(now, to);
}

}  // namespace holdfast::cli

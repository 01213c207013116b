#ifndef HOLDFAST_TESTS_LOAD_REPORT_H_
#define HOLDFAST_TESTS_LOAD_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "tests/load/gap_recorder.h"
#include "tests/load/verified_load.h"

namespace holdfast::load {

// The outcome of a load as one line of JSON, the same from every program that
// drives one. `status` is why it ended, `seconds` how long the load ran without
// the read-back. Pauses are in milliseconds.
std::string ReportJson(const LoadCounts& counts, const GapRecorder& gaps,
                       const absl::Status& status, double seconds,
                       bool read_back);

// Whether nothing at all was wrong.
bool IsClean(const LoadCounts& counts, const absl::Status& status);

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_REPORT_H_

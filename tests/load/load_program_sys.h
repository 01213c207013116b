#ifndef HOLDFAST_TESTS_LOAD_LOAD_PROGRAM_SYS_H_
#define HOLDFAST_TESTS_LOAD_LOAD_PROGRAM_SYS_H_

#include <cstdint>
#include <string>

#include "absl/flags/declare.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/load/load_runner.h"
#include "tests/load/verified_load.h"

// What the programs that drive a load have in common: their flags, clock and
// the signal that ends them. Defaults are the guest's; a program that wants
// others calls absl::SetFlag before it parses its arguments.
ABSL_DECLARE_FLAG(uint32_t, depth);
ABSL_DECLARE_FLAG(double, seconds);
ABSL_DECLARE_FLAG(uint32_t, max_kib);
ABSL_DECLARE_FLAG(uint32_t, reads_in_256);
ABSL_DECLARE_FLAG(uint32_t, flushes_in_256);
ABSL_DECLARE_FLAG(double, gap_ms);
ABSL_DECLARE_FLAG(double, lost_s);
ABSL_DECLARE_FLAG(bool, read_back);

namespace holdfast::load {

// CLOCK_MONOTONIC in seconds.
double MonotonicSeconds();

// CPU time of this process in seconds.
double CpuSeconds();

// Bytes of the longest request that the flags ask for.
size_t MaxRequestBytes();

// The load that the flags describe on a device of this size; every run has a
// number of its own. INVALID_ARGUMENT if the device is too small for it.
absl::StatusOr<LoadOptions> LoadOptionsFromFlags(uint64_t device_bytes);

RunnerOptions RunnerOptionsFromFlags();

// From here on SIGTERM makes StopRequested() true.
void StopOnSigterm();
bool StopRequested();

// BLK-FINDING lines and, unless `status` is OK, BLK-LOST lines.
void PrintFindings(const VerifiedLoad& load, const LoadRunner& runner,
                   const absl::Status& status);

// Ends the program with 0 if nothing was wrong, else with 1. Without
// destructors if requests are lost: they would wait for them.
void ExitWithVerdict(const LoadCounts& counts, const absl::Status& status);

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_LOAD_PROGRAM_SYS_H_

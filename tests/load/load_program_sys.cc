#include "tests/load/load_program_sys.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "absl/flags/flag.h"
#include "tests/load/report.h"

ABSL_FLAG(uint32_t, depth, 32, "requests in flight");
ABSL_FLAG(double, seconds, 10, "how long to write and read");
ABSL_FLAG(uint64_t, span_mib, 64, "use this much of the device");
ABSL_FLAG(uint32_t, max_kib, 256, "longest request; the shortest is 4 KiB");
ABSL_FLAG(uint32_t, reads_in_256, 80, "share of reads");
ABSL_FLAG(uint32_t, flushes_in_256, 1, "share of flushes");
ABSL_FLAG(double, gap_ms, 5, "list pauses between completions from here on");
ABSL_FLAG(double, lost_s, 30, "give a request up after this many seconds");
ABSL_FLAG(bool, read_back, true, "read and check everything at the end");

namespace holdfast::load {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kKiB = 1 << 10;

volatile sig_atomic_t g_stop = 0;

double Seconds(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) / 1e9;
}

}  // namespace

double MonotonicSeconds() { return Seconds(CLOCK_MONOTONIC); }
double CpuSeconds() { return Seconds(CLOCK_PROCESS_CPUTIME_ID); }

size_t MaxRequestBytes() { return absl::GetFlag(FLAGS_max_kib) * kKiB; }

absl::StatusOr<LoadOptions> LoadOptionsFromFlags(uint64_t device_bytes) {
  LoadOptions options;
  options.run = static_cast<uint64_t>(Seconds(CLOCK_REALTIME) * 1e6);
  options.seed = options.run;
  options.blocks =
      std::min(absl::GetFlag(FLAGS_span_mib) * kMiB, device_bytes) / kBlockSize;
  options.max_request_blocks =
      static_cast<uint32_t>(MaxRequestBytes() / kBlockSize);
  options.reads_in_256 = absl::GetFlag(FLAGS_reads_in_256);
  options.flushes_in_256 = absl::GetFlag(FLAGS_flushes_in_256);
  if (options.max_request_blocks == 0 || absl::GetFlag(FLAGS_depth) == 0 ||
      options.blocks < options.max_request_blocks) {
    return absl::InvalidArgumentError(
        "the device, --depth or --max_kib is too small");
  }
  return options;
}

RunnerOptions RunnerOptionsFromFlags() {
  RunnerOptions options;
  options.depth = absl::GetFlag(FLAGS_depth);
  options.gap_threshold = absl::GetFlag(FLAGS_gap_ms) / 1000;
  options.lost_after = absl::GetFlag(FLAGS_lost_s);
  return options;
}

void StopOnSigterm() {
  signal(SIGTERM, [](int) { g_stop = 1; });
}

bool StopRequested() { return g_stop != 0; }

void PrintFindings(const VerifiedLoad& load, const LoadRunner& runner,
                   const absl::Status& status) {
  for (const std::string& finding : load.findings()) {
    std::printf("BLK-FINDING %s\n", finding.c_str());
  }
  if (status.ok()) return;
  for (const std::string& request : runner.lost_requests()) {
    std::printf("BLK-LOST %s\n", request.c_str());
  }
}

void ExitWithVerdict(const LoadCounts& counts, const absl::Status& status) {
  std::fflush(stdout);
  const int exit_status = IsClean(counts, status) ? 0 : 1;
  if (!status.ok()) _exit(exit_status);
  std::exit(exit_status);
}

}  // namespace holdfast::load

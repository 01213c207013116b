// blkverify: writes and reads a block device at random and verifies every
// block. Runs as the guest's load, and on the host against a file.
//
// On the console, for the harness (tests/harness/console.py):
//   SYNC <now>               maps the guest's clock to the host's
//   BLK-START <now>
//   BLK-PROGRESS <now> <operations>         about every second
//   BLK-FINDING <text>
//   BLK-LOST <text>          a request that never completed
//   BLK-STALL <start> <milliseconds>
//   BLK-RESULT <json>        the last line
// Times are monotonic seconds. Exit status 0: nothing was wrong; 1: something
// was; 2: could not run. SIGTERM ends the load and starts the read-back.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <memory>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "tests/guest/aio_sys.h"
#include "tests/load/load_runner.h"
#include "tests/load/report.h"
#include "tests/load/verified_load.h"

ABSL_FLAG(std::string, device, "", "block device or file, overwritten");
ABSL_FLAG(uint32_t, depth, 32, "requests in flight");
ABSL_FLAG(double, seconds, 10, "how long to write and read");
ABSL_FLAG(uint64_t, span_mib, 64, "use this much of the device");
ABSL_FLAG(uint32_t, max_kib, 256, "longest request; the shortest is 4 KiB");
ABSL_FLAG(double, gap_ms, 5, "list pauses between completions from here on");
ABSL_FLAG(double, lost_s, 30, "give a request up after this many seconds");
ABSL_FLAG(bool, direct, true, "O_DIRECT");
ABSL_FLAG(bool, read_back, true, "read and check everything at the end");
ABSL_FLAG(bool, confirm_read_back, false,
          "wait for a line on standard input before the read-back, so that a "
          "test can damage the device first");

namespace holdfast::guest {
namespace {

constexpr int kSyncLines = 20;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kKiB = 1 << 10;

volatile sig_atomic_t g_stop = 0;

double Now(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) / 1e9;
}

double Now() { return Now(CLOCK_MONOTONIC); }

void PrintSync() {
  for (int i = 0; i < kSyncLines; ++i) {
    std::printf("SYNC %.6f\n", Now());
    usleep(10000);
  }
}

// Says when to stop, and that the load is alive.
class Stopper {
 public:
  Stopper(const load::VerifiedLoad* load, double seconds)
      : load_(load), end_(Now() + seconds), next_progress_(Now() + 1) {}

  bool operator()() {
    const double now = Now();
    if (now >= next_progress_) {
      std::printf(
          "BLK-PROGRESS %.6f %llu\n", now,
          static_cast<unsigned long long>(load_->counts().operations()));
      next_progress_ = now + 1;
    }
    return g_stop != 0 || now >= end_;
  }

 private:
  const load::VerifiedLoad* load_;
  const double end_;
  double next_progress_;
};

load::LoadOptions MakeLoadOptions(uint64_t device_bytes) {
  load::LoadOptions options;
  options.run = static_cast<uint64_t>(Now(CLOCK_REALTIME) * 1e6);
  options.seed = options.run;
  options.blocks =
      std::min(absl::GetFlag(FLAGS_span_mib) * kMiB, device_bytes) /
      load::kBlockSize;
  options.max_request_blocks = static_cast<uint32_t>(
      absl::GetFlag(FLAGS_max_kib) * kKiB / load::kBlockSize);
  options.flushes_in_256 = 1;
  return options;
}

load::RunnerOptions MakeRunnerOptions() {
  load::RunnerOptions options;
  options.depth = absl::GetFlag(FLAGS_depth);
  options.gap_threshold = absl::GetFlag(FLAGS_gap_ms) / 1000;
  options.lost_after = absl::GetFlag(FLAGS_lost_s);
  return options;
}

void PrintDetails(const load::VerifiedLoad& load,
                  const load::LoadRunner& runner, bool lost) {
  for (const std::string& finding : load.findings()) {
    std::printf("BLK-FINDING %s\n", finding.c_str());
  }
  if (lost) {
    for (const std::string& request : runner.lost_requests()) {
      std::printf("BLK-LOST %s\n", request.c_str());
    }
  }
  for (const load::GapRecorder::Gap& gap : runner.gaps().gaps()) {
    std::printf("BLK-STALL %.6f %.3f\n", gap.start, gap.length * 1000);
  }
}

int Main() {
  const auto options = MakeRunnerOptions();
  auto queue =
      AioQueue::Open(absl::GetFlag(FLAGS_device), absl::GetFlag(FLAGS_direct),
                     options.depth, absl::GetFlag(FLAGS_max_kib) * kKiB);
  if (!queue.ok()) {
    std::fprintf(stderr, "blkverify: %s\n", queue.status().ToString().c_str());
    return 2;
  }
  const load::LoadOptions load_options = MakeLoadOptions((*queue)->size());
  if (load_options.max_request_blocks == 0 || options.depth == 0 ||
      load_options.blocks < load_options.max_request_blocks) {
    std::fprintf(stderr, "blkverify: device, --depth or --max_kib too small\n");
    return 2;
  }
  load::VerifiedLoad load(load_options);
  PrintSync();
  const double start = Now();
  std::printf("BLK-START %.6f\n", start);
  load::LoadRunner runner(
      &load, queue->get(), [] { return Now(); }, options);
  absl::Status status =
      runner.Run(Stopper(&load, absl::GetFlag(FLAGS_seconds)));
  const double seconds = Now() - start;
  const bool read_back = status.ok() && absl::GetFlag(FLAGS_read_back);
  if (read_back && absl::GetFlag(FLAGS_confirm_read_back)) {
    std::printf("BLK-CONFIRM\n");
    while (getchar() != '\n' && !feof(stdin)) {
    }
  }
  if (read_back) status = runner.ReadBack();
  PrintDetails(load, runner, !status.ok());
  std::printf("BLK-RESULT %s\n", load::ReportJson(load.counts(), runner.gaps(),
                                                  status, seconds, read_back)
                                     .c_str());
  std::fflush(stdout);
  const int exit_status = load::IsClean(load.counts(), status) ? 0 : 1;
  // With requests that never complete, closing the AIO context would hang.
  if (!status.ok()) _exit(exit_status);
  return exit_status;
}

}  // namespace
}  // namespace holdfast::guest

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  signal(SIGTERM, [](int) { holdfast::guest::g_stop = 1; });
  return holdfast::guest::Main();
}

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

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "tests/guest/aio_sys.h"
#include "tests/load/load_program_sys.h"
#include "tests/load/load_runner.h"
#include "tests/load/report.h"
#include "tests/load/verified_load.h"

ABSL_FLAG(std::string, device, "", "block device or file, overwritten");
ABSL_FLAG(bool, direct, true, "O_DIRECT");
ABSL_FLAG(bool, confirm_read_back, false,
          "wait for a line on standard input before the read-back, so that a "
          "test can damage the device first");

namespace holdfast::guest {
namespace {

constexpr int kSyncLines = 20;

void PrintSync() {
  for (int i = 0; i < kSyncLines; ++i) {
    std::printf("SYNC %.6f\n", load::MonotonicSeconds());
    usleep(10000);
  }
}

// Says when to stop, and that the load is alive.
class Stopper {
 public:
  Stopper(const load::VerifiedLoad* load, double start, double seconds)
      : load_(load), end_(start + seconds), next_progress_(start + 1) {}

  bool operator()() {
    const double now = load::MonotonicSeconds();
    if (now >= next_progress_) {
      std::printf(
          "BLK-PROGRESS %.6f %llu\n", now,
          static_cast<unsigned long long>(load_->counts().operations()));
      next_progress_ = now + 1;
    }
    return load::StopRequested() || now >= end_;
  }

 private:
  const load::VerifiedLoad* load_;
  const double end_;
  double next_progress_;
};

void ConfirmReadBack() {
  if (!absl::GetFlag(FLAGS_confirm_read_back)) return;
  std::printf("BLK-CONFIRM\n");
  while (getchar() != '\n' && !feof(stdin)) {
  }
}

// Does not return when the load ran, whatever came out.
absl::Status Main() {
  const load::RunnerOptions options = load::RunnerOptionsFromFlags();
  ASSIGN_OR_RETURN(
      const std::unique_ptr<AioQueue> queue,
      AioQueue::Open(absl::GetFlag(FLAGS_device), absl::GetFlag(FLAGS_direct),
                     options.depth, load::MaxRequestBytes()));
  ASSIGN_OR_RETURN(const load::LoadOptions load_options,
                   load::LoadOptionsFromFlags(queue->size()));
  load::VerifiedLoad load(load_options);
  PrintSync();
  const double start = load::MonotonicSeconds();
  std::printf("BLK-START %.6f\n", start);
  load::LoadRunner runner(&load, queue.get(), load::MonotonicSeconds, options);
  absl::Status status =
      runner.Run(Stopper(&load, start, absl::GetFlag(FLAGS_seconds)));
  const double seconds = load::MonotonicSeconds() - start;
  const bool read_back = status.ok() && absl::GetFlag(FLAGS_read_back);
  if (read_back) {
    ConfirmReadBack();
    status = runner.ReadBack();
  }
  load::PrintFindings(load, runner, status);
  for (const load::GapRecorder::Gap& gap : runner.gaps().gaps()) {
    std::printf("BLK-STALL %.6f %.3f\n", gap.start, gap.length * 1000);
  }
  std::printf("BLK-RESULT %s\n", load::ReportJson(load.counts(), runner.gaps(),
                                                  status, seconds, read_back)
                                     .c_str());
  load::ExitWithVerdict(load.counts(), status);
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::guest

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  holdfast::load::StopOnSigterm();
  const absl::Status status = holdfast::guest::Main();
  std::fprintf(stderr, "blkverify: %s\n", status.ToString().c_str());
  return 2;
}

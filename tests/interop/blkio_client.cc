// blkio_client: loads a vhost-user-blk back-end over libblkio and verifies
// every block: a strict front-end that needs no guest.
//
// Prints BLK-FINDING and BLK-LOST lines, then one line of JSON. Times are
// CLOCK_MONOTONIC, as Python's time.monotonic(). Exit status 0: nothing was
// wrong; 1: something was; 2: could not run. The library ends the process with
// SIGABRT when a request completes twice. SIGTERM ends the load and starts the
// read-back.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/interop/blkio_api_sys.h"
#include "tests/interop/blkio_queue_sys.h"
#include "tests/load/load_runner.h"
#include "tests/load/report.h"
#include "tests/load/verified_load.h"

ABSL_FLAG(std::string, library, "",
          "path of libblkio.so.1; otherwise of BLKIO_LIBRARY");
ABSL_FLAG(std::string, socket, "", "of the back-end");
ABSL_FLAG(uint32_t, depth, 32, "requests in flight");
ABSL_FLAG(double, seconds, 5, "how long to write and read");
ABSL_FLAG(uint64_t, span_mib, 64, "use this much of the device");
ABSL_FLAG(uint32_t, max_kib, 4, "longest request; the shortest is 4 KiB");
ABSL_FLAG(uint32_t, reads_in_256, 128, "share of reads");
ABSL_FLAG(uint32_t, flushes_in_256, 0, "share of flushes");
ABSL_FLAG(double, gap_ms, 1, "list pauses between completions from here on");
ABSL_FLAG(uint32_t, gaps, 10000, "list at most this many, the longest");
ABSL_FLAG(double, lost_s, 8, "give a request up after this many seconds");
ABSL_FLAG(bool, read_back, true, "read and check everything at the end");
ABSL_FLAG(bool, json, false, "print nothing but the line of JSON");

namespace holdfast::interop {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kKiB = 1 << 10;
constexpr double kMillisecondsPerSecond = 1000;

volatile sig_atomic_t g_stop = 0;

double Seconds(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) / 1e9;
}

std::string LibraryPath() {
  if (!absl::GetFlag(FLAGS_library).empty()) {
    return absl::GetFlag(FLAGS_library);
  }
  const char* variable = std::getenv("BLKIO_LIBRARY");
  return variable != nullptr ? variable : "libblkio.so.1";
}

absl::StatusOr<std::unique_ptr<BlkioQueue>> OpenQueue() {
  auto api = LoadBlkio(LibraryPath());
  if (!api.ok()) return api.status();
  BlkioQueue::Options options;
  options.socket = absl::GetFlag(FLAGS_socket);
  options.depth = absl::GetFlag(FLAGS_depth);
  options.max_request_bytes = absl::GetFlag(FLAGS_max_kib) * kKiB;
  return BlkioQueue::Open(*api, options);
}

load::LoadOptions MakeLoadOptions(uint64_t device_bytes) {
  load::LoadOptions options;
  options.run = static_cast<uint64_t>(Seconds(CLOCK_REALTIME) * 1e6);
  options.seed = options.run;
  options.blocks =
      std::min(absl::GetFlag(FLAGS_span_mib) * kMiB, device_bytes) /
      load::kBlockSize;
  options.max_request_blocks = static_cast<uint32_t>(
      absl::GetFlag(FLAGS_max_kib) * kKiB / load::kBlockSize);
  options.reads_in_256 = absl::GetFlag(FLAGS_reads_in_256);
  options.flushes_in_256 = absl::GetFlag(FLAGS_flushes_in_256);
  return options;
}

// The longest pauses as [start, milliseconds] pairs, in the order of time.
std::string GapsJson(const load::GapRecorder& recorder) {
  std::vector<load::GapRecorder::Gap> gaps = recorder.gaps();
  std::sort(gaps.begin(), gaps.end(),
            [](const auto& a, const auto& b) { return a.length > b.length; });
  gaps.resize(std::min<size_t>(gaps.size(), absl::GetFlag(FLAGS_gaps)));
  std::sort(gaps.begin(), gaps.end(),
            [](const auto& a, const auto& b) { return a.start < b.start; });
  std::vector<std::string> pairs;
  for (const load::GapRecorder::Gap& gap : gaps) {
    char pair[64];
    std::snprintf(pair, sizeof(pair), "[%.6f,%.3f]", gap.start,
                  gap.length * kMillisecondsPerSecond);
    pairs.push_back(pair);
  }
  return absl::StrCat("[", absl::StrJoin(pairs, ","), "]");
}

void PrintDetails(const load::VerifiedLoad& load,
                  const load::LoadRunner& runner) {
  if (absl::GetFlag(FLAGS_json)) return;
  for (const std::string& finding : load.findings()) {
    std::printf("BLK-FINDING %s\n", finding.c_str());
  }
  for (const std::string& request : runner.lost_requests()) {
    std::printf("BLK-LOST %s\n", request.c_str());
  }
}

int Main() {
  auto queue = OpenQueue();
  if (!queue.ok()) {
    std::fprintf(stderr, "blkio_client: %s\n",
                 queue.status().ToString().c_str());
    return 2;
  }
  load::VerifiedLoad load(MakeLoadOptions((*queue)->size()));
  load::RunnerOptions options;
  options.depth = absl::GetFlag(FLAGS_depth);
  options.gap_threshold = absl::GetFlag(FLAGS_gap_ms) / kMillisecondsPerSecond;
  options.lost_after = absl::GetFlag(FLAGS_lost_s);
  const auto clock = [] { return Seconds(CLOCK_MONOTONIC); };

  const double start = clock();
  const double cpu_start = Seconds(CLOCK_PROCESS_CPUTIME_ID);
  if (!absl::GetFlag(FLAGS_json)) {
    std::printf("BLK-START %.6f\n", start);
    std::fflush(stdout);
  }
  load::LoadRunner runner(&load, queue->get(), clock, options);
  const double end = start + absl::GetFlag(FLAGS_seconds);
  absl::Status status =
      runner.Run([&] { return g_stop != 0 || clock() >= end; });
  const double seconds = clock() - start;
  const double cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
  const double operations = static_cast<double>(load.counts().operations());
  const bool read_back = status.ok() && absl::GetFlag(FLAGS_read_back);
  if (read_back) status = runner.ReadBack();

  PrintDetails(load, runner);
  std::printf(
      "{\"depth\":%u,\"iops\":%.0f,\"client_cpu_us_per_operation\":%.3f,"
      "\"gaps\":%s,\"load\":%s}\n",
      options.depth, operations / seconds, cpu / operations * 1e6,
      GapsJson(runner.gaps()).c_str(),
      load::ReportJson(load.counts(), runner.gaps(), status, seconds, read_back)
          .c_str());
  std::fflush(stdout);
  const int exit_status = load::IsClean(load.counts(), status) ? 0 : 1;
  // The library waits for what is in flight when it is destroyed.
  if (!status.ok()) _exit(exit_status);
  return exit_status;
}

}  // namespace
}  // namespace holdfast::interop

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  signal(SIGTERM, [](int) { holdfast::interop::g_stop = 1; });
  return holdfast::interop::Main();
}

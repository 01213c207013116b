// blkio_client: loads a vhost-user-blk back-end over libblkio and verifies
// every block: a strict front-end that needs no guest.
//
// Prints BLK-START, BLK-FINDING and BLK-LOST lines, then one line of JSON.
// Times are CLOCK_MONOTONIC, as Python's time.monotonic(). Exit status 0:
// nothing was wrong; 1: something was; 2: could not run. The library ends the
// process with SIGABRT when a request completes twice. SIGTERM ends the load
// and starts the read-back.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "tests/interop/blkio_api_sys.h"
#include "tests/interop/blkio_queue_sys.h"
#include "tests/load/load_program_sys.h"
#include "tests/load/load_runner.h"
#include "tests/load/report.h"
#include "tests/load/verified_load.h"

ABSL_FLAG(std::string, library, "",
          "path of libblkio.so.1; otherwise of BLKIO_LIBRARY");
ABSL_FLAG(std::string, socket, "", "of the back-end");
ABSL_FLAG(uint32_t, memory_mib, 0,
          "have so much guest memory, all of it touched");
ABSL_FLAG(uint32_t, pause_us, 0,
          "sleep so long after completions: a client that never sleeps leaves "
          "no processor to others at a real-time priority");
ABSL_FLAG(uint32_t, gaps, 10000, "list at most this many pauses, the longest");
ABSL_FLAG(bool, json, false, "print nothing but the line of JSON");

namespace holdfast::interop {
namespace {

std::string LibraryPath() {
  if (!absl::GetFlag(FLAGS_library).empty()) {
    return absl::GetFlag(FLAGS_library);
  }
  const char* variable = std::getenv("BLKIO_LIBRARY");
  return variable != nullptr ? variable : "libblkio.so.1";
}

absl::StatusOr<std::unique_ptr<BlkioQueue>> OpenQueue() {
  ASSIGN_OR_RETURN(const BlkioApi api, LoadBlkio(LibraryPath()));
  BlkioQueue::Options options;
  options.socket = absl::GetFlag(FLAGS_socket);
  options.depth = absl::GetFlag(FLAGS_depth);
  options.max_request_bytes = load::MaxRequestBytes();
  options.memory_bytes = size_t{absl::GetFlag(FLAGS_memory_mib)} << 20;
  options.pause_us = absl::GetFlag(FLAGS_pause_us);
  return BlkioQueue::Open(api, options);
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
                  gap.length * 1000);
    pairs.push_back(pair);
  }
  return absl::StrCat("[", absl::StrJoin(pairs, ","), "]");
}

// Does not return when the load ran, whatever came out.
absl::Status Main() {
  const bool quiet = absl::GetFlag(FLAGS_json);
  ASSIGN_OR_RETURN(const std::unique_ptr<BlkioQueue> queue, OpenQueue());
  ASSIGN_OR_RETURN(const load::LoadOptions load_options,
                   load::LoadOptionsFromFlags(queue->size()));
  load::VerifiedLoad load(load_options);
  const double start = load::MonotonicSeconds();
  const double cpu_start = load::CpuSeconds();
  if (!quiet) std::printf("BLK-START %.6f\n", start);
  load::LoadRunner runner(&load, queue.get(), load::MonotonicSeconds,
                          load::RunnerOptionsFromFlags());
  const double end = start + absl::GetFlag(FLAGS_seconds);
  absl::Status status = runner.Run([end] {
    return load::StopRequested() || load::MonotonicSeconds() >= end;
  });
  const double seconds = load::MonotonicSeconds() - start;
  const double cpu = load::CpuSeconds() - cpu_start;
  const double operations = static_cast<double>(load.counts().operations());
  const bool read_back = status.ok() && absl::GetFlag(FLAGS_read_back);
  if (read_back) status = runner.ReadBack();

  if (!quiet) load::PrintFindings(load, runner, status);
  std::printf(
      "{\"depth\":%u,\"iops\":%.0f,\"client_cpu_us_per_operation\":%.3f,"
      "\"gaps\":%s,\"load\":%s}\n",
      absl::GetFlag(FLAGS_depth), operations / seconds, cpu / operations * 1e6,
      GapsJson(runner.gaps()).c_str(),
      load::ReportJson(load.counts(), runner.gaps(), status, seconds, read_back)
          .c_str());
  load::ExitWithVerdict(load.counts(), status);
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::interop

int main(int argc, char** argv) {
  absl::SetFlag(&FLAGS_seconds, 5);
  absl::SetFlag(&FLAGS_max_kib, 4);
  absl::SetFlag(&FLAGS_reads_in_256, 128);
  absl::SetFlag(&FLAGS_flushes_in_256, 0);
  absl::SetFlag(&FLAGS_gap_ms, 1);
  absl::SetFlag(&FLAGS_lost_s, 8);
  absl::ParseCommandLine(argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  holdfast::load::StopOnSigterm();
  const absl::Status status = holdfast::interop::Main();
  std::fprintf(stderr, "blkio_client: %s\n", status.ToString().c_str());
  return 2;
}

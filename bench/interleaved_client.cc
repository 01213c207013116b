// interleaved_client: loads several vhost-user-blk back-ends over libblkio, or
// NVMe controllers over vfio-user (nvme:SOCKET; with shadow doorbells
// nvme-shadows:SOCKET), by turns, a few milliseconds each, so that whatever
// else the machine does meets all of them.
//
// A round gives each back-end as many turns as there are back-ends, once at
// each place (A B B A; A B C, B C A, C A B): a machine that slows down steadily
// favours nobody. Prints one line of JSON: of each turn the back-end,
// operations, seconds and the CPU seconds of the back-end's process. Exit
// status 1: a back-end returned what was not written, or failed.

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "bench/nvme_queue_sys.h"
#include "tests/interop/blkio_api_sys.h"
#include "tests/interop/blkio_queue_sys.h"
#include "tests/load/load_program_sys.h"
#include "tests/load/load_runner.h"
#include "tests/load/verified_load.h"

ABSL_FLAG(std::string, library, "", "path of libblkio.so.1");
ABSL_FLAG(std::vector<std::string>, sockets, {}, "of the back-ends");
ABSL_FLAG(std::vector<std::string>, pids, {}, "of the back-ends' processes");
ABSL_FLAG(double, turn_ms, 3, "length of a turn");

namespace holdfast::bench {
namespace {

// Of all threads, those that have ended too, to the nanosecond.
double CpuSeconds(const std::string& pid) {
  clockid_t clock;
  timespec ran = {};
  if (clock_getcpuclockid(std::atoi(pid.c_str()), &clock) != 0 ||
      clock_gettime(clock, &ran) != 0) {
    return 0;
  }
  return static_cast<double>(ran.tv_sec) +
         static_cast<double>(ran.tv_nsec) * 1e-9;
}

class Backend {
 public:
  static absl::StatusOr<std::unique_ptr<Backend>> Open(
      const interop::BlkioApi& api, const std::string& socket,
      std::string pid) {
    const uint32_t depth = absl::GetFlag(FLAGS_depth);
    const size_t most = load::MaxRequestBytes();
    absl::string_view nvme = socket;
    const bool shadows = absl::ConsumePrefix(&nvme, "nvme-shadows:");
    if (shadows || absl::ConsumePrefix(&nvme, "nvme:")) {
      ASSIGN_OR_RETURN(auto queue, NvmeQueue::Open({std::string(nvme), depth,
                                                    most, shadows}));
      return Over(std::move(queue), std::move(pid));
    }
    interop::BlkioQueue::Options options;
    options.socket = socket;
    options.depth = depth;
    options.max_request_bytes = most;
    ASSIGN_OR_RETURN(auto queue, interop::BlkioQueue::Open(api, options));
    return Over(std::move(queue), std::move(pid));
  }

  // One turn; `result` gets its figures as JSON.
  absl::Status Take(double seconds, std::string* result) {
    const uint64_t operations = load_.counts().operations();
    const double cpu = CpuSeconds(pid_);
    const double start = load::MonotonicSeconds();
    RETURN_IF_ERROR(runner_.Run(
        [&] { return load::MonotonicSeconds() - start >= seconds; }));
    const double took = load::MonotonicSeconds() - start;
    *result = absl::StrCat(load_.counts().operations() - operations, ",",
                           absl::SixDigits(took), ",", CpuSeconds(pid_) - cpu);
    return absl::OkStatus();
  }

  bool damaged() const {
    return load_.counts().errors + load_.counts().bad_blocks() > 0;
  }

 private:
  template <typename Queue>
  static absl::StatusOr<std::unique_ptr<Backend>> Over(
      std::unique_ptr<Queue> queue, std::string pid) {
    ASSIGN_OR_RETURN(const load::LoadOptions options,
                     load::LoadOptionsFromFlags(queue->size()));
    return std::unique_ptr<Backend>(
        new Backend(std::move(queue), options, std::move(pid)));
  }

  Backend(std::unique_ptr<load::IoQueue> queue,
          const load::LoadOptions& options, std::string pid)
      : queue_(std::move(queue)),
        load_(options),
        runner_(&load_, queue_.get(), load::MonotonicSeconds,
                load::RunnerOptionsFromFlags()),
        pid_(std::move(pid)) {}

  std::unique_ptr<load::IoQueue> queue_;
  load::VerifiedLoad load_;
  load::LoadRunner runner_;
  const std::string pid_;
};

absl::Status Main() {
  ASSIGN_OR_RETURN(const interop::BlkioApi api,
                   interop::LoadBlkio(absl::GetFlag(FLAGS_library)));
  const std::vector<std::string> sockets = absl::GetFlag(FLAGS_sockets);
  const std::vector<std::string> pids = absl::GetFlag(FLAGS_pids);
  if (sockets.empty() || sockets.size() != pids.size()) {
    return absl::InvalidArgumentError("give a socket and a pid each");
  }
  std::vector<std::unique_ptr<Backend>> backends;
  for (size_t i = 0; i < sockets.size(); ++i) {
    ASSIGN_OR_RETURN(auto backend, Backend::Open(api, sockets[i], pids[i]));
    backends.push_back(std::move(backend));
  }
  const double turn = absl::GetFlag(FLAGS_turn_ms) / 1000;
  const double end = load::MonotonicSeconds() + absl::GetFlag(FLAGS_seconds);
  std::string turns;
  while (load::MonotonicSeconds() < end) {
    for (size_t i = 0; i < backends.size() * backends.size(); ++i) {
      const size_t side = (i / backends.size() + i) % backends.size();
      std::string result;
      RETURN_IF_ERROR(backends[side]->Take(turn, &result));
      absl::StrAppend(&turns, turns.empty() ? "" : ",", "[", side, ",", result,
                      "]");
    }
  }
  std::printf("[%s]\n", turns.c_str());
  for (const auto& backend : backends) {
    if (backend->damaged()) return absl::DataLossError("wrong data was read");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  absl::SetFlag(&FLAGS_seconds, 1);
  absl::SetFlag(&FLAGS_max_kib, 4);
  absl::SetFlag(&FLAGS_reads_in_256, 128);
  absl::SetFlag(&FLAGS_flushes_in_256, 0);
  absl::SetFlag(&FLAGS_gap_ms, 1000);
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = holdfast::bench::Main();
  if (status.ok()) return 0;
  std::fprintf(stderr, "interleaved_client: %s\n", status.ToString().c_str());
  return 1;
}

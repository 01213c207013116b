// register_gap_client: reads a register of a vfio-user device without a pause
// while somebody kills the device.
//
//   register_gap_client --device=SOCKET:REGION:READ:WRITE:SIZE < INSTANTS
//
// Prints "ready" after the first answer. Each line of standard input is an
// instant of a kill, in seconds of CLOCK_MONOTONIC; its end ends the reading.
// Prints one line of JSON then: "gaps", of each instant the seconds to the end
// of the read that was hit, which is the first one that another process
// answered, and what that read took; "quiet", the median and the longest of
// reads that no kill touched. Exit status 1: the device failed.

#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "bench/gaps.h"
#include "bench/register_device_sys.h"

ABSL_FLAG(std::string, device, "", "SOCKET:REGION:READ:WRITE:SIZE");
ABSL_FLAG(double, untouched_ms, 20,
          "a read that begins so long after a kill is not touched by it");

namespace holdfast::bench {
namespace {

// Reads between two looks at standard input.
constexpr int kReadsPerLook = 256;

// What has come on standard input. False: its end.
bool TakeInput(std::string& text) {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  if (poll(&input, 1, 0) != 1) return true;
  char bytes[4096];
  const ssize_t size = read(STDIN_FILENO, bytes, sizeof(bytes));
  if (size > 0) text.append(bytes, static_cast<size_t>(size));
  return size > 0;
}

std::string Report(const std::vector<Trip>& reads,
                   const std::vector<Trip>& firsts,
                   const std::vector<double>& kills) {
  return absl::StrCat(
      "{\"gaps\":", ToJson(Takeovers(firsts, kills)), ",\"quiet\":",
      MedianAndLongest(
          Untouched(reads, kills, absl::GetFlag(FLAGS_untouched_ms) / 1000)),
      "}");
}

absl::Status Main() {
  ASSIGN_OR_RETURN(RegisterDevice device,
                   RegisterDevice::Open(absl::GetFlag(FLAGS_device)));
  RETURN_IF_ERROR(device.Read());
  std::puts("ready");
  std::fflush(stdout);
  std::vector<Trip> reads;
  reads.reserve(1 << 22);
  std::vector<Trip> firsts;
  pid_t process = device.answered_by();
  std::string input;
  while (TakeInput(input)) {
    for (int i = 0; i < kReadsPerLook; ++i) {
      const double start = MonotonicSeconds();
      RETURN_IF_ERROR(device.Read());
      reads.push_back({start, MonotonicSeconds()});
      if (std::exchange(process, device.answered_by()) != process) {
        firsts.push_back(reads.back());
      }
    }
  }
  std::vector<double> kills;
  for (const auto line : absl::StrSplit(input, '\n', absl::SkipEmpty())) {
    double instant;
    if (!absl::SimpleAtod(line, &instant)) {
      return absl::InvalidArgumentError("that is no instant");
    }
    kills.push_back(instant);
  }
  std::printf("%s\n", Report(reads, firsts, kills).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::bench::ExitStatus("register_gap_client",
                                     holdfast::bench::Main());
}

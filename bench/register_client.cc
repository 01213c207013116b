// register_client: accesses a register of several vfio-user devices by turns, a
// few milliseconds each, so that whatever else the machine does meets all of
// them.
//
//   register_client --devices=SOCKET:REGION:READ:WRITE:SIZE,... --seconds=2
//
// READ and WRITE are offsets within the region, SIZE is that of an access in
// bytes. A round gives each device as many turns as there are devices, once at
// each place (A B B A). Prints one line of JSON: of each turn the device, what
// was done ("read", or "write": a posted write and a read that waits for it),
// how often, and the seconds. Exit status 1: a device failed.

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "bench/register_device_sys.h"

ABSL_FLAG(std::vector<std::string>, devices, {},
          "SOCKET:REGION:READ:WRITE:SIZE");
ABSL_FLAG(double, seconds, 2, "how long");
ABSL_FLAG(double, turn_ms, 3, "length of a turn");

namespace holdfast::bench {
namespace {

absl::StatusOr<std::string> Turn(RegisterDevice& device, bool write,
                                 double seconds) {
  const double start = MonotonicSeconds();
  double took = 0;
  int count = 0;
  for (; took < seconds; took = MonotonicSeconds() - start) {
    for (int i = 0; i < 8; ++i, ++count) {
      RETURN_IF_ERROR(write ? device.PostedWrite() : device.Read());
    }
  }
  return absl::StrCat(write ? "\"write\"" : "\"read\"", ",", count, ",",
                      absl::SixDigits(took));
}

absl::Status Main() {
  std::vector<RegisterDevice> devices;
  for (const std::string& text : absl::GetFlag(FLAGS_devices)) {
    ASSIGN_OR_RETURN(RegisterDevice device, RegisterDevice::Open(text));
    devices.push_back(std::move(device));
  }
  if (devices.empty()) return absl::InvalidArgumentError("--devices: of whom?");
  const double turn = absl::GetFlag(FLAGS_turn_ms) / 1000;
  const double end = MonotonicSeconds() + absl::GetFlag(FLAGS_seconds);
  std::string turns;
  while (MonotonicSeconds() < end) {
    for (const bool write : {false, true}) {
      for (size_t i = 0; i < devices.size() * devices.size(); ++i) {
        const size_t side = (i / devices.size() + i) % devices.size();
        ASSIGN_OR_RETURN(const std::string result,
                         Turn(devices[side], write, turn));
        absl::StrAppend(&turns, turns.empty() ? "" : ",", "[", side, ",",
                        result, "]");
      }
    }
  }
  std::printf("[%s]\n", turns.c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::bench::ExitStatus("register_client",
                                     holdfast::bench::Main());
}

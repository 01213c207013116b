// main_loop_client: asks QEMU's monitor without a pause while QEMU reads a
// register of a PCI function without a pause, and somebody kills its device.
//
//   main_loop_client --monitor=SOCKET --qtest=SOCKET --slot=N < INSTANTS
//
// The function is hello_pci (examples/hello_pci). QEMU's main loop answers the
// monitor and makes the accesses of its qtest socket, one at a time.
//
// Prints "ready" when all answer. Each line of standard input is an instant, in
// seconds of CLOCK_MONOTONIC: of a kill, or, followed by "idle", of nothing at
// all. Its end ends the reading. Prints one line of JSON then, of "monitor" and
// "register": "kills" and "idle", for each instant the seconds to the end of
// the round trip that was hit, and what that took; "quiet", the median and the
// longest of those that no kill touched; and how many a second there were.
// Exit status 1: QEMU or the device failed.

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "bench/gaps.h"
#include "bench/register_device_sys.h"

ABSL_FLAG(std::string, monitor, "", "socket of QEMU's QMP monitor");
ABSL_FLAG(std::string, qtest, "", "socket of QEMU's -qtest");
ABSL_FLAG(uint32_t, slot, 0, "of hello_pci on the first PCI bus");
ABSL_FLAG(double, window_ms, 1,
          "of round trips that begin so long after an instant, the longest was "
          "hit");
ABSL_FLAG(double, untouched_ms, 20,
          "a round trip that begins so long after a kill is not touched by it");

namespace holdfast::bench {
namespace {

// Free in the memory map of a q35 with little memory.
constexpr uint32_t kBar = 0xe0000000;
// hello_pci squares what is written.
constexpr uint32_t kOperand = kBar + 4;
constexpr uint32_t kResult = kBar + 8;
constexpr absl::string_view kAnswer = "OK 0x0000000000000031";

// Somebody who answers each line with one that begins in a certain way.
class Peer {
 public:
  static absl::StatusOr<Peer> Connect(const std::string& path,
                                      absl::string_view answer) {
    Peer peer;
    ASSIGN_OR_RETURN(peer.socket_, ConnectTo(path));
    peer.answer_ = std::string(answer);
    return peer;
  }

  int fd() const { return socket_.get(); }
  const std::vector<Trip>& trips() const { return trips_; }

  absl::Status Send(absl::string_view line) {
    const std::string text = absl::StrCat(line, "\n");
    asked_ = MonotonicSeconds();
    if (send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(text.size())) {
      return ErrnoStatus("send");
    }
    return absl::OkStatus();
  }

  // Waits for it; other lines are news that nobody asked for.
  absl::StatusOr<std::string> Answer() {
    while (true) {
      const size_t end = text_.find('\n');
      if (end != text_.npos) {
        const std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        if (absl::StartsWith(line, answer_)) return line;
        if (!absl::StrContains(line, "\"event\"")) {
          return absl::InternalError(absl::StrCat("the answer is: ", line));
        }
        continue;
      }
      char bytes[4096];
      const ssize_t size = recv(socket_.get(), bytes, sizeof(bytes), 0);
      if (size < 0) return ErrnoStatus("recv");
      if (size == 0) return absl::UnavailableError("QEMU has hung up");
      text_.append(bytes, static_cast<size_t>(size));
    }
  }

  absl::StatusOr<std::string> Ask(absl::string_view line) {
    RETURN_IF_ERROR(Send(line));
    return Answer();
  }

  // Takes the answer to what was sent and sends it again.
  absl::Status Turn(absl::string_view line, absl::string_view wanted) {
    ASSIGN_OR_RETURN(const std::string answer, Answer());
    trips_.push_back({asked_, MonotonicSeconds()});
    if (!absl::StartsWith(answer, wanted)) {
      return absl::DataLossError(absl::StrCat("the answer is: ", answer));
    }
    return Send(line);
  }

 private:
  UniqueFd socket_;
  std::string answer_;
  std::string text_;
  double asked_ = 0;
  std::vector<Trip> trips_;
};

absl::StatusOr<Peer> OpenMonitor() {
  ASSIGN_OR_RETURN(Peer monitor,
                   Peer::Connect(absl::GetFlag(FLAGS_monitor), "{"));
  RETURN_IF_ERROR(monitor.Answer().status());  // Its greeting.
  RETURN_IF_ERROR(monitor.Ask("{\"execute\": \"qmp_capabilities\"}").status());
  return monitor;
}

// Gives the function its addresses and something to square, as firmware and a
// driver would.
absl::StatusOr<Peer> OpenRegisters() {
  ASSIGN_OR_RETURN(Peer qtest, Peer::Connect(absl::GetFlag(FLAGS_qtest), "OK"));
  const uint32_t function = 0x80000000 | absl::GetFlag(FLAGS_slot) << 11;
  for (const auto& [offset, value] : std::vector<std::pair<uint32_t, uint32_t>>{
           {0x10, kBar}, {0x14, 0}, {0x04, 2}}) {
    for (const std::string& line :
         {absl::StrFormat("outl 0xcf8 %#x", function | offset),
          absl::StrFormat("outl 0xcfc %#x", value)}) {
      RETURN_IF_ERROR(qtest.Ask(line).status());
    }
  }
  RETURN_IF_ERROR(
      qtest.Ask(absl::StrFormat("writel %#x 7", kOperand)).status());
  return qtest;
}

struct Instants {
  std::vector<double> kills;
  std::vector<double> idle;
};

// Turn by turn with both until standard input ends; returns what came on it.
absl::StatusOr<std::string> TakeTurns(Peer& monitor, Peer& qtest) {
  const std::string ask = "{\"execute\": \"query-status\"}";
  const std::string read_register = absl::StrFormat("readl %#x", kResult);
  RETURN_IF_ERROR(monitor.Send(ask));
  RETURN_IF_ERROR(qtest.Send(read_register));
  RETURN_IF_ERROR(qtest.Turn(read_register, kAnswer));
  std::puts("ready");
  std::fflush(stdout);
  std::string input;
  while (true) {
    pollfd waiting[] = {{monitor.fd(), POLLIN, 0},
                        {qtest.fd(), POLLIN, 0},
                        {STDIN_FILENO, POLLIN, 0}};
    if (poll(waiting, 3, -1) < 0) return ErrnoStatus("poll");
    if (waiting[0].revents != 0) {
      RETURN_IF_ERROR(monitor.Turn(ask, "{\"return\""));
    }
    if (waiting[1].revents != 0) {
      RETURN_IF_ERROR(qtest.Turn(read_register, kAnswer));
    }
    if (waiting[2].revents == 0) continue;
    char bytes[4096];
    const ssize_t size = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (size <= 0) return input;
    input.append(bytes, static_cast<size_t>(size));
  }
}

absl::StatusOr<Instants> Parse(absl::string_view input) {
  Instants instants;
  for (const absl::string_view line :
       absl::StrSplit(input, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    double instant;
    if (!absl::SimpleAtod(words[0], &instant)) {
      return absl::InvalidArgumentError(absl::StrCat("no instant: ", line));
    }
    (words.size() > 1 ? instants.idle : instants.kills).push_back(instant);
  }
  return instants;
}

std::string Report(const std::vector<Trip>& trips, const Instants& instants) {
  const double window = absl::GetFlag(FLAGS_window_ms) / 1000;
  const double after = absl::GetFlag(FLAGS_untouched_ms) / 1000;
  const double seconds =
      trips.empty() ? 1 : trips.back().end - trips.front().start;
  return absl::StrCat(
      "{\"kills\":", ToJson(Hits(trips, instants.kills, window)),
      ",\"idle\":", ToJson(Hits(trips, instants.idle, window)),
      ",\"quiet\":", MedianAndLongest(Untouched(trips, instants.kills, after)),
      ",\"rate\":", static_cast<double>(trips.size()) / seconds, "}");
}

absl::Status Main() {
  ASSIGN_OR_RETURN(Peer monitor, OpenMonitor());
  ASSIGN_OR_RETURN(Peer qtest, OpenRegisters());
  ASSIGN_OR_RETURN(const std::string input, TakeTurns(monitor, qtest));
  ASSIGN_OR_RETURN(const Instants instants, Parse(input));
  std::printf("{\"monitor\":%s,\"register\":%s}\n",
              Report(monitor.trips(), instants).c_str(),
              Report(qtest.trips(), instants).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::bench::ExitStatus("main_loop_client",
                                     holdfast::bench::Main());
}

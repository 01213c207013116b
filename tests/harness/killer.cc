// Kills the active process of an instance again and again, as fast as there is
// a standby to take over, for the Python harness. Reads commands from standard
// input, one a line:
//
//   COUNT MIN_US MAX_US     kills COUNT times, each a random time from MIN_US
//   to
//                           MAX_US after the standby was ready
//
// and answers each with lines of
//
//   kill NANOSECONDS PID RECOVERY_US    when it was sent (CLOCK_MONOTONIC), to
//                                       whom, from the death seen until the
//                                       standby was promoted
//   done KILLS PROMOTIONS NANOSECONDS   promotions of the instance meanwhile:
//                                       another number says that a process
//                                       died by itself
//
// or in the end "failed WHY". Ends with its input.

#include <signal.h>
#include <time.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/pidfd_sys.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "launcher/core_client_sys.h"
#include "launcher/core_protocol.h"

ABSL_FLAG(std::string, socket, "/run/holdfast/core.sock", "of the core");
ABSL_FLAG(std::string, instance, "", "whose active process is killed");
ABSL_FLAG(uint64_t, seed, 1, "of the instants");

namespace holdfast::launcher {
namespace {

// The slowest start of a standby, on a very busy machine, takes seconds.
constexpr absl::Duration kPatience = absl::Seconds(120);

int64_t MonotonicNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::ToInt64Nanoseconds(absl::DurationFromTimespec(now));
}

struct Order {
  uint64_t count = 0;
  uint64_t min_us = 0;
  uint64_t max_us = 0;
};

class Killer {
 public:
  Killer(CoreClient client, std::string instance, uint64_t seed)
      : client_(std::move(client)),
        instance_(std::move(instance)),
        random_(seed) {
    client_.set_timeout(kPatience);
  }

  absl::Status Execute(const Order& order) {
    const int64_t start = MonotonicNanos();
    ASSIGN_OR_RETURN(InstanceStatus before, AwaitWhole(0));
    const uint64_t first = before.epoch;
    for (uint64_t i = 0; i < order.count; ++i) {
      ASSIGN_OR_RETURN(before, KillOnce(order, std::move(before)));
    }
    std::printf("done %" PRIu64 " %" PRIu64 " %" PRId64 "\n", order.count,
                before.epoch - first, MonotonicNanos() - start);
    std::fflush(stdout);
    return absl::OkStatus();
  }

 private:
  // Kills the active process of `whole`; returns what follows, whole again.
  absl::StatusOr<InstanceStatus> KillOnce(const Order& order,
                                          InstanceStatus whole) {
    ASSIGN_OR_RETURN(const UniqueFd victim, OpenActive(&whole));
    absl::SleepFor(absl::Microseconds(std::uniform_int_distribution<uint64_t>(
        order.min_us, order.max_us)(random_)));
    const int64_t when = MonotonicNanos();
    // One that has ended already died by itself, which is an error here.
    RETURN_IF_ERROR(SignalPidfd(victim, SIGKILL));
    ASSIGN_OR_RETURN(InstanceStatus next, AwaitWhole(whole.epoch + 1));
    std::printf("kill %" PRId64 " %d %" PRIu64 "\n", when, whole.active_pid,
                next.last_recovery_us);
    return next;
  }

  // A descriptor of the active process and of no other one: that it was still
  // active after its pid had been opened says that the pid was still its own.
  absl::StatusOr<UniqueFd> OpenActive(InstanceStatus* whole) {
    ASSIGN_OR_RETURN(UniqueFd victim, OpenPidfd(whole->active_pid));
    ASSIGN_OR_RETURN(const InstanceStatus now, client_.Status(instance_));
    if (now.active_pid != whole->active_pid || now.epoch != whole->epoch) {
      return absl::AbortedError("the active process died by itself");
    }
    return victim;
  }

  // Waits until an active process and a standby are ready, after `epoch`
  // promotions at least.
  absl::StatusOr<InstanceStatus> AwaitWhole(uint64_t epoch) {
    while (true) {
      ASSIGN_OR_RETURN(InstanceStatus status, client_.Status(instance_));
      if (status.active_pid != 0 && status.standby_ready &&
          status.epoch >= epoch) {
        return status;
      }
      // What has happened since the last look, or the next thing that happens.
      ASSIGN_OR_RETURN(const CoreClient::Events events,
                       client_.ReadEvents(last_event_, /*wait=*/true));
      last_event_ = events.last_sequence;
    }
  }

  CoreClient client_;
  const std::string instance_;
  std::mt19937_64 random_;
  uint64_t last_event_ = 0;
};

absl::Status Run() {
  ASSIGN_OR_RETURN(CoreClient client,
                   CoreClient::Connect(absl::GetFlag(FLAGS_socket)));
  Killer killer(std::move(client), absl::GetFlag(FLAGS_instance),
                absl::GetFlag(FLAGS_seed));
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    Order order;
    if (!(words >> order.count >> order.min_us >> order.max_us) ||
        order.min_us > order.max_us) {
      return absl::InvalidArgumentError("COUNT MIN_US MAX_US");
    }
    RETURN_IF_ERROR(killer.Execute(order));
  }
  return absl::OkStatus();
}

int Main() {
  const absl::Status status = Run();
  if (status.ok()) return 0;
  std::printf("failed %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace holdfast::launcher

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::launcher::Main();
}

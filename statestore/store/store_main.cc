// holdfast-store: holds segments, VMM sockets and escrowed descriptors outside
// the devices, sees the death of an active child first and promotes its
// standby. See store_sys.h and protocol.h.

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/handoff.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "statestore/store/filter_sys.h"
#include "statestore/store/store_sys.h"
#include "statestore/store/tables.h"

namespace holdfast::store {
namespace {

constexpr char kUsage[] =
    "usage: holdfast-store --launcher-fd=N [--no-filter]\n"
    "Started by holdfastd; of no use by hand. N is a connected SEQPACKET\n"
    "socket. The seccomp program is read from descriptor 6 unless --no-filter\n"
    "says that there is none.\n";

// Every table full: slots and what lingers, segment, blob and listening socket,
// per child four; and some for what is in flight.
constexpr rlim_t kInstanceDescriptors =
    kSlotCount + kMaxLingering + 3 + kMaxChildrenPerInstance * 4;
constexpr rlim_t kOtherDescriptors = 64;

struct Options {
  int launcher_fd = -1;
  bool filter = true;
};

bool Parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (argument == "--no-filter") {
      options.filter = false;
    } else if (!absl::ConsumePrefix(&argument, "--launcher-fd=") ||
               !absl::SimpleAtoi(argument, &options.launcher_fd)) {
      return false;
    }
  }
  return options.launcher_fd >= 0;
}

// Ended by the launcher's closing of its channel and by nothing else.
void IgnoreSignals() {
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE}) {
    struct sigaction action = {};
    action.sa_handler = SIG_IGN;
    sigaction(signal, &action, nullptr);
  }
}

// Returns the number of instances that there are descriptors for, whatever each
// of them deposits: one that takes all that is its own takes nothing from the
// others.
size_t RaiseDescriptorLimit() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t room =
      limit.rlim_max - std::min(limit.rlim_max, kOtherDescriptors);
  const rlim_t instances =
      std::min<rlim_t>(room / kInstanceDescriptors, kMaxInstances);
  if (instances < kMaxInstances) {
    LogWarning("degraded: descriptor limit ", limit.rlim_max,
               " is enough for instances: ", instances, ", not ",
               kMaxInstances);
  }
  return instances;
}

int Main(int argc, char** argv) {
  SetLogProgram("holdfast-store");
  Options options;
  if (!Parse(argc, argv, options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  IgnoreSignals();
  const size_t max_instances = RaiseDescriptorLimit();
  // What it holds must not be readable in a core file or through /proc.
  prctl(PR_SET_DUMPABLE, 0);
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    LogWarning("degraded: memory is not locked (raise RLIMIT_MEMLOCK)");
  }
  static Store store;
  if (absl::Status status =
          store.Start(UniqueFd(options.launcher_fd), max_instances);
      !status.ok()) {
    LogError(status.message());
    return 1;
  }
  if (options.filter) {
    const UniqueFd program(kHandoffFilterFd);
    if (absl::Status status = ApplyFilter(program); !status.ok()) {
      LogError("seccomp filter: ", status.message());
      return 1;
    }
  } else {
    LogWarning("degraded: runs without a seccomp filter");
  }
  while (store.RunOnce(-1)) {
  }
  return 0;
}

}  // namespace
}  // namespace holdfast::store

int main(int argc, char** argv) { return holdfast::store::Main(argc, argv); }

#include "launcher/spawn_sys.h"

#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/donation.h"
#include "launcher/process_sys.h"
#include "sandbox/jail_sys.h"
#include "statestore/store/backend_resources.h"
#include "statestore/store/protocol.h"

namespace holdfast::launcher {
namespace {

// What each gift is in this call.
using Gifts = std::map<Gift, BorrowedFd>;

absl::StatusOr<std::vector<sandbox::InheritedFd>> Resolve(
    const std::vector<Donation>& plan, const Gifts& gifts) {
  std::vector<sandbox::InheritedFd> fds;
  for (const Donation& donation : plan) {
    const auto gift = gifts.find(donation.gift);
    if (gift == gifts.end() || !gift->second.valid()) {
      return absl::InternalError(
          absl::StrCat("no descriptor to donate as ", donation.name));
    }
    fds.push_back({gift->second, donation.number});
  }
  return fds;
}

absl::StatusOr<SpawnedChild> Start(sandbox::JailSpec& jail,
                                   const Cgroup& group) {
  ASSIGN_OR_RETURN(const std::vector<UniqueFd> files, group.OpenProcesses());
  jail.cgroups.assign(files.begin(), files.end());
  ASSIGN_OR_RETURN(sandbox::JailedProcess process, sandbox::Spawn(jail));
  SpawnedChild child;
  child.pid = process.pid;
  child.pidfd = std::move(process.pidfd);
  child.listener = std::move(process.listener);
  child.degraded = std::move(process.degraded);
  return child;
}

absl::StatusOr<UniqueFd> OpenNull() {
  UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null.valid()) return ErrnoStatus("open /dev/null");
  return null;
}

std::vector<std::string> Environment(const LaunchSpec& spec) {
  std::vector<std::string> env = {absl::StrCat(kHandoffEnvironment, "=1")};
  for (size_t i = 0; i < spec.resources.size(); ++i) {
    env.push_back(absl::StrCat("HOLDFAST_RESOURCE_", spec.resources[i].name,
                               "=", store::kSlotFirstResource + i));
  }
  if (!spec.backend.binary.empty()) {
    for (size_t i = 0; i < store::kBackendResourceCount; ++i) {
      env.push_back(absl::StrCat(
          "HOLDFAST_RESOURCE_", store::kBackendResourceNames[i], "=",
          store::kSlotFirstResource + spec.resources.size() + i));
    }
  }
  return env;
}

sandbox::JailSpec JailOf(const LaunchSpec& spec, BorrowedFd program,
                         const PolicyFilters& filters) {
  sandbox::JailSpec jail;
  // By descriptor: it was checked, and its path may lead elsewhere by now.
  jail.program = absl::StrCat("/proc/self/fd/", program.get());
  jail.argv = {spec.binary};
  jail.argv.insert(jail.argv.end(), spec.args.begin(), spec.args.end());
  jail.env = Environment(spec);
  jail.confinement =
      spec.confined ? sandbox::Confinement::kFull : sandbox::Confinement::kNone;
  jail.root = spec.confined ? sandbox::Root::kEmpty : sandbox::Root::kHost;
  jail.uid = spec.uid;
  jail.gid = spec.uid;
  jail.limits.open_files = spec.limits.open_files;
  jail.limits.threads = spec.limits.threads;
  jail.limits.file_size = spec.limits.file_size;
  jail.limits.locked_memory = spec.limits.locked_memory;
  jail.realtime_priority = static_cast<int>(spec.realtime_priority);
  jail.startup_filter = filters.startup;
  return jail;
}

}  // namespace

absl::StatusOr<SpawnedChild> SpawnDevice(const LaunchSpec& spec,
                                         BorrowedFd program, BorrowedFd segment,
                                         const PolicyFilters& filters,
                                         const Cgroup& group) {
  ASSIGN_OR_RETURN(auto to_store, SeqpacketPair());
  ASSIGN_OR_RETURN(auto to_launcher, SeqpacketPair());
  ASSIGN_OR_RETURN(const UniqueFd null, OpenNull());
  sandbox::JailSpec jail = JailOf(spec, program, filters);
  ASSIGN_OR_RETURN(jail.fds, Resolve(DeviceDonations(),
                                     {{Gift::kNull, null},
                                      {Gift::kLog, BorrowedFd(STDERR_FILENO)},
                                      {Gift::kStoreChannel, to_store.second},
                                      {Gift::kControl, to_launcher.second},
                                      {Gift::kSegment, segment},
                                      {Gift::kFilter, filters.steady}}));
  absl::StatusOr<SpawnedChild> child = Start(jail, group);
  if (!child.ok()) {
    return absl::Status(child.status().code(),
                        absl::StrReplaceAll(child.status().message(),
                                            {{jail.program, spec.binary}}));
  }
  child->store_channel = std::move(to_store.first);
  child->control = std::move(to_launcher.first);
  return child;
}

absl::StatusOr<SpawnedChild> SpawnStore(const std::string& program,
                                        uint32_t uid, BorrowedFd link,
                                        const PolicyFilters& filters,
                                        const Cgroup& group) {
  ASSIGN_OR_RETURN(const UniqueFd null, OpenNull());
  sandbox::JailSpec jail;
  jail.program = program;
  jail.argv = {"holdfast-store",
               absl::StrCat("--launcher-fd=", kStoreLauncherFd)};
  if (filters.startup.empty()) jail.argv.push_back("--no-filter");
  jail.uid = uid;
  jail.gid = uid;
  // All tables of the store full, and some in flight.
  jail.limits.open_files = 8192;
  // Its two, and the closing one of stores before it, which may still free.
  jail.limits.threads = 8;
  jail.startup_filter = filters.startup;
  jail.want_listener = false;
  ASSIGN_OR_RETURN(jail.fds, Resolve(StoreDonations(),
                                     {{Gift::kNull, null},
                                      {Gift::kLog, BorrowedFd(STDERR_FILENO)},
                                      {Gift::kLauncherLink, link},
                                      {Gift::kFilter, filters.steady}}));
  return Start(jail, group);
}

absl::StatusOr<SpawnedChild> SpawnApi(const std::string& program, uint32_t uid,
                                      const ApiGifts& given,
                                      const PolicyFilters& filters) {
  ASSIGN_OR_RETURN(const UniqueFd null, OpenNull());
  sandbox::JailSpec jail;
  jail.program = program;
  jail.argv = {"holdfast-api", "--managed"};
  jail.uid = uid;
  jail.gid = uid;
  // A connection of each client, and one event each.
  jail.limits.open_files = 256;
  jail.limits.threads = 128;
  jail.limits.locked_memory = 0;
  jail.startup_filter = filters.startup;
  jail.want_listener = false;
  // Unlike a device it is of no use without the core that it was made for.
  jail.die_with_parent = true;
  const Gifts gifts = {{Gift::kNull, null},
                       {Gift::kLog, BorrowedFd(STDERR_FILENO)},
                       {Gift::kApiListener, given.listener},
                       {Gift::kCoreWatch, given.watch},
                       {Gift::kFilter, filters.steady}};
  std::vector<Donation> plan;
  size_t next_link = 0;
  for (const Donation& donation : ApiDonations()) {
    if (donation.gift != Gift::kCoreLink) {
      plan.push_back(donation);
    } else if (next_link < given.links.size()) {
      jail.fds.push_back({given.links[next_link++], donation.number});
    }
  }
  ASSIGN_OR_RETURN(const std::vector<sandbox::InheritedFd> others,
                   Resolve(plan, gifts));
  jail.fds.insert(jail.fds.end(), others.begin(), others.end());
  return Start(jail, Cgroup());
}

}  // namespace holdfast::launcher

#include "launcher/cgroup_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text_file_sys.h"

namespace holdfast::launcher {
namespace {

absl::Status WriteText(const std::string& path, const std::string& text) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(absl::StrCat("open ", path));
  if (write(fd.get(), text.data(), text.size()) !=
      static_cast<ssize_t>(text.size())) {
    return ErrnoStatus(absl::StrCat("write ", text, " to ", path));
  }
  return absl::OkStatus();
}

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) {
    return absl::OkStatus();
  }
  return ErrnoStatus(absl::StrCat("mkdir ", path));
}

std::vector<int> ProcessesOf(const std::string& group) {
  return ParseProcesses(ReadTextFile(group + "/cgroup.procs"));
}

// Kills everybody in `group` but this process; whom.
std::vector<int> KillIn(const std::string& group) {
  std::vector<int> killed = ProcessesOf(group);
  killed.erase(std::remove(killed.begin(), killed.end(), getpid()),
               killed.end());
  for (int pid : killed) kill(pid, SIGKILL);
  return killed;
}

std::vector<std::string> GroupsBelow(const std::string& directory) {
  std::vector<std::string> groups;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, ignored)) {
    if (entry.is_directory(ignored)) groups.push_back(entry.path().string());
  }
  return groups;
}

// Lets groups below `directory` have `controllers`.
absl::Status Delegate(const std::string& directory,
                      const std::vector<Controller>& controllers) {
  const std::string file = directory + "/cgroup.subtree_control";
  const std::vector<Controller> there = ParseControllers(ReadTextFile(file));
  absl::Status first_error;
  for (Controller controller : controllers) {
    if (std::find(there.begin(), there.end(), controller) != there.end()) {
      continue;
    }
    first_error.Update(
        WriteText(file, absl::StrCat("+", ControllerName(controller))));
  }
  return first_error;
}

// Version 2 lets no group have processes and controllers for groups below it,
// so this process goes into one of its own; true when it had to.
absl::StatusOr<bool> DelegateHome(const CgroupHome& home,
                                  const std::vector<Controller>& controllers) {
  const absl::Status status = Delegate(home.directory, controllers);
  if (status.ok()) return false;
  for (int pid : ProcessesOf(home.directory)) {
    if (pid == getpid()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "pid ", pid, " is in ", home.directory,
        " too: start holdfastd in a group of its own, as systemd does with "
        "Delegate=yes"));
  }
  const std::string own = absl::StrCat(home.directory, "/", kSupervisorGroup);
  RETURN_IF_ERROR(MakeDirectory(own));
  RETURN_IF_ERROR(WriteText(own + "/cgroup.procs", std::to_string(getpid())));
  RETURN_IF_ERROR(Delegate(home.directory, controllers));
  return true;
}

}  // namespace

// ---- CgroupTree ----

CgroupTree CgroupTree::Create(const std::string& name) {
  return CreateIn(FindCgroupHomes(ReadTextFile("/proc/self/mountinfo"),
                                  ReadTextFile("/proc/self/cgroup")),
                  name);
}

CgroupTree CgroupTree::CreateIn(std::vector<CgroupHome> homes,
                                const std::string& name) {
  CgroupTree tree;
  tree.why_none_ = "no hierarchy with memory, pids or cpu is mounted";
  for (CgroupHome& home : homes) {
    if (home.unified) {
      home.controllers = ParseControllers(
          ReadTextFile(home.directory + "/cgroup.controllers"));
      if (home.controllers.empty()) continue;
      const absl::StatusOr<bool> moved = DelegateHome(home, home.controllers);
      if (!moved.ok()) {
        tree.why_none_ = std::string(moved.status().message());
        continue;
      }
      if (*moved) tree.moved_from_ = home.directory;
    }
    home.directory += "/" + name;
    absl::Status status = MakeDirectory(home.directory);
    if (status.ok() && home.unified) {
      status = Delegate(home.directory, home.controllers);
    }
    if (!status.ok()) {
      tree.why_none_ = std::string(status.message());
      continue;
    }
    tree.homes_.push_back(std::move(home));
  }
  return tree;
}

std::vector<int> CgroupTree::EndLeftBehind() const {
  std::vector<int> killed;
  for (const CgroupHome& home : homes_) {
    for (const std::string& group : GroupsBelow(home.directory)) {
      for (int tries = 0; tries < 500; ++tries) {
        if (rmdir(group.c_str()) == 0 || errno != EBUSY) break;
        const std::vector<int> now = KillIn(group);
        killed.insert(killed.end(), now.begin(), now.end());
        usleep(10000);
      }
    }
  }
  std::sort(killed.begin(), killed.end());
  killed.erase(std::unique(killed.begin(), killed.end()), killed.end());
  return killed;
}

Cgroup CgroupTree::Make(const std::string& name,
                        const GroupLimits& limits) const {
  Cgroup group;
  const auto degraded = [&group](absl::string_view why) {
    group.degraded_.push_back(absl::StrCat("degraded: cgroups: ", why));
  };
  if (homes_.empty()) degraded(why_none_);
  std::vector<Controller> limited;
  for (const CgroupHome& home : homes_) {
    const bool wanted =
        // By this one its processes are found again.
        home.Has(Controller::kTasks) ||
        std::any_of(
            home.controllers.begin(), home.controllers.end(),
            [&](Controller controller) {
              return !SettingsOf(controller, home.unified, limits).empty();
            });
    if (!wanted) continue;
    const std::string directory = home.directory + "/" + name;
    if (absl::Status status = MakeDirectory(directory); !status.ok()) {
      degraded(status.message());
      continue;
    }
    for (Controller controller : home.controllers) {
      limited.push_back(controller);
      for (const CgroupSetting& setting :
           SettingsOf(controller, home.unified, limits)) {
        const absl::Status status =
            WriteText(directory + "/" + setting.file, setting.value);
        if (!status.ok() && !setting.optional) degraded(status.message());
      }
    }
    group.places_.push_back({directory, home.unified, home.controllers});
  }
  for (int i = 0; i < kControllerCount; ++i) {
    const auto controller = static_cast<Controller>(i);
    if (homes_.empty() || SettingsOf(controller, true, limits).empty())
      continue;
    if (std::find(limited.begin(), limited.end(), controller) ==
        limited.end()) {
      degraded(absl::StrCat("no controller '", ControllerName(controller),
                            "': its limit is not applied"));
    }
  }
  return group;
}

void CgroupTree::Remove() const {
  for (const CgroupHome& home : homes_) {
    for (const std::string& group : GroupsBelow(home.directory)) {
      rmdir(group.c_str());
    }
    if (rmdir(home.directory.c_str()) != 0 && errno != ENOENT) {
      LogWarning("rmdir ", home.directory, ": ", ErrnoStatus("").message());
    }
    if (!home.unified || moved_from_.empty()) continue;
    // The way of DelegateHome() back.
    for (Controller controller : home.controllers) {
      WriteText(moved_from_ + "/cgroup.subtree_control",
                absl::StrCat("-", ControllerName(controller)))
          .IgnoreError();
    }
    WriteText(moved_from_ + "/cgroup.procs", std::to_string(getpid()))
        .IgnoreError();
    rmdir(absl::StrCat(moved_from_, "/", kSupervisorGroup).c_str());
  }
}

// ---- Cgroup ----

absl::StatusOr<std::vector<UniqueFd>> Cgroup::OpenProcesses() const {
  std::vector<UniqueFd> files;
  for (const Place& place : places_) {
    const std::string path = place.directory + "/cgroup.procs";
    UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus(absl::StrCat("open ", path));
    files.push_back(std::move(fd));
  }
  return files;
}

Cgroup::Costs Cgroup::ReadCosts() const {
  Costs costs;
  for (const Place& place : places_) {
    for (Controller controller : place.controllers) {
      const auto [file, word] = CounterOf(controller, place.unified);
      if (file.empty()) continue;
      const uint64_t count =
          ParseCounter(ReadTextFile(place.directory + "/" + file), word)
              .value_or(0);
      if (controller == Controller::kMemory) costs.oom_kills = count;
      if (controller == Controller::kTasks) costs.forks_refused = count;
    }
  }
  return costs;
}

std::vector<int> Cgroup::Processes() const {
  std::set<int> all;
  for (const Place& place : places_) {
    const std::vector<int> here = ProcessesOf(place.directory);
    all.insert(here.begin(), here.end());
  }
  return {all.begin(), all.end()};
}

bool Cgroup::Remove() {
  bool gone = true;
  for (const Place& place : places_) {
    if (rmdir(place.directory.c_str()) == 0 || errno == ENOENT) continue;
    KillIn(place.directory);
    gone = false;
  }
  return gone;
}

}  // namespace holdfast::launcher

#include "launcher/cgroup_plan.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/crc32c.h"

namespace holdfast::launcher {
namespace {

constexpr uint64_t kCpuPeriodUs = 100000;

// Spaces and the like in a path of mountinfo are "\040".
std::string Unescaped(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 +
                                 (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::vector<Controller> ControllersIn(absl::string_view text, char separator) {
  std::vector<Controller> found;
  for (absl::string_view word : absl::StrSplit(text, separator)) {
    for (int i = 0; i < kControllerCount; ++i) {
      const auto controller = static_cast<Controller>(i);
      if (word == ControllerName(controller)) found.push_back(controller);
    }
  }
  return found;
}

struct Mount {
  std::string root;  // The group of the hierarchy that is mounted.
  std::string point;
  bool unified = false;
  std::vector<Controller> controllers;
};

// "31 23 0:28 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids"
std::optional<Mount> ParseMount(absl::string_view line) {
  const size_t dash = line.find(" - ");
  if (dash == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> left =
      absl::StrSplit(line.substr(0, dash), ' ');
  const std::vector<absl::string_view> right =
      absl::StrSplit(line.substr(dash + 3), ' ');
  if (left.size() < 5 || right.size() < 3) return std::nullopt;
  Mount mount;
  mount.unified = right[0] == "cgroup2";
  if (!mount.unified && right[0] != "cgroup") return std::nullopt;
  mount.root = Unescaped(left[3]);
  mount.point = Unescaped(left[4]);
  if (!mount.unified) mount.controllers = ControllersIn(right[2], ',');
  return mount;
}

// The path of this process in the hierarchy of `mount`. Lines are
// "8:pids:/path", and "0::/path" for version 2.
std::optional<std::string> OwnPath(const Mount& mount,
                                   absl::string_view self_cgroup) {
  for (absl::string_view line : absl::StrSplit(self_cgroup, '\n')) {
    const std::vector<absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool same =
        mount.unified ? parts[0] == "0" && parts[1].empty()
                      : !mount.controllers.empty() &&
                            ControllersIn(parts[1], ',') == mount.controllers;
    if (same) return std::string(parts[2]);
  }
  return std::nullopt;
}

// Where `path` is seen, given that `mount` may show a part of the hierarchy.
std::string Below(const Mount& mount, absl::string_view path) {
  if (mount.root != "/") {
    if (path != mount.root && !absl::StartsWith(path, mount.root + "/")) {
      return mount.point;
    }
    path.remove_prefix(mount.root.size());
  }
  return absl::StrCat(mount.point, path == "/" ? "" : path);
}

}  // namespace

const char* ControllerName(Controller controller) {
  switch (controller) {
    case Controller::kMemory:
      return "memory";
    case Controller::kTasks:
      return "pids";
    case Controller::kCpu:
      return "cpu";
  }
  return "unknown";
}

bool CgroupHome::Has(Controller controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) !=
         controllers.end();
}

std::vector<CgroupHome> FindCgroupHomes(absl::string_view mountinfo,
                                        absl::string_view self_cgroup) {
  std::vector<CgroupHome> homes;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    const std::optional<Mount> mount = ParseMount(line);
    if (!mount.has_value()) continue;
    if (!mount->unified && mount->controllers.empty()) continue;
    const std::optional<std::string> path = OwnPath(*mount, self_cgroup);
    if (!path.has_value()) continue;
    CgroupHome home;
    home.directory = Below(*mount, *path);
    home.unified = mount->unified;
    home.controllers = mount->controllers;
    // Where the holdfastd before moved itself, and us with it.
    if (home.unified) {
      home.directory = std::string(absl::StripSuffix(
          home.directory, absl::StrCat("/", kSupervisorGroup)));
    }
    const bool again = std::any_of(
        homes.begin(), homes.end(), [&home](const CgroupHome& other) {
          return other.unified == home.unified &&
                 other.controllers == home.controllers;
        });
    if (!again) homes.push_back(std::move(home));
  }
  return homes;
}

std::vector<Controller> ParseControllers(absl::string_view text) {
  return ControllersIn(absl::StripSuffix(text, "\n"), ' ');
}

std::vector<CgroupSetting> SettingsOf(Controller controller, bool unified,
                                      const GroupLimits& limits) {
  switch (controller) {
    case Controller::kMemory: {
      if (limits.memory == 0) return {};
      const std::string bytes = absl::StrCat(limits.memory);
      // What is swapped out would not count.
      if (unified)
        return {{"memory.max", bytes}, {"memory.swap.max", "0", true}};
      return {{"memory.limit_in_bytes", bytes},
              {"memory.memsw.limit_in_bytes", bytes, true}};
    }
    case Controller::kTasks:
      if (limits.tasks == 0) return {};
      return {{"pids.max", absl::StrCat(limits.tasks)}};
    case Controller::kCpu: {
      if (limits.cpu_percent == 0) return {};
      const uint64_t quota = limits.cpu_percent * kCpuPeriodUs / 100;
      if (unified) {
        return {{"cpu.max", absl::StrCat(quota, " ", kCpuPeriodUs)}};
      }
      return {{"cpu.cfs_period_us", absl::StrCat(kCpuPeriodUs)},
              {"cpu.cfs_quota_us", absl::StrCat(quota)}};
    }
  }
  return {};
}

std::pair<std::string, std::string> CounterOf(Controller controller,
                                              bool unified) {
  switch (controller) {
    case Controller::kMemory:
      return {unified ? "memory.events" : "memory.oom_control", "oom_kill"};
    case Controller::kTasks:
      return {"pids.events", "max"};
    case Controller::kCpu:
      break;
  }
  return {};
}

std::optional<uint64_t> ParseCounter(absl::string_view text,
                                     absl::string_view word) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    uint64_t number = 0;
    if (parts.first == word && absl::SimpleAtoi(parts.second, &number)) {
      return number;
    }
  }
  return std::nullopt;
}

std::vector<int> ParseProcesses(absl::string_view text) {
  std::vector<int> processes;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    int pid = 0;
    if (absl::SimpleAtoi(line, &pid) && pid > 0) processes.push_back(pid);
  }
  return processes;
}

std::string CgroupNameOf(absl::string_view run_dir) {
  const uint32_t sum = Crc32c(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(run_dir.data()), run_dir.size()));
  return absl::StrFormat("holdfast-%08x", sum);
}

}  // namespace holdfast::launcher

#ifndef HOLDFAST_LAUNCHER_CGROUP_PLAN_H_
#define HOLDFAST_LAUNCHER_CGROUP_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// What is to be done with control groups, without doing it: the texts of /proc
// and of the groups' own files in, paths and values out. Pure.

// The controllers that instances are limited by.
enum class Controller : uint8_t { kMemory, kTasks, kCpu };
inline constexpr int kControllerCount = 3;

// "memory", "pids", "cpu": as the kernel calls them.
const char* ControllerName(Controller controller);

// A mounted hierarchy and this process's own group in it.
struct CgroupHome {
  std::string directory;
  bool unified = false;  // Version 2.
  // Of version 1; what a group of version 2 has is in its cgroup.controllers.
  std::vector<Controller> controllers;

  bool Has(Controller controller) const;
};

// holdfastd moves itself there where version 2 allows no process beside groups.
inline constexpr char kSupervisorGroup[] = "holdfast-supervisor";

// The hierarchies that may be of use, from /proc/self/mountinfo and
// /proc/self/cgroup. Those of version 1 that have none of the controllers are
// left out.
std::vector<CgroupHome> FindCgroupHomes(absl::string_view mountinfo,
                                        absl::string_view self_cgroup);

// The controllers in the text of a cgroup.controllers.
std::vector<Controller> ParseControllers(absl::string_view text);

// A file of a group and what to write into it.
struct CgroupSetting {
  std::string file;
  std::string value;
  bool optional = false;  // Some kernels have no such file.
};

// What `limits` mean to one controller, in the order of writing; empty: it has
// no limit.
std::vector<CgroupSetting> SettingsOf(Controller controller, bool unified,
                                      const GroupLimits& limits);

// The file of a controller that counts what its limit has cost, and the word
// that the number stands behind; empty: there is none.
std::pair<std::string, std::string> CounterOf(Controller controller,
                                              bool unified);

// The number behind `word`, in lines such as "oom_kill 3".
std::optional<uint64_t> ParseCounter(absl::string_view text,
                                     absl::string_view word);

// The processes in the text of a cgroup.procs.
std::vector<int> ParseProcesses(absl::string_view text);

// The group of all instances of one holdfastd: the same for the same run
// directory, another one for another.
std::string CgroupNameOf(absl::string_view run_dir);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CGROUP_PLAN_H_

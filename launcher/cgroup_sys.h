#ifndef HOLDFAST_LAUNCHER_CGROUP_SYS_H_
#define HOLDFAST_LAUNCHER_CGROUP_SYS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "launcher/cgroup_plan.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// The control groups of one instance, or of nothing. They outlive this object:
// the next core makes it anew, by name. Not thread-safe.
class Cgroup {
 public:
  Cgroup() = default;
  Cgroup(Cgroup&&) = default;
  Cgroup& operator=(Cgroup&&) = default;

  // The cgroup.procs files, for sandbox::JailSpec::cgroups.
  absl::StatusOr<std::vector<UniqueFd>> OpenProcesses() const;

  // What its limits have cost so far.
  struct Costs {
    uint64_t oom_kills = 0;
    uint64_t forks_refused = 0;
  };
  Costs ReadCosts() const;

  // What was asked for and not given, "degraded: cgroups: ...".
  const std::vector<std::string>& degraded() const { return degraded_; }

  // Everybody in the groups.
  std::vector<int> Processes() const;

  // Removes the groups; kills whoever is still in them, and is then false: it
  // takes another call when they are gone.
  bool Remove();

 private:
  friend class CgroupTree;

  struct Place {
    std::string directory;
    bool unified = false;
    std::vector<Controller> controllers;
  };

  std::vector<Place> places_;
  std::vector<std::string> degraded_;
};

// Where the groups of one holdfastd are: a group named `name` below its own
// group, in every hierarchy that has a controller of use. Only one process at a
// time may use a name: that of the run directory's lock.
class CgroupTree {
 public:
  // A tree without any place.
  CgroupTree() = default;
  // Never fails: without a usable hierarchy every Make() says why.
  static CgroupTree Create(const std::string& name);
  // The same in given hierarchies, for tests.
  static CgroupTree CreateIn(std::vector<CgroupHome> homes,
                             const std::string& name);

  // Kills everything in the tree and removes its groups: what a holdfastd left
  // that died as a whole. The processes that it killed. Waits for their ends,
  // at most some seconds.
  std::vector<int> EndLeftBehind() const;

  // Makes, or finds again, the groups of `name` and sets the limits.
  Cgroup Make(const std::string& name, const GroupLimits& limits) const;

  // Undoes Create(); groups that are not empty stay.
  void Remove() const;

 private:
  // With the directory of the tree in place of the home's.
  std::vector<CgroupHome> homes_;
  std::string moved_from_;  // This process's group before Create() moved it.
  std::string why_none_ = "not looked for";
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CGROUP_SYS_H_

// The part of Instance that has to do with its control group.

#include <signal.h>

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/instance_sys.h"
#include "launcher/process_sys.h"

namespace holdfast::launcher {
namespace {

// Killed processes are gone after a moment.
constexpr absl::Duration kRetry = absl::Milliseconds(10);
constexpr int kTries = 100;

}  // namespace

void Instance::MakeGroup() {
  group_ = host_.cgroups().Make(spec_.name, spec_.group_limits);
  const GroupLimits& limits = spec_.group_limits;
  if (limits.memory != 0 || limits.tasks != 0) limits_check_ = Now();
  // A group that was made anew counts from zero.
  const Cgroup::Costs costs = group_.ReadCosts();
  counters_.oom_kills = std::min(counters_.oom_kills, costs.oom_kills);
  counters_.forks_refused =
      std::min(counters_.forks_refused, costs.forks_refused);
}

void Instance::CheckLimits() {
  const Cgroup::Costs costs = group_.ReadCosts();
  if (const uint64_t refused = costs.forks_refused - counters_.forks_refused;
      costs.forks_refused > counters_.forks_refused) {
    Report("limit", 0, "", 0,
           absl::StrCat("group_limits.tasks is ", spec_.group_limits.tasks,
                        ": ", refused, " more were refused"));
  }
  if (const uint64_t kills = costs.oom_kills - counters_.oom_kills;
      costs.oom_kills > counters_.oom_kills) {
    unexplained_oom_kills_ += kills;
    Report("limit", 0, "", 0,
           absl::StrCat("group_limits.memory is ", spec_.group_limits.memory,
                        " bytes: ", kills, " processes were killed"));
  }
  counters_.forks_refused = costs.forks_refused;
  counters_.oom_kills = costs.oom_kills;
  SaveCounters();
}

// Once nobody is left; whoever hides there, such as a descendant of a child
// without a pid namespace, is killed.
void Instance::RemoveGroup() {
  if (group_removed_) return;
  group_removed_ = group_.Remove();
  if (group_removed_) return;
  if (++group_tries_ < kTries) {
    retry_causes_ = Now() + kRetry;
    return;
  }
  group_removed_ = true;
  Report("group-left", 0, "", 0, "its control group cannot be removed");
}

// Kills the descendants of children that have ended: everybody in the group
// that nobody who lives is an ancestor of.
void Instance::KillStrays() {
  std::vector<int> living;
  if (backend_.has_value()) living = backend_->Pids();
  for (const auto& child : children_) {
    if (!child->ended && child->pid != 0) living.push_back(child->pid);
  }
  std::set<int> kin(living.begin(), living.end());
  for (int pid : living) {
    const std::vector<int> below = DescendantsOf(pid);
    kin.insert(below.begin(), below.end());
  }
  for (int pid : group_.Processes()) {
    if (kin.count(pid) == 0) kill(pid, SIGKILL);
  }
  retry_causes_ = Now() + kRetry;  // One may have forked meanwhile.
}

}  // namespace holdfast::launcher

#ifndef HOLDFAST_LAUNCHER_INSTANCE_SYS_H_
#define HOLDFAST_LAUNCHER_INSTANCE_SYS_H_

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/log_limiter.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "launcher/backend_sys.h"
#include "launcher/cgroup_sys.h"
#include "launcher/core_protocol.h"
#include "launcher/instance_record.h"
#include "launcher/policy_filters_sys.h"
#include "launcher/resources_sys.h"
#include "launcher/spawn_sys.h"
#include "launcher/spec.h"
#include "launcher/supervisor.h"
#include "statestore/store/client.h"

namespace holdfast::launcher {

// What an instance needs of the core around it.
class InstanceHost {
 public:
  virtual ~InstanceHost() = default;
  // Null while no store runs.
  virtual store::Client* store() = 0;
  // Whether the HUP of a seccomp listener proves a death on this machine.
  virtual bool listener_fence() const = 0;
  virtual const AllowedDirectories& binaries() const = 0;
  virtual const AllowedDirectories& policies() const = 0;
  virtual const std::vector<std::string>& policy_dirs() const = 0;
  virtual const CgroupTree& cgroups() const = 0;
  // The wait status of a process that the parent has reaped; nothing: unknown,
  // or not yet. Once only.
  virtual std::optional<int> TakeExitStatus(int pid) = 0;
  // Lets the store run before children of this real-time priority: on a busy
  // machine it would otherwise be what their recovery waits for.
  virtual absl::Status PutStoreBefore(uint32_t realtime_priority) = 0;
  // Takes the event into the log, with number and time.
  virtual void Report(LaunchEvent event) = 0;
};

// One instance: its supervisor, and the executor that performs what it decides.
// Holds everything that a new store would need. One thread.
class Instance {
 public:
  // Descriptors and decisions of a spec that was accepted.
  struct Parts {
    LaunchSpec spec;  // With its uid and its resolved socket path.
    std::vector<UniqueFd> resources;  // In the order of the spec.
    UniqueFd listener;                // Not valid: no socket.
  };
  // Makes segment and record, tells the store and starts the first child.
  static absl::StatusOr<std::unique_ptr<Instance>> Create(InstanceHost& host,
                                                          store::InstanceId id,
                                                          Parts parts);

  // Takes over what an earlier launcher left in the store.
  static absl::StatusOr<std::unique_ptr<Instance>> Adopt(
      InstanceHost& host, store::Client::InstanceInfo info,
      std::vector<store::Client::ChildInfo> children,
      const std::vector<store::Slot>& slots);

  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  // Steps the supervisor and performs its actions.
  void Handle(const Event& event);

  // An event of the store about this instance.
  void OnStoreEvent(const store::Message& message);
  void OnStoreLost();

  // Looks after children that have ended: those of Pidfds() that are readable,
  // and those whose exit cause was not known before.
  void CheckChildren();
  // Lets every timer fire that is due; also retries exit causes.
  void OnTime(Uptime now);
  // When OnTime() has something to do; infinite: never.
  Uptime NextDeadline() const;
  // To wait for; of children that are not known to have ended.
  std::vector<BorrowedFd> Pidfds() const;
  // To wait for as well, with POLLRDHUP alone.
  std::vector<BorrowedFd> Hangups() const {
    return backend_.has_value() ? backend_->Connections()
                                : std::vector<BorrowedFd>();
  }

  // Everything of it is gone; to be destroyed.
  bool stopped() const {
    return stopped_ && children_.empty() && group_removed_;
  }
  const std::string& name() const { return spec_.name; }
  uint32_t uid() const { return spec_.uid; }
  store::InstanceId id() const { return id_; }
  State state() const { return supervision_.state; }
  bool stopping() const {
    return state() == State::kStopping || state() == State::kStopped;
  }
  BorrowedFd segment() const { return segment_; }

  InstanceStatus Status() const;
  // kFailedPrecondition when it is being stopped.
  absl::Status Restart();
  // Tells its processes that a resource may have another size. The active one
  // tells the VMM; a standby that is promoted first does it in its place.
  // kFailedPrecondition when none is active: the VMM would not be told.
  // kUnavailable when the next one is on its way: to be tried again.
  absl::Status Resize();
  // Begins to replace what it wraps by what `spec` wraps. kFailedPrecondition:
  // not now, or it wraps nothing. Other errors: the program cannot be used.
  absl::Status Replace(const LaunchSpec& spec);
  // What has become of that; nothing: it is going on.
  std::optional<absl::Status> replacement() const;
  // Whether what it wraps has begun well, as far as it is known; nothing
  // wrapped: OK.
  std::optional<absl::Status> first_word() const;
  // kFailedPrecondition when there is no such child.
  absl::Status Inject(Fault fault, FaultTarget target);

 private:
  struct Child {
    ChildNumber number = 0;
    int pid = 0;
    UniqueFd pidfd;
    UniqueFd listener;  // Seccomp listener; not valid: the kernel has none.
    UniqueFd control;
    bool lost = false;     // The supervisor knows.
    bool planned = false;  // It was asked to end.
    bool ended = false;    // Its pidfd says so.
    int cause_tries = 0;
  };

  Instance(InstanceHost& host, store::InstanceId id, LaunchSpec spec);

  // That there is no child of this role, why, and what to do. kUnavailable: it
  // is being started in the place of another one.
  absl::Status NoProcess(absl::string_view role) const;

  absl::Status MakeSegmentAndRecord();
  // Of spec_ as it is now, in the place of the one before.
  absl::Status MakeRecord();
  // CreateInstance up to PutBlob.
  absl::Status Deposit(store::Client& store);
  absl::Status AddToStore(store::Client& store, Child& child,
                          BorrowedFd channel, uint64_t flags);

  void Perform(const SpawnChild& action);
  void Perform(const StopChild& action);
  void Perform(const KillChild& action);
  void Perform(const DemoteChild& action);
  void Perform(const HoldPromotion& action);
  void Perform(const ArmTimer& action);
  void Perform(const EmitEvent& action);
  void Perform(const Redeposit& action);
  void Perform(const KeepConnection& action);
  void Perform(const DropConnection& action);
  void Perform(const CloseInstance& action);

  absl::Status Spawn(ChildNumber number);
  absl::Status RedepositAll(bool hold);
  void PutStoreBefore();
  absl::Status Reattach(store::Client& store, Child& child, bool active);
  void OnPromoted(const store::Message& message);
  void OnChannelEnded(ChildNumber number);
  // Whether the child was asked to end.
  bool IsPlanned(ChildNumber number) const;
  // Those of the record that the store does not know any more.
  void AdoptLost(Adopted& adopted);
  void FinishChild(Child& child);
  std::optional<std::string> ExitCauseOf(const Child& child);
  void KillStrays();
  void Lose(ChildNumber number);
  void MakeBackend();
  void AdoptBackend(std::vector<UniqueFd> ends);
  absl::Status GiveBackend(store::Client& store, const BackendEnds& ends);
  // By store::BackendResource.
  store::Slot BackendSlot(size_t resource) const;
  absl::Status KeepSpec();
  absl::Status InjectBackend(Fault fault);
  void MakeGroup();
  // Reports what the group's limits have cost since it was asked last.
  void CheckLimits();
  void RemoveGroup();
  void CollectCounters();
  void SaveCounters();
  void Report(std::string type, int pid, std::string cause, uint64_t us,
              std::string detail);
  // What a VMM can cause at will: it must not drive everybody else's events out
  // of the log. Some are left out of a flood.
  void ReportVmm(const std::string& type, int pid, std::string detail);
  Child* Find(ChildNumber number);
  int PidOf(ChildNumber number) const;

  InstanceHost& host_;
  const store::InstanceId id_;
  LaunchSpec spec_;
  Supervision supervision_;
  std::deque<Event> events_;  // Waiting for the Step() in progress.
  LogLimiter vmm_events_;
  bool stepping_ = false;
  bool stopped_ = false;

  UniqueFd segment_;
  UniqueFd record_fd_;
  Mapping record_;
  RecordCounters counters_;
  std::vector<UniqueFd> resources_;
  UniqueFd listener_;    // Listening socket; not valid after an adoption.
  UniqueFd connection_;  // A duplicate, while a VMM is there.
  PolicyFilters filters_;
  bool filters_loaded_ = false;

  Cgroup group_;
  bool group_removed_ = false;
  int group_tries_ = 0;
  uint64_t unexplained_oom_kills_ = 0;  // Not yet the cause of an exit.

  std::vector<std::unique_ptr<Child>> children_;
  std::optional<BackendProcess> backend_;  // Not set: nothing is wrapped.
  uint64_t epoch_ = 0;
  uint64_t promotion_us_ = 0;  // Of the kPromoted being handled.
  std::vector<std::string> degraded_;
  std::array<std::optional<Uptime>, kTimerCount> timers_;
  std::optional<Uptime> retry_causes_;
  std::optional<Uptime> limits_check_;  // Not set: there are none.
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_INSTANCE_SYS_H_

#ifndef HOLDFAST_LAUNCHER_CORE_SYS_H_
#define HOLDFAST_LAUNCHER_CORE_SYS_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "launcher/cgroup_sys.h"
#include "launcher/control_sys.h"
#include "launcher/core_protocol.h"
#include "launcher/custody_sys.h"
#include "launcher/event_log.h"
#include "launcher/instance_sys.h"
#include "launcher/options.h"
#include "launcher/pending_specs.h"
#include "launcher/resources_sys.h"
#include "launcher/restart_policy.h"
#include "launcher/spec.h"
#include "statestore/store/client.h"

namespace holdfast::launcher {

// How a core is born.
struct CoreStart {
  UniqueFd parent_channel;  // For SendCustody().
  UniqueFd parent_pidfd;
  Custody custody;              // Of the core before, if any.
  int cores_before = 0;         // How many have ended.
  bool stop = false;            // Somebody has asked for the end already.
  bool listener_fence = false;  // What sandbox::ProbeFence() found.
  CgroupTree cgroups;
  std::deque<ExitNotice> exits;  // The last ones before it was born.
  std::vector<int> left_behind;  // Of an earlier holdfastd; killed.
};

enum class CoreEnd {
  kStopped,     // In order; nothing is left.
  kFailed,      // It cannot run on this machine or with these options.
  kAgain,       // A fresh core must take over.
  kParentDied,  // This process must take the parent's role.
};

// The core: one thread that waits for the store, for the children's ends, for
// clients and for time, and feeds the instances.
class Core final : public InstanceHost {
 public:
  Core(const Options& options, CoreStart start);
  ~Core() override;

  CoreEnd Run();

  // For the next parent, after kParentDied.
  Custody TakeCustody() { return std::move(custody_); }

  // InstanceHost
  store::Client* store() override { return store_.get(); }
  bool listener_fence() const override { return start_.listener_fence; }
  const AllowedDirectories& binaries() const override { return *binaries_; }
  const AllowedDirectories& policies() const override { return *policies_; }
  const std::vector<std::string>& policy_dirs() const override {
    return options_.policy_dirs;
  }
  const CgroupTree& cgroups() const override { return start_.cgroups; }
  std::optional<int> TakeExitStatus(int pid) override;
  absl::Status PutStoreBefore(uint32_t realtime_priority) override;
  void Report(LaunchEvent event) override;

 private:
  absl::Status Prepare();
  absl::Status PrepareDirectories();

  // The directory of specs.
  void RunSpecDirectory();
  absl::Status RunSpecFile(const std::string& path);
  absl::Status AddPendingSpec(const std::string& path);
  void HandOutSpec(Answer& answer);
  absl::Status TakeReadSpec(const Request& request);
  void ReportRefused(absl::string_view file, absl::string_view message);
  absl::Status RunSpecOnce(LaunchSpec spec);
  void NoteSpecsRun();

  // The store.
  absl::Status StartStore();
  absl::Status AdoptFromStore();
  void AdoptInstances(store::Client::Inventory inventory);
  void ReadStoreEvents();
  void LoseStore();
  void RestartStoreIfDue();
  void CheckStoreIfDue();
  void EndStore();
  void KillLeftBehind();

  // The api, when one is wanted.
  void PrepareApi();
  absl::Status StartApi();
  void CheckApi();
  void LoseApi(std::string cause);
  void RestartApiIfDue();
  void EndApi();

  // The loop.
  void Wait();
  void Work();
  void RemoveStopped();
  void AnswerWaiting();
  Uptime NextDeadline() const;

  // Requests.
  struct Waiting {
    ControlServer::ClientId client;
    Request request;
    Uptime deadline;  // Of kResize and kRun.
    // Of a kRun that has failed, for when nothing of the instance is left.
    absl::Status failure;
  };
  void Serve(ControlServer::ClientId client, const Request& request);
  // Keeps a request that is answered later; a client has a bounded number.
  void LetWait(ControlServer::ClientId client, const Request& request,
               Uptime deadline = absl::InfiniteDuration());
  // What there is to say to `waiting`. False: nothing yet.
  bool AnswerTo(Waiting& waiting, Answer& answer);
  bool AnswerToRun(Waiting& waiting, Instance* instance, Answer& answer);
  absl::Status RunSpec(LaunchSpec spec);
  absl::StatusOr<uint32_t> ChooseUid(uint32_t wanted) const;
  absl::Status Inject(const Request& request);
  void DumpState(ControlServer::ClientId client, Answer answer,
                 Instance& instance);
  Instance* FindInstance(const std::string& name);
  absl::Status NoInstance(const std::string& name) const;
  std::vector<ServantStatus> Servants() const;
  void ReportOwn(std::string type, int pid, std::string cause,
                 std::string detail);

  // What `holdfast status` says of store and api.
  struct ServantRecord {
    uint64_t lost = 0;
    std::string last_loss;
    std::vector<std::string> degraded;
  };

  const Options options_;
  CoreStart start_;
  ServantRecord store_record_;
  ServantRecord api_record_;
  UniqueFd signals_;
  std::optional<AllowedDirectories> binaries_;
  std::optional<AllowedDirectories> resources_;
  std::optional<AllowedDirectories> sockets_;
  std::optional<AllowedDirectories> policies_;

  Custody custody_;
  std::unique_ptr<store::Client> store_;
  RestartPolicy store_policy_;
  std::optional<Uptime> store_restart_;
  Uptime store_check_;  // When it is asked next whether it lives.
  store::InstanceId next_instance_ = 1;

  // Open while no api runs: who connects then is served by the next one.
  UniqueFd api_listener_;
  int api_pid_ = 0;
  UniqueFd api_pidfd_;  // Not valid: none runs.
  ControlServer::ClientId api_watch_ = 0;
  Uptime api_deadline_;  // It hangs unless it says kBeat before.
  Uptime heard_;         // What clients said before this has been read.
  RestartPolicy api_policy_;
  std::optional<Uptime> api_restart_;

  std::vector<std::unique_ptr<Instance>> instances_;
  EventLog events_;
  PendingSpecs pending_specs_;
  std::optional<ControlServer> control_;
  std::vector<Waiting> waiting_;  // kStop, kEvents, kResize, kReplace.
  int raise_ = 0;  // A signal to send to this process after the answer is out.
  bool stopping_ = false;
  std::optional<CoreEnd> end_;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CORE_SYS_H_

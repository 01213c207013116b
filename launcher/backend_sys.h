#ifndef HOLDFAST_LAUNCHER_BACKEND_SYS_H_
#define HOLDFAST_LAUNCHER_BACKEND_SYS_H_

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "launcher/backend.h"
#include "launcher/cgroup_sys.h"
#include "launcher/instance_record.h"
#include "launcher/restart_policy.h"
#include "launcher/spec.h"
#include "statestore/store/backend_resources.h"

namespace holdfast::launcher {

// What the keeper has, by store::BackendResource; all of them.
using BackendEnds = std::vector<BorrowedFd>;

// The wrapped program of an instance: performs what backend::Step decides. One
// thread.
class BackendProcess {
 public:
  // What it needs of the instance around it. All outlive it.
  struct Host {
    // The keeper is to use these from now on. What is not valid stays as it is.
    std::function<void(const BackendEnds& ends)> hand_over;
    std::function<void(std::string type, int pid, std::string cause,
                       std::string detail)>
        report;
    std::function<absl::StatusOr<UniqueFd>(const std::string& path)> open;
    // From now on this is what is wrapped: to be kept with `recorded`.
    std::function<void(const BackendSpec& spec)> replaced;
    // Of processes that somebody else has reaped; see InstanceHost.
    std::function<std::optional<int>(int pid)> exit_status;
    const Cgroup* group = nullptr;
    // SCHED_FIFO of lives that do not poll; 0: none.
    uint32_t realtime_priority = 0;
  };

  BackendProcess(const BackendSpec& spec, const RestartLimits& restart,
                 Host host);

  void Handle(const backend::Event& event);

  // Begins to replace the program by another one, which has the same socket.
  // kFailedPrecondition: not now. Its end is told by `replacement`.
  absl::Status Replace(const BackendSpec& spec);
  // Ends all losses, too. By the same program, from its file as it is by now;
  // where that cannot be, the current life is ended.
  void Restart();
  // Nothing: it is going on. Of the last one; of none: OK.
  const std::optional<absl::Status>& replacement() const {
    return replacement_;
  }

  // Goes on with what an earlier launcher has started. `ends` is what the
  // keeper has, all of it; the lives at the other ends go on, every other one
  // that was recorded is killed and waited for.
  void Adopt(const RecordedBackend& recorded, std::vector<UniqueFd> ends);

  // How the first life has begun that the keeper has spoken to, or that did not
  // come so far; nothing: that is not known yet.
  const std::optional<absl::Status>& first_word() const { return first_word_; }

  // Looks after lives that have ended, have hung up or were given up.
  void Check();
  void OnTime(Uptime now);
  Uptime NextDeadline() const;
  // Readable when Check has something to do.
  std::vector<BorrowedFd> Sources() const;
  // To be waited for with POLLRDHUP alone: one of the ends has hung up.
  std::vector<BorrowedFd> Connections() const;

  // Nothing of it runs, and nothing will.
  bool idle() const {
    return supervision_.state == backend::State::kIdle && lives_.empty();
  }
  std::vector<int> Pids() const;
  int pid() const { return PidOf(supervision_.current); }
  int spare_pid() const { return PidOf(supervision_.spare); }
  absl::string_view state() const {
    return backend::StateName(supervision_.state);
  }
  // Those that the keeper was given.
  uint64_t lives() const { return lives_given_; }
  // What the keeper has; invalid: nothing.
  BackendEnds ends() const;
  // Whether anything has happened yet.
  bool begun() const { return begun_; }
  // For the next launcher. It does not go on with a candidate that the keeper
  // has not looked at.
  RecordedBackend recorded() const;
  // kFailedPrecondition: nothing runs.
  absl::Status Kill(int signal);

 private:
  struct Life {
    backend::LifeNumber number = 0;
    size_t seat = 0;
    int pid = 0;
    UniqueFd pidfd;
    UniqueFd connection;
    UniqueFd requests;
    UniqueFd requests_peer;
    UniqueFd fence;  // See store::kBackendFence.
    uint64_t started = 0;
    bool useless = false;  // The supervision knows.
    bool follows = false;  // The keeper may go on with it by itself.
    std::string why;       // It is useless, where somebody has said so.
  };

  void Perform(const backend::SpawnLife& action);
  void Perform(const backend::HandOver& action);
  void Perform(const backend::CommitReplacement& action);
  void Perform(const backend::EndReplacement& action);
  void Perform(const backend::EndLife& action);
  void Perform(const backend::ArmTimer& action);
  void Perform(const backend::Report& action);
  void BeReplacedBy(const BackendSpec& spec, const backend::Event& event);
  absl::Status Spawn(backend::LifeNumber number);
  size_t FreeSeat() const;
  // Adds what the keeper has of this life.
  static void PutInSeat(const Life& life, BackendEnds& ends);
  // What is to be executed, which is its interpreter if it is a script, and the
  // first words of its arguments.
  absl::StatusOr<UniqueFd> OpenProgram(const std::string& path,
                                       std::vector<std::string>& argv) const;
  // Without one lives of no use are not heard of, which it logs.
  void MakeVerdictChannel();
  void TakeVerdicts();
  // Tells the keeper that it ended by a fault of its own.
  void TellOfFault(const Life& life);
  void Condemn(Life& life, std::string why);
  void SayFirst(backend::LifeNumber life, absl::Status word);
  void SayHowItEnded(const Life& life, const std::string& cause);
  std::string CauseOf(const Life& life) const;
  const Life* Find(backend::LifeNumber number) const;
  int PidOf(backend::LifeNumber number) const;

  BackendSpec spec_;
  BackendSpec candidate_spec_;
  BackendSpec replaced_spec_;  // Of lives before `since_`.
  backend::LifeNumber since_ = 0;
  std::optional<absl::Status> replacement_ = absl::OkStatus();
  std::optional<absl::Status> first_word_;
  const Host host_;
  backend::Supervision supervision_;
  std::vector<Life> lives_;
  std::deque<backend::Event> events_;
  bool stepping_ = false;
  bool begun_ = false;
  uint64_t lives_given_ = 0;
  UniqueFd verdicts_;       // Where the keeper's come ...
  UniqueFd verdicts_peer_;  // ... from.
  std::array<std::optional<Uptime>, backend::kTimerCount> timers_;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_BACKEND_SYS_H_

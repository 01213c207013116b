// The part of Core that starts, watches and replaces holdfast-api.

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/core_sys.h"
#include "launcher/donation.h"
#include "launcher/process_sys.h"
#include "launcher/spawn_sys.h"

namespace holdfast::launcher {

// Devices do not need the api, so none of this stops the core.
void Core::PrepareApi() {
  if (options_.api.empty()) return;
  // The run directory is this holdfastd's alone, so the file is one of a core
  // before; its api may still be dying with the listener in its hands.
  unlink((options_.run_dir + "/api.sock").c_str());
  // For root alone, by the process's umask: whoever may open it may do
  // everything.
  absl::StatusOr<UniqueFd> listener = ListenAt(options_.run_dir + "/api.sock");
  if (!listener.ok()) {
    ReportOwn("api-start-failed", 0, "",
              std::string(listener.status().message()));
    return;
  }
  api_listener_ = *std::move(listener);
  api_restart_ = Now();
}

absl::Status Core::StartApi() {
  std::vector<UniqueFd> ours, theirs;
  for (int i = 0; i < kApiLinks; ++i) {
    ASSIGN_OR_RETURN(auto pair, SeqpacketPair());
    ours.push_back(std::move(pair.first));
    theirs.push_back(std::move(pair.second));
  }
  const uint32_t uid = options_.uid_base + options_.uid_count - 1;
  ASSIGN_OR_RETURN(SpawnedChild child,
                   SpawnApi(options_.api, uid, api_listener_, theirs));
  for (UniqueFd& link : ours) control_->Adopt(std::move(link));
  api_pid_ = child.pid;
  api_pidfd_ = std::move(child.pidfd);
  ReportOwn("api-started", api_pid_, "", absl::StrJoin(child.degraded, "; "));
  return absl::OkStatus();
}

void Core::CheckApi() {
  if (!api_pidfd_.valid() || !HasEnded(api_pidfd_)) return;
  const std::optional<std::string> cause = TakeExitCause(api_pidfd_);
  api_pidfd_.Reset();
  ReportOwn("api-lost", api_pid_, cause.value_or(""), "");
  api_restart_ = Now() + api_policy_.OnLoss(Now()).delay;
}

void Core::RestartApiIfDue() {
  if (!api_restart_.has_value() || *api_restart_ > Now()) return;
  api_restart_.reset();
  if (absl::Status status = StartApi(); !status.ok()) {
    ReportOwn("api-start-failed", 0, "", std::string(status.message()));
    api_restart_ = Now() + api_policy_.OnLoss(Now()).delay;
  }
}

void Core::EndApi() {
  api_restart_.reset();
  if (api_pidfd_.valid()) {
    SendSignal(api_pidfd_, SIGKILL).IgnoreError();
    while (!HasEnded(api_pidfd_)) usleep(1000);
    TakeExitCause(api_pidfd_);
    api_pidfd_.Reset();
  }
  if (!api_listener_.valid()) return;
  unlink((options_.run_dir + "/api.sock").c_str());
  api_listener_.Reset();
}

}  // namespace holdfast::launcher

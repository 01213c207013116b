// The part of Core that starts, watches and replaces holdfast-api.

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/core_sys.h"
#include "launcher/donation.h"
#include "launcher/policy_filters_sys.h"
#include "launcher/process_sys.h"
#include "launcher/spawn_sys.h"
#include "launcher/status_field.h"

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
  const absl::StatusOr<PolicyFilters> filters =
      LoadFilters(options_.api_policy, options_.policy_dirs);
  if (!filters.ok()) return WithField("--api-policy", filters.status());
  ASSIGN_OR_RETURN(auto watch, SeqpacketPair());
  std::vector<UniqueFd> ours;
  ApiGifts theirs;
  theirs.listener = api_listener_;
  theirs.watch = std::move(watch.second);
  for (int i = 0; i < kApiLinks; ++i) {
    ASSIGN_OR_RETURN(auto pair, SeqpacketPair());
    ours.push_back(std::move(pair.first));
    theirs.links.push_back(std::move(pair.second));
  }
  const uint32_t uid = options_.uid_base + options_.uid_count - 1;
  absl::StatusOr<SpawnedChild> child =
      SpawnApi(options_.api, uid, theirs, *filters);
  if (!child.ok()) return WithField("--api", child.status());
  for (UniqueFd& link : ours) control_->Adopt(std::move(link));
  api_watch_ = control_->Adopt(std::move(watch.first));
  api_deadline_ = Now() + kBeatPatience;
  api_pid_ = child->pid;
  api_pidfd_ = std::move(child->pidfd);
  api_record_.degraded = std::move(child->degraded);
  ReportOwn("api-started", api_pid_, "",
            absl::StrJoin(api_record_.degraded, "; "));
  return absl::OkStatus();
}

void Core::CheckApi() {
  if (!api_pidfd_.valid()) return;
  if (HasEnded(api_pidfd_)) {
    return LoseApi(TakeExitCause(api_pidfd_).value_or(""));
  }
  // By the time up to which it was listened to: a core that was held up itself
  // has beats of a healthy api still to read.
  if (api_deadline_ > heard_) return;
  ReportOwn("api-hung", api_pid_, "",
            absl::StrCat("silent for ", absl::FormatDuration(kBeatPatience)));
  // Its death is noticed as any other.
  SendSignal(api_pidfd_, SIGKILL).IgnoreError();
  api_deadline_ = absl::InfiniteDuration();
}

void Core::LoseApi(std::string cause) {
  const bool hung = api_deadline_ == absl::InfiniteDuration();
  api_pidfd_.Reset();
  ++api_record_.lost;
  api_record_.last_loss = hung ? "hung" : cause;
  ReportOwn("api-lost", api_pid_, std::move(cause), hung ? "it hung" : "");
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

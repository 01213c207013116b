// The part of Core that serves its clients.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "launcher/core_sys.h"
#include "launcher/process_sys.h"
#include "launcher/status_field.h"
#include "launcher/vmm_socket_sys.h"

namespace holdfast::launcher {
namespace {

// Clients have one or two.
constexpr int kMaxWaitingOfClient = 16;

// For the next active process; less than a client waits for an answer, more
// than one that is asked to end has for it.
constexpr absl::Duration kResizePatience = absl::Seconds(6);

// For a wrapped program to say what it is. One that needs longer is started all
// the same.
constexpr absl::Duration kFirstWordPatience = absl::Seconds(20);

}  // namespace

void Core::Serve(ControlServer::ClientId client, const Request& request) {
  Answer answer;
  answer.tag = request.tag;
  Instance* const instance = FindInstance(request.instance);
  switch (request.op) {
    case Op::kRun: {
      absl::StatusOr<LaunchSpec> spec = DecodeSpec(request.spec);
      const std::string name = spec.ok() ? spec->name : "";
      answer.status = spec.ok() ? RunSpec(*std::move(spec)) : spec.status();
      if (!answer.status.ok()) break;
      if (const Instance* its = FindInstance(name);
          its == nullptr || its->first_word().has_value()) {
        break;
      }
      Request waiting = request;
      waiting.instance = name;
      return LetWait(client, waiting, Now() + kFirstWordPatience);
    }
    case Op::kList:
      for (const auto& each : instances_) {
        answer.statuses.push_back(each->Status());
      }
      answer.servants = Servants();
      break;
    case Op::kBeat:
      if (client == api_watch_) api_deadline_ = Now() + kBeatPatience;
      return;
    case Op::kInject:
      answer.status = Inject(request);
      break;
    case Op::kEvents:
      if (request.wait) return LetWait(client, request);
      events_.Read(request.since, answer);
      break;
    case Op::kNextSpec:
      HandOutSpec(answer);
      break;
    case Op::kSpecRead:
      answer.status = TakeReadSpec(request);
      break;
    case Op::kStatus:
    case Op::kStop:
    case Op::kRestart:
    case Op::kResize:
    case Op::kReplace:
    case Op::kStateDump:
      if (instance == nullptr) {
        answer.status = NoInstance(request.instance);
      } else if (request.op == Op::kStatus) {
        answer.statuses.push_back(instance->Status());
      } else if (request.op == Op::kStop) {
        instance->Handle(StopRequested{});
        return LetWait(client, request);
      } else if (request.op == Op::kRestart) {
        answer.status = instance->Restart();
        if (answer.status.ok() && !instance->replacement().has_value()) {
          return LetWait(client, request);
        }
      } else if (request.op == Op::kResize) {
        answer.status = instance->Resize();
        if (absl::IsUnavailable(answer.status)) {
          return LetWait(client, request, Now() + kResizePatience);
        }
      } else if (request.op == Op::kReplace) {
        absl::StatusOr<LaunchSpec> spec = DecodeSpec(request.spec);
        answer.status = spec.ok() ? instance->Replace(*spec) : spec.status();
        if (answer.status.ok()) return LetWait(client, request);
      } else {
        return DumpState(client, std::move(answer), *instance);
      }
      break;
  }
  control_->Send(client, answer);
}

void Core::LetWait(ControlServer::ClientId client, const Request& request,
                   Uptime deadline) {
  const auto its = std::count_if(
      waiting_.begin(), waiting_.end(),
      [client](const Waiting& waiting) { return waiting.client == client; });
  if (its < kMaxWaitingOfClient) {
    waiting_.push_back({client, request, deadline, absl::OkStatus()});
    return;
  }
  Answer answer;
  answer.tag = request.tag;
  answer.status = absl::ResourceExhaustedError(absl::StrCat(
      its, " requests of this client wait already: read their answers"));
  control_->Send(client, answer);
}

// What cannot be wrapped is not left behind, to be started again and again.
bool Core::AnswerToRun(Waiting& waiting, Instance* instance, Answer& answer) {
  if (instance == nullptr) {
    answer.status = waiting.failure.ok() ? NoInstance(waiting.request.instance)
                                         : waiting.failure;
    return true;
  }
  if (!waiting.failure.ok()) return false;
  const std::optional<absl::Status> word = instance->first_word();
  if (!word.has_value()) return Now() >= waiting.deadline;
  if (word->ok()) return true;
  waiting.failure = *word;
  waiting.deadline = absl::InfiniteDuration();
  instance->Handle(StopRequested{});
  return false;
}

// With those that are there: the name may be mistyped.
absl::Status Core::NoInstance(const std::string& name) const {
  constexpr size_t kMostNames = 8;
  // It may hold anything, and is printed to a terminal.
  std::string shown = name;
  for (char& c : shown) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  std::string text = absl::StrCat("no instance '", shown, "': ");
  if (instances_.empty()) text += "there is none at all";
  for (size_t i = 0; i < std::min(instances_.size(), kMostNames); ++i) {
    absl::StrAppend(&text, i == 0 ? "there is " : ", ", instances_[i]->name());
  }
  if (instances_.size() > kMostNames) {
    absl::StrAppend(&text, ", and ", instances_.size() - kMostNames, " more");
  }
  return absl::NotFoundError(text);
}

std::vector<ServantStatus> Core::Servants() const {
  const auto status = [](const char* name, int pid, const ServantRecord& of) {
    return ServantStatus{name, pid, of.lost, of.last_loss, of.degraded};
  };
  std::vector<ServantStatus> all = {
      status("core", getpid(), ServantRecord()),
      status("store", store_ != nullptr ? custody_.store_pid : 0,
             store_record_)};
  if (!options_.api.empty()) {
    all.push_back(
        status("api", api_pidfd_.valid() ? api_pid_ : 0, api_record_));
  }
  return all;
}

void Core::DumpState(ControlServer::ClientId client, Answer answer,
                     Instance& instance) {
  // A new open file description, which cannot write to the memfd.
  const UniqueFd read_only(
      open(absl::StrCat("/proc/self/fd/", instance.segment().get()).c_str(),
           O_RDONLY | O_CLOEXEC));
  if (!read_only.valid()) answer.status = ErrnoStatus("open segment");
  control_->Send(client, answer, read_only);
}

absl::StatusOr<uint32_t> Core::ChooseUid(uint32_t wanted) const {
  // The first one is the store's.
  const uint32_t first = options_.uid_base + 1;
  // The last one is the api's.
  const uint32_t end =
      options_.uid_base + options_.uid_count - (options_.api.empty() ? 0 : 1);
  const auto used = [this](uint32_t uid) {
    return std::any_of(instances_.begin(), instances_.end(),
                       [uid](const auto& i) { return i->uid() == uid; });
  };
  if (wanted != 0) {
    if (wanted < first || wanted >= end) {
      return absl::InvalidArgumentError(
          absl::StrCat("uid: ", wanted, " is outside of holdfastd's range ",
                       first, " to ", end - 1, ": leave it out"));
    }
    if (used(wanted)) {
      return absl::AlreadyExistsError(absl::StrCat(
          "uid: ", wanted, " belongs to another instance: leave it out"));
    }
    return wanted;
  }
  for (uint32_t uid = first; uid < end; ++uid) {
    if (!used(uid)) return uid;
  }
  return absl::ResourceExhaustedError(
      "every user id is taken: start holdfastd with a larger --uid-count");
}

absl::Status Core::RunSpec(LaunchSpec spec) {
  if (stopping_) return absl::UnavailableError("holdfastd is stopping");
  if (const Instance* const there = FindInstance(spec.name)) {
    return absl::AlreadyExistsError(absl::StrCat(
        "instance '", spec.name,
        there->stopping() ? "' is being stopped: run it again when it is gone"
                          : "' exists: stop it or use another name"));
  }
  if (instances_.size() >= store::kMaxInstances) {
    return absl::ResourceExhaustedError(
        absl::StrCat(store::kMaxInstances, " instances exist: stop one"));
  }
  ASSIGN_OR_RETURN(spec.uid, ChooseUid(spec.uid));
  if (absl::Status s = binaries_->Open(spec.binary, O_PATH).status(); !s.ok()) {
    return WithField("binary", s);
  }
  if (!spec.backend.binary.empty()) {
    absl::Status s = binaries_->Open(spec.backend.binary, O_PATH).status();
    if (!s.ok()) return WithField("backend.binary", s);
  }
  if (!spec.policy.empty()) {
    absl::Status s = policies_->Open(spec.policy, O_PATH).status();
    if (s.ok()) s = LoadFilters(spec.policy, options_.policy_dirs).status();
    if (!s.ok()) return WithField("policy", s);
  }
  Instance::Parts parts;
  for (size_t i = 0; i < spec.resources.size(); ++i) {
    absl::StatusOr<UniqueFd> fd = OpenResource(*resources_, spec.resources[i]);
    if (!fd.ok()) {
      return WithField(absl::StrCat("resources[", i, "]"), fd.status());
    }
    parts.resources.push_back(*std::move(fd));
  }
  if (!spec.socket_path.empty()) {
    absl::StatusOr<std::string> path = sockets_->SocketPath(spec.socket_path);
    if (!path.ok()) return WithField("socket_path", path.status());
    spec.socket_path = *std::move(path);
    ASSIGN_OR_RETURN(parts.listener, MakeVmmSocket(spec));
  }
  const std::string socket_path = spec.socket_path;
  parts.spec = std::move(spec);
  absl::StatusOr<std::unique_ptr<Instance>> instance =
      Instance::Create(*this, next_instance_++, std::move(parts));
  if (!instance.ok()) {
    if (!socket_path.empty()) unlink(socket_path.c_str());
    return instance.status();
  }
  instances_.push_back(*std::move(instance));
  return absl::OkStatus();
}

absl::Status Core::Inject(const Request& request) {
  const int signal = SignalOf(request.fault);
  switch (request.target) {
    case FaultTarget::kStore:
      if (store_ == nullptr) {
        return absl::UnavailableError("the store is being restarted");
      }
      return SendSignal(custody_.store_pidfd, signal);
    case FaultTarget::kCore:
      raise_ = signal;
      return absl::OkStatus();
    case FaultTarget::kApi:
      if (!api_pidfd_.valid()) {
        return absl::UnavailableError(
            options_.api.empty() ? "this launcher runs no api: start holdfastd "
                                   "with --api"
                                 : "the api is being restarted");
      }
      return SendSignal(api_pidfd_, signal);
    case FaultTarget::kActive:
    case FaultTarget::kStandby:
    case FaultTarget::kBackend:
      break;
  }
  Instance* const instance = FindInstance(request.instance);
  if (instance == nullptr) return NoInstance(request.instance);
  return instance->Inject(request.fault, request.target);
}

}  // namespace holdfast::launcher

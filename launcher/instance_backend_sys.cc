// The part of Instance that has to do with a wrapped program.

#include <fcntl.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "launcher/instance_sys.h"
#include "launcher/status_field.h"

namespace holdfast::launcher {

absl::Status Instance::InjectBackend(Fault fault) {
  if (!backend_.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec_.name, " wraps no back-end"));
  }
  return backend_->Kill(SignalOf(fault));
}

// A launcher that dies over it leaves the old one or the new one.
absl::Status Instance::KeepSpec() {
  RETURN_IF_ERROR(MakeRecord());
  // A store that is away gets it with everything else.
  if (host_.store() == nullptr) return absl::OkStatus();
  return host_.store()->PutBlob(id_, record_fd_);
}

absl::Status Instance::Replace(const LaunchSpec& spec) {
  if (stopping() || !backend_.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec_.name, backend_.has_value() ? " is being stopped"
                                                      : " wraps no back-end"));
  }
  if (spec.backend.binary.empty()) {
    return absl::InvalidArgumentError("backend.binary: name a program");
  }
  if (spec.args != spec_.args) {
    return absl::InvalidArgumentError(
        absl::StrCat("args: the keeper runs with ",
                     absl::StrJoin(spec_.args, " "), ", which stays"));
  }
  const absl::Status allowed =
      host_.binaries().Open(spec.backend.binary, O_PATH).status();
  if (!allowed.ok()) return WithField("backend.binary", allowed);
  return backend_->Replace(spec.backend);
}

std::optional<absl::Status> Instance::replacement() const {
  return backend_.has_value() ? backend_->replacement() : absl::OkStatus();
}

std::optional<absl::Status> Instance::first_word() const {
  return backend_.has_value() ? backend_->first_word() : absl::OkStatus();
}

void Instance::MakeBackend() {
  if (spec_.backend.binary.empty()) return;
  BackendProcess::Host host;
  host.hand_over = [this](const BackendEnds& ends) {
    // First, so that the next launcher knows whose connection it is.
    SaveCounters();
    // A store that is away gets it with everything else.
    if (host_.store() == nullptr) return;
    const absl::Status given = GiveBackend(*host_.store(), ends);
    if (!given.ok()) {
      LogError("back-end of ", spec_.name, ": ", given.message());
    }
  };
  host.replaced = [this](const BackendSpec& spec) {
    spec_.backend = spec;
    CollectCounters();
    const absl::Status kept = KeepSpec();
    if (kept.ok()) return;
    LogError("the next launcher wraps the old back-end of ", spec_.name, ": ",
             kept.message());
  };
  host.report = [this](std::string type, int pid, std::string cause,
                       std::string detail) {
    SaveCounters();
    Report(std::move(type), pid, std::move(cause), 0, std::move(detail));
  };
  host.open = [this](const std::string& path) {
    return host_.binaries().Open(path, O_RDONLY);
  };
  host.exit_status = [this](int pid) { return host_.TakeExitStatus(pid); };
  host.group = &group_;
  host.realtime_priority = spec_.realtime_priority;
  backend_.emplace(spec_.backend, spec_.restart, std::move(host));
}

absl::Status Instance::GiveBackend(store::Client& store,
                                   const BackendEnds& ends) {
  for (size_t i = 0; i < ends.size(); ++i) {
    if (!ends[i].valid()) continue;
    RETURN_IF_ERROR(store.SetResource(id_, BackendSlot(i), ends[i]));
  }
  return absl::OkStatus();
}

store::Slot Instance::BackendSlot(size_t resource) const {
  return static_cast<store::Slot>(store::kSlotFirstResource +
                                  spec_.resources.size() + resource);
}

void Instance::AdoptBackend(std::vector<UniqueFd> ends) {
  if (!backend_.has_value()) return;
  const RecordedBackend recorded = counters_.backend;
  backend_->Adopt(recorded, std::move(ends));
}

}  // namespace holdfast::launcher

#include "launcher/core_client_sys.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/control_sys.h"

namespace holdfast::launcher {
namespace {

// More than a candidate has to become ready, and to take over.
constexpr absl::Duration kReplacePatience = absl::Seconds(30);

Request Of(Op op, const std::string& instance = "") {
  Request request;
  request.op = op;
  request.instance = instance;
  return request;
}

}  // namespace

absl::StatusOr<CoreClient> CoreClient::Connect(const std::string& socket_path) {
  ASSIGN_OR_RETURN(UniqueFd fd, ConnectSeqpacket(socket_path));
  return CoreClient(std::move(fd));
}

absl::Status CoreClient::AwaitReadable(absl::Duration timeout) {
  pollfd readable = {fd_.get(), POLLIN, 0};
  int ready;
  do {
    ready = poll(&readable, 1,
                 static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return ErrnoStatus("poll");
  if (ready == 0)
    return absl::DeadlineExceededError(absl::StrCat(
        "the core does not answer for ", absl::FormatDuration(timeout),
        ": if it hangs, pkill -KILL -x holdfastd-core has "
        "another one take its place; no device notices"));
  return absl::OkStatus();
}

absl::StatusOr<Answer> CoreClient::Call(Request request, UniqueFd* fd,
                                        absl::Duration least) {
  const absl::Duration timeout = std::max(timeout_, least);
  const absl::Status gone = absl::AbortedError(
      "the core died before it answered: see holdfast "
      "events, or say it again");
  request.tag = ++last_tag_;
  if (!SendWithFds(fd_, EncodeRequest(request), {}).ok()) return gone;
  while (true) {
    RETURN_IF_ERROR(AwaitReadable(timeout));
    std::vector<uint8_t> buffer(kMaxCorePacket);
    ReceivedFds fds;
    ASSIGN_OR_RETURN(const ReceivedMessage got,
                     ReceiveWithFds(fd_, absl::MakeSpan(buffer), fds));
    if (got.size == 0) return gone;
    ASSIGN_OR_RETURN(Answer answer, DecodeAnswer(absl::MakeConstSpan(
                                        buffer.data(), got.size)));
    // Of a call that timed out earlier; tag 0: of no request at all.
    if (answer.tag != request.tag && answer.tag != 0) continue;
    RETURN_IF_ERROR(answer.status);
    if (fd != nullptr && fds.count == 1) *fd = std::move(fds.fds[0]);
    return answer;
  }
}

absl::Status CoreClient::Run(const LaunchSpec& spec) {
  RETURN_IF_ERROR(ValidateSpec(spec));
  Request request = Of(Op::kRun);
  request.spec = EncodeSpec(spec);
  return Call(std::move(request), nullptr, kReplacePatience).status();
}

absl::StatusOr<std::vector<InstanceStatus>> CoreClient::List() {
  ASSIGN_OR_RETURN(Everything all, ListAll());
  return std::move(all.instances);
}

absl::StatusOr<CoreClient::Everything> CoreClient::ListAll() {
  ASSIGN_OR_RETURN(Answer answer, Call(Of(Op::kList)));
  return Everything{std::move(answer.statuses), std::move(answer.servants)};
}

absl::StatusOr<InstanceStatus> CoreClient::Status(const std::string& instance) {
  ASSIGN_OR_RETURN(Answer answer, Call(Of(Op::kStatus, instance)));
  if (answer.statuses.size() != 1) {
    return absl::InternalError("the core's answer has no status");
  }
  return std::move(answer.statuses[0]);
}

absl::Status CoreClient::Stop(const std::string& instance) {
  return Call(Of(Op::kStop, instance)).status();
}

absl::Status CoreClient::Restart(const std::string& instance) {
  return Call(Of(Op::kRestart, instance), nullptr, kReplacePatience).status();
}

absl::Status CoreClient::Resize(const std::string& instance) {
  return Call(Of(Op::kResize, instance)).status();
}

absl::Status CoreClient::Replace(const LaunchSpec& spec) {
  RETURN_IF_ERROR(ValidateSpec(spec));
  Request request = Of(Op::kReplace, spec.name);
  request.spec = EncodeSpec(spec);
  return Call(std::move(request), nullptr, kReplacePatience).status();
}

absl::Status CoreClient::Inject(const std::string& instance, Fault fault,
                                FaultTarget target) {
  Request request = Of(Op::kInject, instance);
  request.fault = fault;
  request.target = target;
  return Call(std::move(request)).status();
}

absl::StatusOr<CoreClient::Events> CoreClient::ReadEvents(uint64_t since,
                                                          bool wait) {
  Request request = Of(Op::kEvents);
  request.since = since;
  request.wait = wait;
  ASSIGN_OR_RETURN(Answer answer, Call(std::move(request)));
  return Events{std::move(answer.events), answer.last_sequence,
                answer.events_lost};
}

absl::StatusOr<SpecFile> CoreClient::NextSpec() {
  ASSIGN_OR_RETURN(Answer answer, Call(Of(Op::kNextSpec)));
  return std::move(answer.file);
}

absl::Status CoreClient::SpecIsRead(const std::string& file,
                                    const absl::StatusOr<LaunchSpec>& spec) {
  Request request = Of(Op::kSpecRead);
  request.file = file;
  if (spec.ok()) {
    request.spec = EncodeSpec(*spec);
    if (request.spec.size() > kMaxSpecBytes) {
      request.spec.clear();
      request.refusal = "is too large: give it fewer or shorter arguments";
    }
  } else {
    request.refusal = std::string(spec.status().message());
    if (request.refusal.empty()) request.refusal = "cannot be read";
  }
  return Call(std::move(request)).status();
}

absl::StatusOr<UniqueFd> CoreClient::StateDump(const std::string& instance) {
  UniqueFd segment;
  RETURN_IF_ERROR(Call(Of(Op::kStateDump, instance), &segment).status());
  if (!segment.valid()) {
    return absl::InternalError("the core's answer has no descriptor");
  }
  return segment;
}

}  // namespace holdfast::launcher

#include "launcher/cli/client.h"

#include <grpcpp/grpcpp.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "launcher/api/spec_text.h"
#include "launcher/cli/files.h"
#include "launcher/cli/library.h"
#include "launcher/cli/render.h"
#include "launcher/cli/segment_source.h"
#include "launcher/spec.h"
#include "protos/management.grpc.pb.h"

namespace holdfast::cli {
namespace {

// An api that was killed is there again long before.
constexpr std::chrono::seconds kConnectTime(5);
constexpr std::chrono::seconds kCallTime(60);
// Before anything is asked for again.
constexpr std::chrono::milliseconds kPause(50);
// An api that dies so often has another trouble than being killed.
constexpr int kMostTries = 10;

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

// The core's word, and gRPC's where the api died in the middle of an answer:
// nothing here is ever cancelled.
bool IsLoss(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsCancelled(status);
}

void Limit(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + kCallTime);
}

constexpr const char* kFaultDone[] = {"killed", "hung", "crashed"};

// "killed the active process of disk0".
std::string InjectedText(const Command& command) {
  const bool child =
      command.target == v1::ACTIVE || command.target == v1::STANDBY;
  const std::string target =
      absl::AsciiStrToLower(v1::FaultTarget_Name(command.target));
  std::string text = absl::StrCat(kFaultDone[command.fault], " the ", target);
  if (child) absl::StrAppend(&text, " process of ", command.instance);
  if (command.fault == v1::STOP && command.target == v1::CORE) {
    // It could not be asked to.
    text += "; nobody answers until: pkill -KILL -x holdfastd-core";
  } else if (command.fault == v1::STOP && child) {
    absl::StrAppend(&text, "; to end it: holdfast inject ", command.instance,
                    " kill",
                    command.target == v1::STANDBY ? " --target=standby" : "");
  }
  return text + "\n";
}

// An event of our own making, where some are missing before `events`.
v1::Event LostEvent(const v1::EventsResponse& events) {
  v1::Event event;
  event.set_type("events-lost");
  event.set_unix_ns(events.events(0).unix_ns());
  event.set_detail(LostText(events));
  return event;
}

// A socket cannot be opened, but whether it might be comes first.
bool IsForbidden(const std::string& socket) {
  errno = 0;
  return !std::ifstream(socket).is_open() && errno == EACCES;
}

absl::Status NotRunning(const Command& command, absl::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("holdfastd is not running: ", what, " ", command.socket(),
                   ": start it with --run-dir=", command.run_dir,
                   " --api=PATH/holdfast-api, or say --run-dir"));
}

class Client {
 public:
  Client(const Command& command, std::ostream& out)
      : command_(command), out_(out) {}

  absl::Status Connect() {
    std::error_code error;
    const bool there = std::filesystem::exists(command_.socket(), error);
    if (error == std::errc::permission_denied ||
        (there && IsForbidden(command_.socket()))) {
      return absl::PermissionDeniedError(absl::StrCat(
          command_.socket(), ": not permitted: only root may use it"));
    }
    if (!there) return NotRunning(command_, "there is no");
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
    args.SetMaxReceiveMessageSize(4 << 20);
    channel_ = grpc::CreateCustomChannel(
        "unix:" + command_.socket(), grpc::InsecureChannelCredentials(), args);
    stub_ = v1::Management::NewStub(channel_);
    return AwaitConnection();
  }

  absl::Status Run() {
    std::string text;
    v1::RunRequest request;
    ASSIGN_OR_RETURN(*request.mutable_spec(), SpecToRun(command_, text));
    if (command_.print) {
      Print(request.spec(), RenderText(request.spec()));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Connect());
    v1::RunResponse response;
    const auto before = std::chrono::steady_clock::now();
    bool again = false;
    const absl::Status status =
        CallAgain(&Stub::Run, request, response, &again);
    // Made by the call that the api died under?
    if (!again || !absl::IsAlreadyExists(status) ||
        !IsYoungerThan(request.spec().name(), before)) {
      if (!status.ok() && text.empty()) return status;
      if (!status.ok()) {
        return absl::Status(
            status.code(),
            launcher::WithPlace(status.message(), text, command_.file));
      }
    }
    Print(response, absl::StrCat(request.spec().name(), " is started\n"));
    return absl::OkStatus();
  }

  absl::Status List() {
    v1::ListResponse list;
    RETURN_IF_ERROR(CallAgain(&Stub::List, v1::ListRequest(), list));
    Print(list, RenderList(list));
    return absl::OkStatus();
  }

  absl::Status Status() {
    if (command_.instance.empty()) {
      v1::ListResponse list;
      RETURN_IF_ERROR(CallAgain(&Stub::List, v1::ListRequest(), list));
      Print(list, RenderEverything(list));
      return absl::OkStatus();
    }
    v1::StatusRequest request;
    request.set_instance(command_.instance);
    v1::InstanceStatus status;
    RETURN_IF_ERROR(CallAgain(&Stub::Status, request, status));
    Print(status, RenderStatus(status));
    return absl::OkStatus();
  }

  absl::Status Stop() {
    v1::StopRequest request;
    request.set_instance(command_.instance);
    v1::StopResponse response;
    bool again = false;
    const absl::Status status =
        CallAgain(&Stub::Stop, request, response, &again);
    // The first time it was heard, then.
    if (!again || !absl::IsNotFound(status)) RETURN_IF_ERROR(status);
    Print(response, absl::StrCat(command_.instance, " is stopped\n"));
    return absl::OkStatus();
  }

  absl::Status Restart() {
    v1::RestartRequest request;
    request.set_instance(command_.instance);
    v1::RestartResponse response;
    RETURN_IF_ERROR(CallAgain(&Stub::Restart, request, response));
    Print(response, absl::StrCat(command_.instance, " is restarted\n"));
    return absl::OkStatus();
  }

  absl::Status Replace() {
    std::string ignored;
    v1::ReplaceRequest request;
    ASSIGN_OR_RETURN(*request.mutable_spec(), SpecToRun(command_, ignored));
    if (command_.print) {
      Print(request.spec(), RenderText(request.spec()));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Connect());
    v1::ReplaceResponse response;
    // Once more by the same program does no harm.
    RETURN_IF_ERROR(CallAgain(&Stub::Replace, request, response));
    Print(response, absl::StrCat(command_.instance, " is served by ",
                                 request.spec().backend().binary(), "\n"));
    return absl::OkStatus();
  }

  absl::Status Resize() {
    v1::ResizeRequest request;
    request.set_instance(command_.instance);
    v1::ResizeResponse response;
    RETURN_IF_ERROR(CallAgain(&Stub::Resize, request, response));
    Print(response,
          absl::StrCat(command_.instance, " looks at its resources again\n"));
    return absl::OkStatus();
  }

  absl::Status Inject() {
    v1::InjectRequest request;
    request.set_instance(command_.instance);
    request.set_fault(command_.fault);
    request.set_target(command_.target);
    v1::InjectResponse response;
    const absl::Status status = Call(&Stub::Inject, request, response);
    // It was connected: the answer died with the one who had to give it.
    const bool hit = Died(status) && (command_.target == v1::API ||
                                      command_.target == v1::CORE);
    if (!hit) RETURN_IF_ERROR(status);
    Print(response, InjectedText(command_));
    return absl::OkStatus();
  }

  absl::Status Events() {
    uint64_t since = command_.since;
    for (int tries = 1;; ++tries) {
      const absl::Status status = ReadEvents(since);
      const bool again = command_.follow || tries < kMostTries;
      const bool lost = absl::IsUnavailable(status) || IsLoss(status);
      if (!lost || !again) return status;
      // The api was killed: the next one knows the same events.
      RETURN_IF_ERROR(AwaitConnection());
      std::this_thread::sleep_for(kPause);
    }
  }

  absl::Status StateDump() {
    if (!command_.input.empty()) {
      ASSIGN_OR_RETURN(const SegmentSource file,
                       ReadSegmentFile(command_.input));
      return PrintState(file, command_.json, out_);
    }
    RETURN_IF_ERROR(Connect());
    ASSIGN_OR_RETURN(const SegmentSource segment, ReadSegment());
    if (command_.file.empty()) return PrintState(segment, command_.json, out_);
    return WriteFile(command_.file, segment.bytes);
  }

  absl::Status StateDiff() {
    ASSIGN_OR_RETURN(const SegmentSource before,
                     ReadSegmentFile(command_.file));
    RETURN_IF_ERROR(CheckState(before));
    RETURN_IF_ERROR(Connect());
    ASSIGN_OR_RETURN(const SegmentSource now, ReadSegment());
    return PrintStateDiff(before, now, command_.json, out_);
  }

 private:
  using Stub = v1::Management::Stub;

  absl::Status AwaitConnection() {
    if (channel_->WaitForConnected(std::chrono::system_clock::now() +
                                   kConnectTime)) {
      return absl::OkStatus();
    }
    return NotRunning(command_, "nobody answers at");
  }

  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*),
                    const Request& request, Response& response) {
    grpc::ClientContext context;
    Limit(context);
    const grpc::Status status =
        (stub_.get()->*method)(&context, request, &response);
    // The launcher says kUnavailable, too, but then the channel is whole.
    channel_lost_ = status.error_code() == grpc::StatusCode::UNAVAILABLE &&
                    channel_->GetState(false) != GRPC_CHANNEL_READY;
    return FromGrpc(status);
  }

  // Whether the api, or the core behind it, died under the last call. An api
  // that has lost its core ends, too.
  bool Died(const absl::Status& status) const {
    return channel_lost_ || IsLoss(status);
  }

  // For calls that may be made twice: those that the api or the core died under
  // are made again with the next one. `again` is set when that was so.
  template <typename Request, typename Response>
  absl::Status CallAgain(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                      const Request&,
                                                      Response*),
                         const Request& request, Response& response,
                         bool* again = nullptr) {
    for (int tries = 1;; ++tries) {
      const absl::Status status = Call(method, request, response);
      if (!Died(status) || tries == kMostTries) return status;
      if (again != nullptr) *again = true;
      std::this_thread::sleep_for(kPause);
      RETURN_IF_ERROR(AwaitConnection());
    }
  }

  bool IsYoungerThan(const std::string& instance,
                     std::chrono::steady_clock::time_point time) {
    v1::StatusRequest request;
    request.set_instance(instance);
    v1::InstanceStatus status;
    return CallAgain(&Stub::Status, request, status).ok() &&
           std::chrono::microseconds(status.uptime_us()) <
               std::chrono::steady_clock::now() - time;
  }

  absl::Status ReadEvents(uint64_t& since) {
    grpc::ClientContext context;
    if (!command_.follow) Limit(context);
    v1::EventsRequest request;
    request.set_since(since);
    request.set_follow(command_.follow);
    const auto reader = stub_->Events(&context, request);
    v1::EventsResponse events;
    while (reader->Read(&events)) {
      since = events.last_sequence();
      if (command_.json) {
        if (events.lost() > 0 && events.events_size() > 0) {
          out_ << RenderJson(LostEvent(events));
        }
        for (const v1::Event& event : events.events()) {
          out_ << RenderJson(event);
        }
      } else {
        out_ << RenderEvents(events);
      }
      out_.flush();
    }
    return FromGrpc(reader->Finish());
  }

  absl::StatusOr<SegmentSource> ReadSegment() {
    for (int tries = 1;; ++tries) {
      absl::StatusOr<std::string> segment = ReadSegmentOnce();
      const bool lost = IsLoss(segment.status()) ||
                        (absl::IsUnavailable(segment.status()) &&
                         channel_->GetState(false) != GRPC_CHANNEL_READY);
      if (!lost || tries == kMostTries) {
        RETURN_IF_ERROR(segment.status());
        return SegmentOf(command_.instance, *std::move(segment));
      }
      std::this_thread::sleep_for(kPause);
      RETURN_IF_ERROR(AwaitConnection());
    }
  }

  absl::StatusOr<std::string> ReadSegmentOnce() {
    grpc::ClientContext context;
    Limit(context);
    v1::StateDumpRequest request;
    request.set_instance(command_.instance);
    const auto reader = stub_->StateDump(&context, request);
    std::string segment;
    v1::StateDumpResponse response;
    while (reader->Read(&response)) segment += response.piece();
    RETURN_IF_ERROR(FromGrpc(reader->Finish()));
    return segment;
  }

  void Print(const google::protobuf::Message& message,
             const std::string& text) {
    out_ << (command_.json ? RenderJson(message) : text);
  }

  const Command& command_;
  std::ostream& out_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Stub> stub_;
  bool channel_lost_ = false;  // By the last call.
};

}  // namespace

absl::Status Execute(const Command& command, std::ostream& out) {
  using Verb = Command::Verb;
  Client client(command, out);
  switch (command.verb) {
    case Verb::kHelp:
      out << HelpText(command.topic);
      return absl::OkStatus();
    case Verb::kCompletion:
      out << CompletionScript(command.shell);
      return absl::OkStatus();
    // What is wrong with a file is said even when nobody runs.
    case Verb::kRun:
      return client.Run();
    case Verb::kReplace:
      return client.Replace();
    case Verb::kProfileList:
    case Verb::kProfileShow:
      return PrintProfiles(command, out);
    case Verb::kProfileNew:
      return NewProfile(command);
    case Verb::kStateDiff:
      return client.StateDiff();
    case Verb::kStateDump:
      return client.StateDump();
    default:
      break;
  }
  RETURN_IF_ERROR(client.Connect());
  switch (command.verb) {
    case Verb::kList:
      return client.List();
    case Verb::kStatus:
      return client.Status();
    case Verb::kEvents:
      return client.Events();
    case Verb::kStop:
      return client.Stop();
    case Verb::kRestart:
      return client.Restart();
    case Verb::kResize:
      return client.Resize();
    case Verb::kInject:
      return client.Inject();
    default:
      return absl::InternalError("unknown command");
  }
}

}  // namespace holdfast::cli

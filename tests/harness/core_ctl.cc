// core_ctl: speaks with holdfastd's core for the Python harness. Reads commands
// from standard input, one a line, and answers each with one line of JSON:
//
//   run NAME BINARY SOCKET IMAGE POLICY PRIORITY ARGUMENT...
//                   IMAGE and POLICY "-": none; IMAGE PATH[,ro][,block], and
//                   after a "+" image2, image3; PRIORITY: of SCHED_FIFO, 0:
//                   normal
//   wrap NAME KEEPER SOCKET POLICY TRACKING STANDBY BINARY ARGUMENT...
//                   STANDBY: 0 or 1; TRACKING: the keeper's, or with other
//                   options of it: forced,mask-features=2
//   status NAME
//   events SINCE      waits until there is one after number SINCE
//   stop NAME
//   resize NAME
//   inject NAME FAULT TARGET      kill, stop, segv; active, standby, store,
//                                 api, core, backend
//
// {"ok":false,"error":"..."} when the core refuses or is gone; it connects
// again with the next command. The command line tool for people is
// launcher/cli.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "launcher/core_client_sys.h"
#include "launcher/core_protocol.h"
#include "launcher/spec.h"

ABSL_FLAG(std::string, socket, "/run/holdfast/core.sock", "of the core");

namespace holdfast::launcher {
namespace {

using Words = std::vector<std::string>;

constexpr absl::Duration kTimeout = absl::Seconds(30);

std::string Quoted(absl::string_view text) {
  return absl::StrCat(
      "\"",
      absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", " "}}),
      "\"");
}

std::string Bool(bool value) { return value ? "true" : "false"; }

std::string StatusJson(const InstanceStatus& status) {
  return absl::StrCat(
      "{\"state\":", Quoted(status.state),
      ",\"active_pid\":", status.active_pid,
      ",\"standby_pid\":", status.standby_pid,
      ",\"standby_ready\":", Bool(status.standby_ready),
      ",\"connected\":", Bool(status.connected), ",\"epoch\":", status.epoch,
      ",\"recoveries\":", status.recoveries,
      ",\"last_recovery_us\":", status.last_recovery_us,
      ",\"max_recovery_us\":", status.max_recovery_us,
      ",\"backend_state\":", Quoted(status.backend.state),
      ",\"backend_pid\":", status.backend.pid,
      ",\"backend_spare_pid\":", status.backend.spare_pid,
      ",\"backend_lives\":", status.backend.lives, ",\"degraded\":[",
      absl::StrJoin(status.degraded, ",",
                    [](std::string* out, const std::string& text) {
                      out->append(Quoted(text));
                    }),
      "]}");
}

std::string EventJson(const LaunchEvent& event) {
  return absl::StrCat(
      "{\"sequence\":", event.sequence, ",\"type\":", Quoted(event.type),
      ",\"instance\":", Quoted(event.instance), ",\"pid\":", event.pid,
      ",\"cause\":", Quoted(event.cause),
      ",\"microseconds\":", event.microseconds,
      ",\"detail\":", Quoted(event.detail), "}");
}

absl::StatusOr<ResourceSpec> Image(size_t number, const std::string& word) {
  const Words parts = absl::StrSplit(word, ',');
  ResourceSpec image;
  image.name = number == 1 ? "image" : absl::StrCat("image", number);
  image.path = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i] == "ro") {
      image.access = ResourceAccess::kReadOnly;
    } else if (parts[i] == "block") {
      image.kind = ResourceKind::kBlockDevice;
    } else {
      return absl::InvalidArgumentError("run: an image is ro or block");
    }
  }
  return image;
}

// The harness kills far more often than anything that is healthy dies.
absl::StatusOr<std::string> RunSpec(CoreClient& client, LaunchSpec spec) {
  spec.restart.budget = 0;
  spec.restart.backoff_base = absl::ZeroDuration();
  RETURN_IF_ERROR(client.Run(spec));
  return std::string("{}");
}

absl::StatusOr<std::string> Run(CoreClient& client, const Words& words) {
  if (words.size() < 7) return absl::InvalidArgumentError("run: too short");
  LaunchSpec spec;
  spec.name = words[1];
  spec.binary = words[2];
  spec.socket_path = words[3];
  if (words[4] != "-") {
    for (const std::string& word : Words(absl::StrSplit(words[4], '+'))) {
      ASSIGN_OR_RETURN(const ResourceSpec image,
                       Image(spec.resources.size() + 1, word));
      spec.resources.push_back(image);
    }
  }
  if (words[5] != "-") spec.policy = words[5];
  if (!absl::SimpleAtoi(words[6], &spec.realtime_priority)) {
    return absl::InvalidArgumentError("run: the priority is no number");
  }
  spec.args.assign(words.begin() + 7, words.end());
  return RunSpec(client, spec);
}

// "-" is none.
absl::Status TakeOptions(const Words& options, LaunchSpec& spec) {
  for (absl::string_view option : options) {
    if (option == "standby") {
      spec.backend.standby = true;
    } else if (option == "polls") {
      spec.backend.polls = true;
    } else if (option == "synchronous") {
      spec.backend.synchronous = true;
    } else if (absl::ConsumePrefix(&option, "realtime=")) {
      if (absl::SimpleAtoi(option, &spec.realtime_priority)) continue;
      return absl::InvalidArgumentError("wrap: the priority is no number");
    } else if (option != "-") {
      return absl::InvalidArgumentError(
          absl::StrCat("wrap: no option ", option));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Wrap(CoreClient& client, const Words& words) {
  if (words.size() < 8) {
    return absl::InvalidArgumentError("wrap: too short");
  }
  LaunchSpec spec;
  spec.name = words[1];
  spec.binary = words[2];
  spec.socket_path = words[3];
  spec.policy = words[4];
  const Words options = absl::StrSplit(words[5], ',');
  spec.args = {absl::StrCat("--tracking=", options[0])};
  for (size_t i = 1; i < options.size(); ++i) {
    spec.args.push_back("--" + options[i]);
  }
  RETURN_IF_ERROR(TakeOptions(absl::StrSplit(words[6], ','), spec));
  spec.backend.binary = words[7];
  spec.backend.args.assign(words.begin() + 8, words.end());
  return RunSpec(client, spec);
}

absl::StatusOr<std::string> Status(CoreClient& client, const Words& words) {
  if (words.size() != 2) return absl::InvalidArgumentError("status NAME");
  ASSIGN_OR_RETURN(const InstanceStatus status, client.Status(words[1]));
  return StatusJson(status);
}

absl::StatusOr<std::string> Events(CoreClient& client, const Words& words) {
  uint64_t since;
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &since)) {
    return absl::InvalidArgumentError("events SINCE");
  }
  ASSIGN_OR_RETURN(const CoreClient::Events events,
                   client.ReadEvents(since, /*wait=*/true));
  std::vector<std::string> all;
  for (const LaunchEvent& event : events.events) {
    all.push_back(EventJson(event));
  }
  return absl::StrCat("{\"last\":", events.last_sequence,
                      ",\"lost\":", events.lost, ",\"events\":[",
                      absl::StrJoin(all, ","), "]}");
}

absl::StatusOr<std::string> Stop(CoreClient& client, const Words& words) {
  if (words.size() != 2) return absl::InvalidArgumentError("stop NAME");
  RETURN_IF_ERROR(client.Stop(words[1]));
  return std::string("{}");
}

absl::StatusOr<std::string> Resize(CoreClient& client, const Words& words) {
  if (words.size() != 2) return absl::InvalidArgumentError("resize NAME");
  RETURN_IF_ERROR(client.Resize(words[1]));
  return std::string("{}");
}

absl::StatusOr<std::string> Inject(CoreClient& client, const Words& words) {
  const Words faults = {"kill", "stop", "segv"};
  const Words targets = {"active", "standby", "store",
                         "api",    "core",    "backend"};
  if (words.size() != 4) {
    return absl::InvalidArgumentError("inject NAME FAULT TARGET");
  }
  const auto fault = std::find(faults.begin(), faults.end(), words[2]);
  const auto target = std::find(targets.begin(), targets.end(), words[3]);
  if (fault == faults.end() || target == targets.end()) {
    return absl::InvalidArgumentError("inject: no such fault or target");
  }
  RETURN_IF_ERROR(
      client.Inject(words[1], static_cast<Fault>(fault - faults.begin()),
                    static_cast<FaultTarget>(target - targets.begin())));
  return std::string("{}");
}

// Keeps the connection to the core; a lost one is made anew.
class Control {
 public:
  absl::StatusOr<std::string> Execute(const Words& words) {
    if (client_ == nullptr) {
      auto client = CoreClient::Connect(absl::GetFlag(FLAGS_socket));
      if (!client.ok()) return client.status();
      client_ = std::make_unique<CoreClient>(*std::move(client));
      client_->set_timeout(kTimeout);
    }
    absl::StatusOr<std::string> answer = Dispatch(words);
    if (absl::IsAborted(answer.status()) ||
        absl::IsUnavailable(answer.status()) ||
        absl::IsDeadlineExceeded(answer.status())) {
      client_.reset();
    }
    return answer;
  }

 private:
  absl::StatusOr<std::string> Dispatch(const Words& words) {
    if (words[0] == "run") return Run(*client_, words);
    if (words[0] == "wrap") return Wrap(*client_, words);
    if (words[0] == "status") return Status(*client_, words);
    if (words[0] == "events") return Events(*client_, words);
    if (words[0] == "stop") return Stop(*client_, words);
    if (words[0] == "resize") return Resize(*client_, words);
    if (words[0] == "inject") return Inject(*client_, words);
    return absl::InvalidArgumentError("no such command");
  }

  std::unique_ptr<CoreClient> client_;
};

int Main() {
  Control control;
  std::string line;
  while (std::getline(std::cin, line)) {
    const absl::StatusOr<std::string> answer =
        control.Execute(absl::StrSplit(line, ' '));
    if (answer.ok()) {
      std::printf("{\"ok\":true,\"answer\":%s}\n", answer->c_str());
    } else {
      std::printf("{\"ok\":false,\"error\":%s}\n",
                  Quoted(answer.status().ToString()).c_str());
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace holdfast::launcher

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::launcher::Main();
}

// Killed under holdfast-store, in its sandbox: whatever a guest can see is as
// if nothing had happened. The measure is the device itself, left alone.

#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "devices/testing/conformance.h"
#include "devices/testing/conformance_steps.h"
#include "devices/testing/managed_device_sys.h"
#include "devices/vhost_user/message.h"
#include "statestore/segment.h"
#include "statestore/segment_sys.h"

namespace holdfast::testing {
namespace {

using vhost_user::RequestType;
using Transcript = std::vector<std::string>;

// Requests of one run. HOLDFAST_KILLS makes it as many as one has time for.
int Requests() {
  constexpr int kRequests = 20;
  const char* const wanted = getenv("HOLDFAST_KILLS");
  int requests;
  return wanted != nullptr && absl::SimpleAtoi(wanted, &requests) &&
                 requests > kRequests
             ? requests
             : kRequests;
}

// A device under a store, and the VMM that uses it.
class Scene {
 public:
  static absl::StatusOr<std::unique_ptr<Scene>> Start(
      const ConformanceTarget& target) {
    std::unique_ptr<Scene> scene(new Scene(target));
    ASSIGN_OR_RETURN(scene->files_, ResourceFiles::Make(target));
    ManagedDevice::Options options;
    options.program = target.program;
    options.arguments = target.arguments;
    options.policy = target.policy;
    options.policy_includes = target.policy_includes;
    options.store_program = target.store_program;
    options.resources = scene->files_->paths();
    ASSIGN_OR_RETURN(scene->device_, ManagedDevice::Start(options));
    return scene;
  }

  ManagedDevice& device() { return *device_; }
  FrontEnd& vmm() { return *vmm_; }

  // Connects a VMM, and does no more; one that was there goes first. The store
  // turns a VMM away until the device has seen the end of the one before.
  absl::Status Connect() {
    vmm_.reset();
    const absl::Time deadline = absl::Now() + target_.patience;
    absl::Status status = absl::UnknownError("");
    while (!status.ok() && absl::Now() < deadline) {
      ASSIGN_OR_RETURN(vmm_, FrontEnd::Connect(device_->socket_path(),
                                               FrontEndOptions(target_)));
      status = vmm_->AskNumber(RequestType::kGetFeatures).status();
      if (!status.ok()) absl::SleepFor(absl::Milliseconds(2));
    }
    return status;
  }

  // SIGKILLs the active child; a standby takes over, and another is made.
  absl::Status Kill() {
    RETURN_IF_ERROR(device_->Kill(SIGKILL).status());
    return device_->AddStandby();
  }

  absl::Status Post() {
    return vmm_->driver(0).Post(target_.request).has_value()
               ? absl::OkStatus()
               : absl::ResourceExhaustedError("the ring is full");
  }

  // Waits for the answers to all that was posted; adds them to `transcript` in
  // the order of their requests, each exactly once.
  absl::Status Collect(Transcript& transcript) {
    std::map<uint64_t, std::string> answers;
    while (vmm_->driver(0).outstanding() > 0) {
      vmm_->driver(0).EnableInterrupts();
      const std::vector<FrontEnd::Answer> some = vmm_->driver(0).Collect();
      for (const FrontEnd::Answer& answer : some) {
        answers[answer.request] = Text(answer);
      }
      if (some.empty()) RETURN_IF_ERROR(vmm_->WaitForCall(0));
    }
    for (const auto& [request, text] : answers) transcript.push_back(text);
    return CheckDriver(*vmm_);
  }

 private:
  explicit Scene(const ConformanceTarget& target) : target_(target) {}

  std::string Text(const FrontEnd::Answer& answer) const {
    if (!target_.repeatable) return absl::StrCat(answer.written, " bytes");
    return absl::StrCat(
        answer.written, " bytes: ",
        absl::CHexEscape(std::string(answer.data.begin(), answer.data.end())));
  }

  const ConformanceTarget& target_;
  std::unique_ptr<ResourceFiles> files_;
  std::unique_ptr<ManagedDevice> device_;
  std::unique_ptr<FrontEnd> vmm_;
};

// The answers of a device to one way of using it. `kill` does nothing when the
// device is left alone.
using Kill = std::function<absl::Status()>;
using Script = std::function<absl::Status(Scene&, const Kill&, Transcript&)>;

absl::StatusOr<Transcript> Play(const ConformanceTarget& target, bool killed,
                                const Script& script) {
  ASSIGN_OR_RETURN(const auto scene, Scene::Start(target));
  Transcript transcript;
  const Kill kill = [&]() -> absl::Status {
    return killed ? scene->Kill() : absl::OkStatus();
  };
  RETURN_IF_ERROR(script(*scene, kill, transcript));
  return transcript;
}

absl::Status ExpectNoDifference(const ConformanceTarget& target,
                                const Script& script) {
  ASSIGN_OR_RETURN(const Transcript wanted, Play(target, false, script));
  ASSIGN_OR_RETURN(const Transcript got, Play(target, true, script));
  if (got.size() != wanted.size()) {
    return absl::InternalError(
        absl::StrCat(got.size(), " answers, not ", wanted.size()));
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (got[i] != wanted[i]) {
      return absl::InternalError(
          absl::StrCat("answer ", i + 1, " of the device that was killed is \"",
                       got[i], "\", of the other \"", wanted[i], "\""));
    }
  }
  return absl::OkStatus();
}

// A kill after every `every`th request, which is posted before it: kicked and
// perhaps already answered, or not even kicked.
Script KillAfterEvery(int every) {
  return [every](Scene& scene, const Kill& kill, Transcript& transcript) {
    RETURN_IF_ERROR(scene.Connect());
    RETURN_IF_ERROR(scene.vmm().Start());
    for (int i = 1; i <= Requests(); ++i) {
      RETURN_IF_ERROR(scene.Post());
      if (i % 2 == 0 || i % every != 0) RETURN_IF_ERROR(scene.vmm().Kick(0));
      if (i % every == 0) RETURN_IF_ERROR(kill());
      RETURN_IF_ERROR(scene.vmm().Kick(0));
      RETURN_IF_ERROR(scene.Collect(transcript));
    }
    return absl::OkStatus();
  };
}

absl::Status KillsBetweenRequestsAreInvisible(const ConformanceTarget& target) {
  for (const int every : {1, 2, 5}) {
    RETURN_IF_ERROR(ExpectNoDifference(target, KillAfterEvery(every)));
  }
  return absl::OkStatus();
}

// Eight requests at once, and a kill while they are worked on.
absl::Status KillsAmongRequestsAreInvisible(const ConformanceTarget& target) {
  return ExpectNoDifference(
      target, [](Scene& scene, const Kill& kill, Transcript& transcript) {
        constexpr int kDepth = 8;
        RETURN_IF_ERROR(scene.Connect());
        RETURN_IF_ERROR(scene.vmm().Start());
        for (int i = 0; i < Requests() / 2; ++i) {
          for (int posted = 0; posted < kDepth; ++posted) {
            RETURN_IF_ERROR(scene.Post());
          }
          RETURN_IF_ERROR(scene.vmm().Kick(0));
          // At the first of them, among them, after most of them.
          absl::SleepFor(absl::Milliseconds(i % 4));
          RETURN_IF_ERROR(kill());
          RETURN_IF_ERROR(scene.Collect(transcript));
        }
        return absl::OkStatus();
      });
}

absl::Status KillsDuringNegotiationAreInvisible(
    const ConformanceTarget& target) {
  return ExpectNoDifference(
      target, [](Scene& scene, const Kill& kill, Transcript& transcript) {
        const auto serve = [&]() -> absl::Status {
          RETURN_IF_ERROR(scene.Post());
          RETURN_IF_ERROR(scene.vmm().Kick(0));
          return scene.Collect(transcript);
        };
        RETURN_IF_ERROR(scene.Connect());
        FrontEnd& vmm = scene.vmm();
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(vmm.Negotiate());
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(vmm.ShareInflight());
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(vmm.ShareMemory());
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(vmm.StartQueue(0));
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(serve());
        RETURN_IF_ERROR(vmm.StopQueue(0).status());
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(vmm.StartQueue(0));
        return serve();
      });
}

// Reset, and the VMM that comes next, find what they would have found.
absl::Status KillsAroundResetsAreInvisible(const ConformanceTarget& target) {
  return ExpectNoDifference(target, [](Scene& scene, const Kill& kill,
                                       Transcript& transcript) {
    for (int vmm = 0; vmm < 2; ++vmm) {
      RETURN_IF_ERROR(scene.Connect());
      for (int boot = 0; boot < 2; ++boot) {
        std::fill(scene.vmm().memory().begin(), scene.vmm().memory().end(), 0);
        RETURN_IF_ERROR(scene.vmm().Start());
        RETURN_IF_ERROR(scene.Post());
        RETURN_IF_ERROR(scene.vmm().Kick(0));
        RETURN_IF_ERROR(scene.Collect(transcript));
        RETURN_IF_ERROR(kill());
        RETURN_IF_ERROR(scene.vmm().Command(RequestType::kResetDevice));
        RETURN_IF_ERROR(kill());
      }
    }
    return absl::OkStatus();
  });
}

absl::Status KillsLeaveTheConfigAlone(const ConformanceTarget& target) {
  return ExpectNoDifference(target, [](Scene& scene, const Kill& kill,
                                       Transcript& transcript) {
    RETURN_IF_ERROR(scene.Connect());
    RETURN_IF_ERROR(scene.vmm().Start());
    const bool any =
        (scene.vmm().protocol_features() & vhost_user::kProtocolConfig) != 0;
    for (int i = 0; any && i < 3; ++i) {
      ASSIGN_OR_RETURN(const auto config,
                       scene.vmm().GetConfig(0, vhost_user::kMaxConfigAccess));
      transcript.push_back(
          absl::CHexEscape(std::string(config.begin(), config.end())));
      RETURN_IF_ERROR(kill());
    }
    return absl::OkStatus();
  });
}

absl::Status IsWhatItsGoldenSays(const ConformanceTarget& target) {
  if (target.golden.empty()) return absl::OkStatus();
  std::ifstream file(target.golden);
  const std::string wanted(std::istreambuf_iterator<char>(file), {});
  ASSIGN_OR_RETURN(const std::string got, DescribeDevice(target));
  if (got == wanted) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      target.golden, " says\n", wanted, "and the device is\n", got,
      "A guest or a segment of today depends on the former: give the new one a "
      "version of its own."));
}

constexpr ConformanceCheck kChecks[] = {
    {"KillsBetweenRequestsAreInvisible", KillsBetweenRequestsAreInvisible},
    {"KillsAmongRequestsAreInvisible", KillsAmongRequestsAreInvisible},
    {"KillsDuringNegotiationAreInvisible", KillsDuringNegotiationAreInvisible},
    {"KillsAroundResetsAreInvisible", KillsAroundResetsAreInvisible},
    {"KillsLeaveTheConfigAlone", KillsLeaveTheConfigAlone},
    {"IsWhatItsGoldenSays", IsWhatItsGoldenSays},
};

}  // namespace

absl::Span<const ConformanceCheck> CrashChecks() { return kChecks; }

absl::StatusOr<std::string> DescribeDevice(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto scene, Scene::Start(target));
  RETURN_IF_ERROR(scene->Connect());
  ASSIGN_OR_RETURN(const uint64_t features,
                   scene->vmm().AskNumber(RequestType::kGetFeatures));
  ASSIGN_OR_RETURN(const uint64_t protocol,
                   scene->vmm().AskNumber(RequestType::kGetProtocolFeatures));
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes,
                   CopySegment(scene->device().segment()));
  ASSIGN_OR_RETURN(const SegmentLayout segment, ReadLayout(bytes));
  std::string text = absl::StrCat(
      "device ", segment.device, "\ncompat-version ", segment.compat_version,
      "\nfeatures 0x", absl::Hex(features, absl::kZeroPad16),
      "\nprotocol-features 0x", absl::Hex(protocol, absl::kZeroPad8),
      "\nqueues ", segment.queue_count, " of ", segment.max_queue_size,
      " entries\nstate ", segment.schema.name, " version ",
      segment.schema.version, ", ", segment.schema.size, " bytes\n");
  for (const Field& field : segment.schema.fields) {
    absl::StrAppend(&text, "  ", field.offset, " ", field.name, " ",
                    field.type.ToString(), "\n");
  }
  return text;
}

}  // namespace holdfast::testing

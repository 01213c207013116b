// What every device does over vhost-user, whatever a front-end tries.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "devices/bus/virtio_ids.h"
#include "devices/testing/conformance.h"
#include "devices/testing/conformance_rings.h"
#include "devices/testing/conformance_steps.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/testing/message_builder.h"

namespace holdfast::testing {
namespace {

using vhost_user::BytesOf;
using vhost_user::RequestType;
using vhost_user::VringState;
using Bytes = std::vector<uint8_t>;

// Long enough for an answer that must not come.
constexpr absl::Duration kNoAnswer = absl::Milliseconds(30);
// Of configuration space, as much as one message can have.
constexpr uint32_t kConfigBytes = vhost_user::kMaxConfigAccess;

absl::Status OffersWhatEveryDeviceOffers(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  ASSIGN_OR_RETURN(const uint64_t features,
                   vmm->AskNumber(RequestType::kGetFeatures));
  const uint64_t wanted =
      virtio::kFeatureVersion1 | virtio::kFeatureRingIndirectDesc |
      virtio::kFeatureRingEventIdx | vhost_user::kFeatureProtocolFeatures |
      vhost_user::kFeatureLogAll;
  if ((features & wanted) != wanted) {
    return absl::InternalError(absl::StrCat(
        "features 0x", absl::Hex(wanted & ~features), " are not offered"));
  }
  const uint64_t protocol =
      vhost_user::kProtocolMq | vhost_user::kProtocolReplyAck |
      vhost_user::kProtocolInflightShmfd | vhost_user::kProtocolResetDevice |
      vhost_user::kProtocolConfigureMemSlots | vhost_user::kProtocolStatus |
      vhost_user::kProtocolBackendReq | vhost_user::kProtocolLogShmfd;
  if ((vmm->protocol_features() & protocol) != protocol) {
    return absl::InternalError(absl::StrCat(
        "protocol features 0x", absl::Hex(protocol & ~vmm->protocol_features()),
        " are not offered"));
  }
  return absl::OkStatus();
}

absl::Status RefusesFeaturesThatItDoesNotOffer(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  ASSIGN_OR_RETURN(const uint64_t offered,
                   vmm->AskNumber(RequestType::kGetFeatures));
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t extra = uint64_t{1} << bit;
    if ((offered & extra) != 0) continue;
    const absl::Status answer = vmm->Command(RequestType::kSetFeatures,
                                             BytesOf(vmm->features() | extra));
    if (!absl::IsAborted(answer)) {
      return absl::InternalError(
          absl::StrCat("feature bit ", bit,
                       ", never offered, was accepted: ", answer.ToString()));
    }
  }
  // What was refused has changed nothing.
  return Serves(*vmm, target);
}

absl::Status ServesUnderEverySetOfRingFeatures(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  for (const uint64_t without :
       {uint64_t{0}, virtio::kFeatureRingIndirectDesc,
        virtio::kFeatureRingEventIdx,
        virtio::kFeatureRingIndirectDesc | virtio::kFeatureRingEventIdx}) {
    FrontEnd::Options options = FrontEndOptions(target);
    options.features = ~without;
    ASSIGN_OR_RETURN(const auto vmm, device->Connect(options));
    for (int i = 0; i < 5; ++i) RETURN_IF_ERROR(Serves(*vmm, target));
  }
  return device->CheckAlive();
}

// A front-end of long ago: no protocol features, so no acknowledgements, no
// in-flight region, and rings that begin enabled.
absl::Status ServesOldFrontEnds(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  FrontEnd::Options options = FrontEndOptions(target);
  options.protocol_features = 0;
  ASSIGN_OR_RETURN(auto vmm, device->Connect(options));
  RETURN_IF_ERROR(Serves(*vmm, target));
  vmm.reset();
  options.features = ~vhost_user::kFeatureProtocolFeatures;
  ASSIGN_OR_RETURN(vmm, device->Connect(options));
  return Serves(*vmm, target);
}

// The configuration space from its start, zero beyond its end; empty if the
// device has none.
absl::StatusOr<Bytes> Config(FrontEnd& vmm) {
  if ((vmm.protocol_features() & vhost_user::kProtocolConfig) == 0) {
    return Bytes();
  }
  return vmm.GetConfig(0, kConfigBytes);
}

absl::Status ConfigCanBeReadAtAnyOffset(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(auto vmm, device->Connect());
  ASSIGN_OR_RETURN(const Bytes whole, Config(*vmm));
  for (uint32_t offset = 0; offset < whole.size(); ++offset) {
    for (const uint32_t size : {1u, 2u, 3u, 4u, 7u, 8u, 60u, 255u}) {
      if (offset + size > whole.size()) continue;
      ASSIGN_OR_RETURN(const Bytes part, vmm->GetConfig(offset, size));
      if (part != Bytes(&whole[offset], &whole[offset] + size)) {
        return absl::InternalError(absl::StrCat(
            size, " bytes at ", offset, " are not what they are in the whole"));
      }
    }
  }
  // Far outside: refused or zero, whatever; the device goes on.
  for (const uint32_t offset : {257u, 0x7fffffffu, 0xffffffffu}) {
    (void)vmm->GetConfig(offset, 8);
  }
  RETURN_IF_ERROR(Serves(*vmm, target));
  // More than a message may ask for: it may even hang up.
  (void)vmm->GetConfig(0, kConfigBytes + 1);
  vmm.reset();
  return device->CheckServes();
}

// The bytes that a driver has managed to change.
absl::StatusOr<std::vector<uint32_t>> WriteEverywhere(FrontEnd& vmm,
                                                      const Bytes& before) {
  std::vector<uint32_t> changed;
  for (uint32_t i = 0; i < before.size(); ++i) {
    const auto other = static_cast<uint8_t>(~before[i]);
    const absl::Status accepted = vmm.SetConfig(i, {other});
    if (!accepted.ok() && !absl::IsAborted(accepted)) return accepted;
    ASSIGN_OR_RETURN(const Bytes now, vmm.GetConfig(i, 1));
    if (now[0] == before[i]) continue;
    if (!accepted.ok()) {
      return absl::InternalError(
          absl::StrCat("a write to byte ", i, " was refused and done"));
    }
    changed.push_back(i);
  }
  return changed;
}

absl::Status RefusedConfigWritesChangeNothing(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  ASSIGN_OR_RETURN(const Bytes before, Config(*vmm));
  RETURN_IF_ERROR(WriteEverywhere(*vmm, before).status());
  // Over the end, and far beyond it.
  for (const uint32_t offset : {kConfigBytes - 1, 0x7fffffffu, 0xffffffffu}) {
    const absl::Status answer = vmm->SetConfig(offset, Bytes(16, 0xff));
    if (!before.empty() && !absl::IsAborted(answer)) {
      return absl::InternalError(absl::StrCat("a write of 16 bytes at ", offset,
                                              ": ", answer.ToString()));
    }
  }
  return Serves(*vmm, target);
}

absl::Status ResetBringsTheConfigBack(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  ASSIGN_OR_RETURN(const Bytes before, Config(*vmm));
  ASSIGN_OR_RETURN(const auto changed, WriteEverywhere(*vmm, before));
  for (int twice = 0; twice < 2; ++twice) {
    RETURN_IF_ERROR(vmm->Command(RequestType::kResetDevice));
  }
  ASSIGN_OR_RETURN(const Bytes after, Config(*vmm));
  for (const uint32_t byte : changed) {
    if (after[byte] != before[byte]) {
      return absl::InternalError(absl::StrCat(
          "byte ", byte, " of the configuration is ", after[byte],
          " after a reset, and was ", before[byte], " before the driver"));
    }
  }
  return absl::OkStatus();
}

// Posts a request, kicks, and expects that nobody takes it.
absl::Status ExpectNoAnswer(FrontEnd& vmm, const ConformanceTarget& target,
                            const char* when) {
  if (!vmm.driver(0).Post(target.request).has_value()) {
    return absl::ResourceExhaustedError("the ring is full");
  }
  RETURN_IF_ERROR(vmm.Kick(0));
  absl::SleepFor(kNoAnswer);
  return vmm.driver(0).Collect().empty()
             ? absl::OkStatus()
             : absl::InternalError(
                   absl::StrCat("a request was answered ", when));
}

// Waits until everything that was posted has its answer.
absl::Status CollectAll(FrontEnd& vmm) {
  while (vmm.driver(0).outstanding() > 0) {
    vmm.driver(0).EnableInterrupts();
    if (vmm.driver(0).Collect().empty()) RETURN_IF_ERROR(vmm.WaitForCall(0));
  }
  return CheckDriver(vmm);
}

absl::Status ResetStopsTheRings(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  for (int round = 0; round < 3; ++round) {
    RETURN_IF_ERROR(Serves(*vmm, target));
    RETURN_IF_ERROR(vmm->Command(RequestType::kResetDevice));
    RETURN_IF_ERROR(ExpectNoAnswer(*vmm, target, "after a reset"));
    ASSIGN_OR_RETURN(const uint64_t status,
                     vmm->AskNumber(RequestType::kGetStatus));
    if (status != 0) {
      return absl::InternalError(
          absl::StrCat("the status is ", status, " after a reset"));
    }
    // The driver that comes then lays everything out anew.
    std::fill(vmm->memory().begin(), vmm->memory().end(), 0);
    RETURN_IF_ERROR(vmm->Start());
  }
  return Serves(*vmm, target);
}

absl::Status StoppedRingsAreLeftAlone(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  uint16_t served = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 5; ++i, ++served) RETURN_IF_ERROR(Serves(*vmm, target));
    // Twice: stopping what is stopped changes nothing.
    for (int twice = 0; twice < 2; ++twice) {
      ASSIGN_OR_RETURN(const uint16_t index, vmm->StopQueue(0));
      if (index == served) continue;
      return absl::InternalError(absl::StrCat("a ring that has served ", served,
                                              " requests says ", index));
    }
    RETURN_IF_ERROR(ExpectNoAnswer(*vmm, target, "by a ring that is stopped"));
    RETURN_IF_ERROR(vmm->StartQueue(0));
    RETURN_IF_ERROR(CollectAll(*vmm));
    ++served;
  }
  return Serves(*vmm, target);
}

absl::Status DisabledRingsAreLeftAlone(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  const auto enable = [&vmm](uint32_t on) {
    return vmm->Command(RequestType::kSetVringEnable,
                        BytesOf(VringState{0, on}));
  };
  for (int round = 0; round < 3; ++round) {
    RETURN_IF_ERROR(Serves(*vmm, target));
    RETURN_IF_ERROR(enable(0));
    RETURN_IF_ERROR(enable(0));
    RETURN_IF_ERROR(ExpectNoAnswer(*vmm, target, "by a ring that is disabled"));
    RETURN_IF_ERROR(enable(1));
    RETURN_IF_ERROR(CollectAll(*vmm));
  }
  return Serves(*vmm, target);
}

absl::Status MemoryMayBeSharedAnew(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(const auto vmm, device->Connect());
  for (int round = 0; round < 3; ++round) {
    RETURN_IF_ERROR(Serves(*vmm, target));
    RETURN_IF_ERROR(vmm->StopQueue(0).status());
    RETURN_IF_ERROR(vmm->ShareMemory());
    RETURN_IF_ERROR(vmm->StartQueue(0));
    RETURN_IF_ERROR(vmm->ReplaceCall(0));
  }
  return Serves(*vmm, target);
}

absl::Status AnotherVmmWaitsUntilTheFirstIsGone(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  ASSIGN_OR_RETURN(auto first, device->Connect());
  ASSIGN_OR_RETURN(const auto second,
                   device->ConnectOnly(FrontEndOptions(target)));
  for (int i = 0; i < 5; ++i) RETURN_IF_ERROR(Serves(*first, target));
  first.reset();
  RETURN_IF_ERROR(second->Start());
  return Serves(*second, target);
}

// Whatever the bytes: the connection may end, the device may not.
absl::Status MalformedMessagesDoNoHarm(const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  const auto get_features = static_cast<uint32_t>(RequestType::kGetFeatures);
  const auto set_features = static_cast<uint32_t>(RequestType::kSetFeatures);
  const std::vector<Bytes> malformed = {
      Bytes(64, 0xff),
      Bytes(3, 0),
      vhost_user::RawMessage(get_features, 0, 0, {}),  // Version 0.
      vhost_user::RawMessage(set_features, vhost_user::kVersion, 7, Bytes(7)),
      vhost_user::RawMessage(set_features, vhost_user::kVersion, 1u << 30, {}),
      vhost_user::RawMessage(0, vhost_user::kVersion, 0, {}),
      vhost_user::RawMessage(0xffffffff, vhost_user::kVersion, 8, Bytes(8)),
  };
  for (const Bytes& bytes : malformed) {
    ASSIGN_OR_RETURN(const auto vmm, device->Connect());
    (void)vmm->SendRaw(bytes);
    absl::SleepFor(absl::Milliseconds(1));
  }
  // Each request, alone, before anything else, with a payload of nothing.
  for (uint32_t request = 0; request < 50; ++request) {
    ASSIGN_OR_RETURN(const auto vmm,
                     device->ConnectOnly(FrontEndOptions(target)));
    (void)vmm->SendRaw(
        vhost_user::Message(static_cast<RequestType>(request), Bytes(8)));
  }
  return device->CheckServes();
}

absl::Status MalformedChainsAreAnsweredWithNothing(
    const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const auto device, ServedDevice::Start(target));
  for (const BrokenChain& chain : BrokenChains()) {
    const absl::Status status = OfferBrokenChain(*device, target, chain);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(chain.name, ": ", status.message()));
    }
  }
  return device->CheckServes();
}

constexpr ConformanceCheck kChecks[] = {
    {"OffersWhatEveryDeviceOffers", OffersWhatEveryDeviceOffers},
    {"RefusesFeaturesThatItDoesNotOffer", RefusesFeaturesThatItDoesNotOffer},
    {"ServesUnderEverySetOfRingFeatures", ServesUnderEverySetOfRingFeatures},
    {"ServesOldFrontEnds", ServesOldFrontEnds},
    {"ConfigCanBeReadAtAnyOffset", ConfigCanBeReadAtAnyOffset},
    {"RefusedConfigWritesChangeNothing", RefusedConfigWritesChangeNothing},
    {"ResetBringsTheConfigBack", ResetBringsTheConfigBack},
    {"ResetStopsTheRings", ResetStopsTheRings},
    {"StoppedRingsAreLeftAlone", StoppedRingsAreLeftAlone},
    {"DisabledRingsAreLeftAlone", DisabledRingsAreLeftAlone},
    {"MemoryMayBeSharedAnew", MemoryMayBeSharedAnew},
    {"AnotherVmmWaitsUntilTheFirstIsGone", AnotherVmmWaitsUntilTheFirstIsGone},
    {"MalformedMessagesDoNoHarm", MalformedMessagesDoNoHarm},
    {"MalformedChainsAreAnsweredWithNothing",
     MalformedChainsAreAnsweredWithNothing},
};

}  // namespace

absl::Span<const ConformanceCheck> ProtocolChecks() { return kChecks; }

}  // namespace holdfast::testing

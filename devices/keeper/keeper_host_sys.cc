#include "devices/keeper/keeper_host_sys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "devices/keeper/inflight_region.h"
#include "devices/keeper/shadow_session.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/lane_peek.h"
#include "statestore/segment.h"
#include "statestore/store/backend_resources.h"

namespace holdfast::keeper {
namespace {

// Options of the command line, which a profile fills in.
constexpr char kTracking[] = "tracking";
constexpr char kMaskFeatures[] = "mask-features";
constexpr char kMaskProtocolFeatures[] = "mask-protocol-features";
constexpr char kResetQueue[] = "transport-reset-queue";
constexpr char kKickBack[] = "kick-back";
constexpr char kHangMs[] = "hang-ms";
constexpr uint64_t kMaxHangMs = 24 * 3600 * 1000;
constexpr char kConfigMayDiffer[] = "config-may-differ";

absl::StatusOr<Tracking> TrackingOf(const DeviceOptions& options) {
  const std::string text = options.Text(kTracking, "offered");
  if (text == "offered") return Tracking::kOffered;
  if (text == "forced") return Tracking::kForced;
  if (text == "in-order") return Tracking::kInOrder;
  if (text == "shadow") return Tracking::kShadow;
  return absl::InvalidArgumentError(
      absl::StrCat("--", kTracking, "=", text,
                   ": give offered, forced, in-order or shadow"));
}

absl::StatusOr<KickBack> KickBackOf(const DeviceOptions& options,
                                    Tracking tracking) {
  const std::string text = options.Text(kKickBack, "never");
  if (text == "never") return KickBack::kNever;
  if (tracking != Tracking::kShadow) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", kKickBack, " needs --", kTracking, "=shadow"));
  }
  if (text == "block") return KickBack::kBlock;
  if (text == "scsi") return KickBack::kScsi;
  if (text == "nothing") return KickBack::kNothing;
  return absl::InvalidArgumentError(absl::StrCat(
      "--", kKickBack, "=", text, ": give never, block, scsi or nothing"));
}

absl::StatusOr<BackendTraits> TraitsOf(const DeviceOptions& options) {
  BackendTraits traits;
  ASSIGN_OR_RETURN(traits.tracking, TrackingOf(options));
  ASSIGN_OR_RETURN(traits.kick_back, KickBackOf(options, traits.tracking));
  ASSIGN_OR_RETURN(traits.masked_features,
                   options.Number(kMaskFeatures, 0, 0, UINT64_MAX));
  ASSIGN_OR_RETURN(traits.masked_protocol_features,
                   options.Number(kMaskProtocolFeatures, 0, 0, UINT64_MAX));
  ASSIGN_OR_RETURN(
      const uint64_t queue,
      options.Number(kResetQueue, 0, 0, vhost_user::kMaxQueues - 1));
  traits.reset_queue = static_cast<uint16_t>(queue);
  if (queue != 0 && traits.tracking != Tracking::kInOrder) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", kResetQueue, " needs --", kTracking, "=in-order"));
  }
  ASSIGN_OR_RETURN(const uint64_t hang_ms,
                   options.Number(kHangMs, 0, 0, kMaxHangMs));
  traits.hang_limit = std::chrono::milliseconds(hang_ms);
  ASSIGN_OR_RETURN(traits.config_may_differ,
                   options.Number(kConfigMayDiffer, 0, 0, UINT64_MAX));
  return traits;
}

std::vector<ResourceSpec> BackendResources() {
  std::vector<ResourceSpec> resources;
  for (const char* name : store::kBackendResourceNames) {
    resources.push_back({name, "of the wrapped back-end"});
  }
  return resources;
}

}  // namespace

KeeperHost::KeeperHost(const BackendTraits& traits)
    : traits_(traits), resources_(BackendResources()) {}

absl::Status KeeperHost::AddTo(SegmentSpec& spec) const {
  ASSIGN_OR_RETURN(spec.state, DescribeState<WholeKeeperState>());
  return absl::OkStatus();
}

absl::Status KeeperHost::ProvideMemory(store::Slot slot, const char* name,
                                       size_t bytes) {
  if (services_.descriptors->Get(slot).valid()) return absl::OkStatus();
  ASSIGN_OR_RETURN(UniqueFd memory, CreateSealedMemfd(name, bytes));
  RETURN_IF_ERROR(services_.keeper->Escrow(slot, memory));
  services_.descriptors->Set(slot, std::move(memory));
  return absl::OkStatus();
}

absl::Status KeeperHost::Build(const HostServices& services) {
  services_ = services;
  RETURN_IF_ERROR(ProvideMemory(kInflightSlot, "holdfast-inflight",
                                InflightRegion::kBytes));
  ShadowParts shadow;
  if (traits_.tracking == Tracking::kShadow) {
    RETURN_IF_ERROR(
        ProvideMemory(kShadowSlot, "holdfast-shadow", kShadowBytes));
    shadow = {&pump_.emplace(), kShadowSlot};
  }
  BackendSlots slots;
  for (size_t i = 0; i < slots.size(); ++i) {
    const auto found =
        services_.resources->find(store::kBackendResourceNames[i]);
    if (found == services_.resources->end()) {
      return absl::InvalidArgumentError(
          "a keeper is started by holdfastd for a back-end: see "
          "launcher/cli/README.md, \"wrap\"");
    }
    slots[i] = found->second;
  }
  const Schema& schema = services_.segment->schema();
  ASSIGN_OR_RETURN(const KeeperState own, BindState<KeeperState>(schema));
  // An older segment has none.
  const SecondSeatState second =
      BindState<SecondSeatState>(schema).value_or(SecondSeatState());
  const KeeperCells cells{own, second};
  session_.emplace(traits_, cells, slots, kInflightSlot, shadow,
                   *services_.descriptors, *services_.keeper);
  return absl::OkStatus();
}

void KeeperHost::MapAhead() {
  vhost_user::SessionState session;
  if (PeekLaneBank(services_.segment->section(SectionType::kLane),
                   SessionHost::Sizes(),
                   {reinterpret_cast<uint8_t*>(&session), sizeof(session)})) {
    session_->MapAhead(session);
  }
}

absl::Status KeeperHost::Resume(Lane& lane, StateBank& state) {
  lane_ = &lane;
  return session_->Resume(lane, state);
}

absl::StatusOr<DeviceHost::Served> KeeperHost::Serve(Lane::Waiting waiting) {
  if (!session_->CanServe()) return Served::kIdle;
  session_->CheckProgress();
  return session_->Serve(*lane_, waiting);
}

void KeeperHost::OnEvent() {
  session_->OnBackend();
  session_->OnBackendRequest();
}

bool KeeperHost::IsReplaceable(absl::string_view resource) const {
  return std::any_of(
      resources_.begin(), resources_.end(),
      [&](const ResourceSpec& spec) { return spec.name == resource; });
}

DeviceClass KeeperClass() {
  DeviceClass result;
  result.options = {
      {kTracking, "HOW",
       "requests in flight: offered (default), forced, in-order or shadow"},
      {kKickBack, "HOW",
       "how a request is answered that ends every life: never (default), "
       "block, scsi or nothing"},
      {kMaskFeatures, "BITS", "VIRTIO features that the VMM must not see"},
      {kMaskProtocolFeatures, "BITS", "the same of vhost-user itself"},
      {kResetQueue, "QUEUE",
       "virtio-vsock's event queue, to tell of connections that are over"},
      {kHangMs, "MS",
       "a back-end hangs when a ring has requests and no answer for so long; "
       "0 (default): never"},
      {kConfigMayDiffer, "BITS",
       "bytes of the configuration space that another life may have others"}};
  result.protocol = "vhost-user";
  result.open = [](const DeviceOptions& options)
      -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    ASSIGN_OR_RETURN(const BackendTraits traits, TraitsOf(options));
    return std::unique_ptr<DeviceHost>(std::make_unique<KeeperHost>(traits));
  };
  result.describe = [](const DeviceOptions&) -> absl::StatusOr<std::string> {
    return absl::UnimplementedError(
        "--print-capabilities: those are the wrapped back-end's, ask it");
  };
  return result;
}

}  // namespace holdfast::keeper

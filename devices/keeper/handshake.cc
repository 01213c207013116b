#include "devices/keeper/handshake.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/keeper/inflight_region.h"

namespace holdfast::keeper {
namespace {

using vhost_user::RequestType;

// Bits of the protocol that the keeper speaks with a back-end.
constexpr uint64_t kSpoken =
    vhost_user::kProtocolMq | vhost_user::kProtocolLogShmfd |
    vhost_user::kProtocolReplyAck | vhost_user::kProtocolBackendReq |
    vhost_user::kProtocolConfig | vhost_user::kProtocolInflightShmfd |
    vhost_user::kProtocolConfigureMemSlots | vhost_user::kProtocolStatus;

// VIRTIO features that cannot be told to another life: packed rings have their
// state in two wrap counters that only the back-end knows, notification data
// never reaches the keeper, and a device behind an IOMMU asks for translations.
constexpr uint64_t kNotReplayed =
    (1ull << 33) | (1ull << 34) | (1ull << 38) | vhost_user::kFeatureLogAll;

// VIRTIO_F_IN_ORDER: a back-end may answer many requests by one element then.
constexpr uint64_t kNotShadowed = 1ull << 35;

uint64_t NeverOffered(const BackendTraits& traits) {
  return kNotReplayed |
         (traits.tracking == Tracking::kShadow ? kNotShadowed : 0);
}

// Regions of memory that the keeper has for itself.
uint32_t OwnRegions(const BackendTraits& traits) {
  return traits.tracking == Tracking::kShadow ? 1 : 0;
}

absl::StatusOr<uint64_t> AskNumber(BackendLink& link, RequestType type) {
  ASSIGN_OR_RETURN(const vhost_user::Answer answer, link.Ask(type));
  return answer.value;
}

absl::Status TellNumber(BackendLink& link, RequestType type, uint64_t value) {
  uint8_t bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  return link.Command(type, bytes);
}

// False: there are not that many bytes.
absl::StatusOr<bool> ReadConfig(BackendLink& link, uint32_t size,
                                Offer& offer) {
  uint8_t bytes[sizeof(vhost_user::ConfigHeader) +
                vhost_user::kMaxConfigAccess] = {};
  const vhost_user::ConfigHeader header{0, size, 0};
  std::memcpy(bytes, &header, sizeof(header));
  ASSIGN_OR_RETURN(
      const vhost_user::Answer answer,
      link.Ask(RequestType::kGetConfig, {bytes, sizeof(header) + size}));
  if (answer.config.size != size) return false;
  offer.config_size = size;
  std::memcpy(offer.config, answer.config_bytes, size);
  return true;
}

// There is no request for how many bytes there are.
absl::Status ReadWholeConfig(BackendLink& link, uint32_t expected,
                             Offer& offer) {
  constexpr uint32_t kStep = 4;
  uint32_t size = expected != 0 ? expected : vhost_user::kMaxConfigAccess;
  for (; size >= kStep; size -= kStep) {
    ASSIGN_OR_RETURN(const bool read, ReadConfig(link, size, offer));
    if (read) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status NegotiateProtocol(BackendLink& link, const BackendTraits& traits,
                               uint32_t expected_config, Offer& offer) {
  ASSIGN_OR_RETURN(offer.protocol_features,
                   AskNumber(link, RequestType::kGetProtocolFeatures));
  const uint64_t agreed = AgreementWith(offer, traits).protocol_features;
  RETURN_IF_ERROR(TellNumber(link, RequestType::kSetProtocolFeatures, agreed));
  link.SetAcknowledges((agreed & vhost_user::kProtocolReplyAck) != 0);
  if ((agreed & vhost_user::kProtocolMq) != 0) {
    ASSIGN_OR_RETURN(const uint64_t count,
                     AskNumber(link, RequestType::kGetQueueNum));
    offer.queue_count = static_cast<uint32_t>(
        std::min<uint64_t>(count, vhost_user::kMaxQueues));
  }
  if ((agreed & vhost_user::kProtocolConfigureMemSlots) != 0) {
    ASSIGN_OR_RETURN(const uint64_t slots,
                     AskNumber(link, RequestType::kGetMaxMemSlots));
    offer.max_mem_slots = static_cast<uint32_t>(
        std::min<uint64_t>(slots, vhost_user::kMaxRegions));
  }
  if ((agreed & vhost_user::kProtocolConfig) != 0) {
    RETURN_IF_ERROR(ReadWholeConfig(link, expected_config, offer));
  }
  return absl::OkStatus();
}

}  // namespace

Agreement AgreementWith(const Offer& offer, const BackendTraits& traits) {
  Agreement agreement;
  agreement.features = offer.features;
  agreement.protocol_features =
      offer.protocol_features & kSpoken & ~traits.masked_protocol_features;
  switch (traits.tracking) {
    case Tracking::kOffered:
      break;
    case Tracking::kForced:
      agreement.protocol_features |= vhost_user::kProtocolInflightShmfd;
      break;
    case Tracking::kInOrder:
    case Tracking::kShadow:
      agreement.protocol_features &= ~vhost_user::kProtocolInflightShmfd;
      break;
  }
  if ((agreement.protocol_features & vhost_user::kProtocolInflightShmfd) != 0) {
    // libvhost-user believes the number and writes over its own memory when it
    // has fewer queues.
    agreement.inflight_queues = static_cast<uint16_t>(offer.queue_count);
  }
  return agreement;
}

vhost_user::BackendInfo InfoFor(const Offer& offer, const BackendTraits& traits,
                                store::Slot inflight_slot) {
  const Agreement agreement = AgreementWith(offer, traits);
  vhost_user::BackendInfo info;
  info.features = offer.features & ~NeverOffered(traits) &
                  ~traits.masked_features &
                  ~vhost_user::kFeatureProtocolFeatures;
  // The keeper itself acknowledges and keeps the in-flight region.
  info.protocol_features =
      agreement.protocol_features | vhost_user::kProtocolReplyAck;
  // Without tracking a region would hold nothing.
  info.queue_count = static_cast<uint16_t>(offer.queue_count);
  info.max_queue_size = InflightRegion::kMaxQueueSize;
  info.config_size = offer.config_size;
  const uint32_t own = OwnRegions(traits);
  if (offer.max_mem_slots != 0) {
    info.max_mem_slots = offer.max_mem_slots - own;
  } else if (own != 0) {
    // All of them go with one message.
    info.max_mem_slots = vhost_user::kMaxTableRegions - own;
  }
  info.inflight_slot = inflight_slot;
  info.inflight_size = InflightRegion::kPartBytes;
  return info;
}

absl::Status CheckSuccessor(const Offer& first, const Offer& now,
                            const BackendTraits& traits) {
  // The VMM was told of those that are masked no more than of others that are
  // not there.
  if (const uint64_t missing =
          first.features & ~now.features & ~traits.masked_features;
      missing != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("it does not offer the features 0x", absl::Hex(missing)));
  }
  if (const uint64_t missing = first.protocol_features &
                               ~now.protocol_features & kSpoken &
                               ~traits.masked_protocol_features;
      missing != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "it does not offer the protocol features 0x", absl::Hex(missing)));
  }
  if (now.queue_count < first.queue_count) {
    return absl::FailedPreconditionError(absl::StrCat(
        "it has ", now.queue_count, " queues, not ", first.queue_count));
  }
  if (now.max_mem_slots < first.max_mem_slots) {
    return absl::FailedPreconditionError(
        absl::StrCat("it takes ", now.max_mem_slots, " regions of memory, not ",
                     first.max_mem_slots));
  }
  if (now.config_size != first.config_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("its configuration space has ", now.config_size,
                     " bytes, not ", first.config_size));
  }
  for (uint32_t i = 0; i < first.config_size; ++i) {
    const bool written = (first.config_written[i / 8] >> (i % 8) & 1) != 0;
    const bool free = i < 64 && (traits.config_may_differ >> i & 1) != 0;
    if (!written && !free && first.config[i] != now.config[i]) {
      return absl::FailedPreconditionError(
          absl::StrCat("byte ", i, " of its configuration space is ",
                       now.config[i], ", not ", first.config[i]));
    }
  }
  return absl::OkStatus();
}

bool HasRequestChannel(const Offer& offer, const BackendTraits& traits) {
  return (AgreementWith(offer, traits).protocol_features &
          vhost_user::kProtocolBackendReq) != 0;
}

absl::StatusOr<Offer> ReadConfigOf(BackendLink& link, const Offer& offer) {
  Offer now = offer;
  ASSIGN_OR_RETURN(const bool read, ReadConfig(link, offer.config_size, now));
  if (!read) {
    return absl::InvalidArgumentError("its configuration space has lost bytes");
  }
  return now;
}

absl::Status WriteConfigOf(BackendLink& link, uint32_t offset, uint32_t flags,
                           absl::Span<const uint8_t> bytes) {
  const auto size = static_cast<uint32_t>(bytes.size());
  const vhost_user::ConfigHeader header{offset, size, flags};
  uint8_t message[sizeof(header) + vhost_user::kMaxConfigAccess];
  std::memcpy(message, &header, sizeof(header));
  std::memcpy(message + sizeof(header), bytes.data(), bytes.size());
  return link.Command(RequestType::kSetConfig,
                      {message, sizeof(header) + bytes.size()});
}

bool WasWritten(const Offer& offer) {
  return std::any_of(std::begin(offer.config_written),
                     std::end(offer.config_written),
                     [](uint8_t bits) { return bits != 0; });
}

absl::Status WriteConfigAgain(BackendLink& link, const Offer& offer) {
  for (uint32_t i = 0; i < offer.config_size; ++i) {
    if ((offer.config_written[i / 8] >> (i % 8) & 1) == 0) continue;
    RETURN_IF_ERROR(WriteConfigOf(link, i, vhost_user::kConfigFlagWritable,
                                  {&offer.config[i], 1}));
  }
  return absl::OkStatus();
}

absl::StatusOr<Offer> ShakeHands(BackendLink& link, const BackendTraits& traits,
                                 uint32_t expected_config) {
  Offer offer = {};
  offer.known = 1;
  offer.queue_count = 1;
  RETURN_IF_ERROR(link.Command(RequestType::kSetOwner));
  ASSIGN_OR_RETURN(offer.features, AskNumber(link, RequestType::kGetFeatures));
  if ((offer.features & vhost_user::kFeatureProtocolFeatures) != 0) {
    RETURN_IF_ERROR(NegotiateProtocol(link, traits, expected_config, offer));
  }
  if (offer.queue_count == 0) {
    return absl::InvalidArgumentError("it says that it has no queues");
  }
  const bool by_slots = (AgreementWith(offer, traits).protocol_features &
                         vhost_user::kProtocolConfigureMemSlots) != 0;
  if (by_slots && offer.max_mem_slots <= OwnRegions(traits)) {
    return absl::InvalidArgumentError("it says that it takes no memory");
  }
  return offer;
}

}  // namespace holdfast::keeper

#include "devices/keeper/event_ring.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "devices/vhost_user/message.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::keeper {
namespace {

template <typename T>
T* At(const GuestMemory& memory, uint64_t address, size_t size) {
  uint8_t* const host = memory.TranslateUser(UserAddress{address}, size).host;
  if (reinterpret_cast<uintptr_t>(host) % alignof(T) != 0) return nullptr;
  return reinterpret_cast<T*>(host);
}

}  // namespace

absl::StatusOr<bool> PutEvent(const GuestMemory& memory,
                              const vhost_user::QueueState& ring,
                              absl::Span<const uint8_t> event) {
  if (ring.num == 0 || ring.num > vring::kMaxSize) {
    return absl::InvalidArgumentError("the event ring has no size");
  }
  const auto num = static_cast<uint16_t>(ring.num);
  auto* const descriptors = At<vring::Descriptor>(memory, ring.descriptor,
                                                  vring::DescriptorBytes(num));
  auto* const available = At<vring::Available>(
      memory, ring.available, vring::AvailableBytes(num, false));
  auto* const used =
      At<vring::Used>(memory, ring.used, vring::UsedBytes(num, false));
  if (descriptors == nullptr || available == nullptr || used == nullptr) {
    return absl::InvalidArgumentError(
        "the event ring lies outside the guest's memory");
  }
  const uint16_t next = SharedAccess::Load(&used->idx);
  const auto waiting =
      static_cast<uint16_t>(SharedAccess::LoadAcquire(&available->idx) - next);
  if (waiting == 0) return false;
  if (waiting > num) {
    return absl::InvalidArgumentError(
        absl::StrCat("the event ring of ", num, " has ", waiting, " requests"));
  }
  const uint16_t head = SharedAccess::Load(
      reinterpret_cast<uint16_t*>(available + 1) + next % num);
  if (head >= num) {
    return absl::InvalidArgumentError(
        absl::StrCat("the event ring of ", num, " names descriptor ", head));
  }
  const uint64_t address = SharedAccess::Load(&descriptors[head].address);
  const uint32_t size = SharedAccess::Load(&descriptors[head].size);
  const uint16_t flags = SharedAccess::Load(&descriptors[head].flags);
  uint8_t* const buffer = memory.Translate(GuestAddress{address}, event.size());
  if ((flags & vring::kWrite) == 0 || (flags & vring::kIndirect) != 0 ||
      size < event.size() || buffer == nullptr) {
    return absl::InvalidArgumentError(
        "the event ring has a buffer that is not for events");
  }
  for (size_t i = 0; i < event.size(); ++i) {
    SharedAccess::Store(buffer + i, event[i]);
  }
  auto* const element =
      reinterpret_cast<vring::UsedElement*>(used + 1) + next % num;
  SharedAccess::Store(&element->id, uint32_t{head});
  SharedAccess::Store(&element->size, static_cast<uint32_t>(event.size()));
  SharedAccess::StoreRelease(&used->idx, static_cast<uint16_t>(next + 1));
  return true;
}

absl::StatusOr<bool> PutTransportReset(const GuestMemory& memory,
                                       const vhost_user::SessionState& session,
                                       uint16_t queue) {
  if ((session.features & vhost_user::kFeatureLogAll) != 0) return false;
  // VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, little-endian.
  constexpr uint8_t kReset[4] = {0, 0, 0, 0};
  return PutEvent(memory, session.queues[queue], kReset);
}

}  // namespace holdfast::keeper

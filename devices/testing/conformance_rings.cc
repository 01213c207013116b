#include "devices/testing/conformance_rings.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "devices/bus/virtio_ids.h"
#include "devices/vhost_user/message.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast::testing {
namespace {

using vring::Descriptor;

constexpr uint16_t kSize = 64;
// The last descriptors: what the driver itself posts begins with the first.
constexpr uint16_t kHead = kSize - 4;

// Guest addresses beyond the memory that the front-end shares.
constexpr uint64_t kNowhere = FrontEnd::kGuestAddress / 2;

uint64_t Buffer(FakeDriver& driver, size_t size = 64) {
  return ToInt(driver.ToGuest(driver.Allocate(size)));
}

uint16_t Chain(FakeDriver& driver, const std::vector<Descriptor>& chain) {
  for (size_t i = 0; i < chain.size(); ++i) {
    driver.descriptor(static_cast<uint16_t>(kHead + i)) = chain[i];
  }
  return kHead;
}

// An indirect table of these descriptors, `bytes` long by its own account.
uint16_t Table(FakeDriver& driver, const std::vector<Descriptor>& table,
               uint32_t bytes, uint16_t flags = vring::kIndirect) {
  uint8_t* const at = driver.Allocate(4096);
  std::copy_n(table.begin(), table.size(), reinterpret_cast<Descriptor*>(at));
  return Chain(driver, {{ToInt(driver.ToGuest(at)), bytes, flags, kHead + 1}});
}

uint16_t HeadOutsideTheRing(FakeDriver&) { return kSize; }

uint16_t Loop(FakeDriver& driver) {
  return Chain(driver, {{Buffer(driver), 64, vring::kNext, kHead + 1},
                        {Buffer(driver), 64, vring::kNext, kHead}});
}

uint16_t NextOutsideTheRing(FakeDriver& driver) {
  return Chain(driver, {{Buffer(driver), 64, vring::kNext, 0xffff}});
}

uint16_t AddressOutsideMemory(FakeDriver& driver) {
  return Chain(driver, {{kNowhere, 64, vring::kWrite, 0}});
}

uint16_t LengthOverTheEndOfMemory(FakeDriver& driver) {
  return Chain(driver, {{Buffer(driver), 0x7fffffff, vring::kWrite, 0}});
}

uint16_t AddressThatWrapsAround(FakeDriver& driver) {
  return Chain(driver, {{~uint64_t{0} - 16, 64, vring::kWrite, 0}});
}

uint16_t ReadableAfterWritable(FakeDriver& driver) {
  return Chain(driver,
               {{Buffer(driver), 64, vring::kWrite | vring::kNext, kHead + 1},
                {Buffer(driver), 64, 0, 0}});
}

uint16_t IndirectThatWasNotNegotiated(FakeDriver& driver) {
  return Table(driver, {{Buffer(driver), 64, vring::kWrite, 0}},
               sizeof(Descriptor));
}

uint16_t IndirectTableOfNoWholeSize(FakeDriver& driver) {
  return Table(driver, {{Buffer(driver), 64, vring::kWrite, 0}},
               sizeof(Descriptor) + 1);
}

uint16_t IndirectTableOfNothing(FakeDriver& driver) {
  return Table(driver, {}, 0);
}

uint16_t IndirectTableOutsideMemory(FakeDriver& driver) {
  return Chain(driver, {{kNowhere, sizeof(Descriptor), vring::kIndirect, 0}});
}

uint16_t IndirectTableTooLarge(FakeDriver& driver) {
  return Table(driver, {{Buffer(driver), 64, vring::kWrite, 0}}, 1 << 30);
}

uint16_t IndirectInsideIndirect(FakeDriver& driver) {
  return Table(driver,
               {{Buffer(driver), sizeof(Descriptor), vring::kIndirect, 0}},
               sizeof(Descriptor));
}

uint16_t IndirectAndNext(FakeDriver& driver) {
  return Table(driver, {{Buffer(driver), 64, vring::kWrite, 0}},
               sizeof(Descriptor), vring::kIndirect | vring::kNext);
}

uint16_t IndirectLoop(FakeDriver& driver) {
  return Table(driver, {{Buffer(driver), 64, vring::kNext, 0}},
               sizeof(Descriptor));
}

uint16_t IndirectNextOutsideTheTable(FakeDriver& driver) {
  return Table(driver, {{Buffer(driver), 64, vring::kNext, 5}},
               sizeof(Descriptor));
}

constexpr BrokenChain kBrokenChains[] = {
    {"HeadOutsideTheRing", HeadOutsideTheRing, false},
    {"Loop", Loop, false},
    {"NextOutsideTheRing", NextOutsideTheRing, false},
    {"AddressOutsideMemory", AddressOutsideMemory, false},
    {"LengthOverTheEndOfMemory", LengthOverTheEndOfMemory, false},
    {"AddressThatWrapsAround", AddressThatWrapsAround, false},
    {"ReadableAfterWritable", ReadableAfterWritable, false},
    {"IndirectThatWasNotNegotiated", IndirectThatWasNotNegotiated, false},
    {"IndirectTableOfNoWholeSize", IndirectTableOfNoWholeSize, true},
    {"IndirectTableOfNothing", IndirectTableOfNothing, true},
    {"IndirectTableOutsideMemory", IndirectTableOutsideMemory, true},
    {"IndirectTableTooLarge", IndirectTableTooLarge, true},
    {"IndirectInsideIndirect", IndirectInsideIndirect, true},
    {"IndirectAndNext", IndirectAndNext, true},
    {"IndirectLoop", IndirectLoop, true},
    {"IndirectNextOutsideTheTable", IndirectNextOutsideTheTable, true},
};

// Whether the used ring so far has the good request, with bytes, and nothing
// else but the broken one, without.
absl::StatusOr<bool> GoodOneAnswered(FakeDriver& driver, uint16_t broken) {
  const uint16_t used = __atomic_load_n(&driver.used().idx, __ATOMIC_ACQUIRE);
  bool good = false;
  for (uint16_t i = 0; i < used; ++i) {
    const vring::UsedElement element = driver.used_ring(i);
    if (element.id == broken && element.size == 0) continue;
    if (element.id >= kHead || element.size == 0 || good) {
      return absl::InternalError(absl::StrCat("answer ", i, " is for request ",
                                              element.id, ", of ", element.size,
                                              " bytes"));
    }
    good = true;
  }
  return good;
}

}  // namespace

absl::Span<const BrokenChain> BrokenChains() { return kBrokenChains; }

absl::Status OfferBrokenChain(ServedDevice& device,
                              const ConformanceTarget& target,
                              const BrokenChain& chain) {
  FrontEnd::Options options = FrontEndOptions(target);
  options.queue_size = kSize;
  if (!chain.indirect) options.features = ~virtio::kFeatureRingIndirectDesc;
  ASSIGN_OR_RETURN(const auto vmm, device.Connect(options));
  FakeDriver& driver = vmm->driver(0);
  if (!driver.Post(target.request).has_value()) {
    return absl::ResourceExhaustedError("the request does not fit the ring");
  }
  const uint16_t broken = chain.make(driver);
  driver.avail_ring(1) = broken;
  __atomic_store_n(&driver.avail_index(), uint16_t{2}, __ATOMIC_RELEASE);
  RETURN_IF_ERROR(vmm->Kick(0));
  const absl::Time deadline = absl::Now() + target.patience;
  for (bool answered = false; !answered;) {
    ASSIGN_OR_RETURN(answered, GoodOneAnswered(driver, broken));
    RETURN_IF_ERROR(device.CheckAlive());
    if (!answered && absl::Now() > deadline) {
      return absl::DeadlineExceededError("the good request has no answer");
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  // Stopping waits for what is being worked on.
  RETURN_IF_ERROR(vmm->StopQueue(0).status());
  RETURN_IF_ERROR(GoodOneAnswered(driver, broken).status());
  RETURN_IF_ERROR(
      vmm->AskNumber(vhost_user::RequestType::kGetFeatures).status());
  return device.CheckAlive();
}

}  // namespace holdfast::testing

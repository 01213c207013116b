// Any table of regions is refused or translates as arithmetic without overflow
// says; the dirty log is never written out of bounds (AddressSanitizer).
#include <cstdint>
#include <memory>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/bus/guest_memory.h"

namespace {

using ::holdfast::GuestAddress;
using ::holdfast::GuestMemory;
using ::holdfast::GuestRegion;
using ::holdfast::UserAddress;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

__extension__ typedef unsigned __int128 Wide;

// Numbers that meet, cross and overflow more often than random ones.
uint64_t TakeNumber(FuzzInput& input) {
  const uint8_t kind = input.Take<uint8_t>();
  const uint64_t small = input.Take<uint16_t>();
  switch (kind % 4) {
    case 0:
      return small;
    case 1:
      return small << 12;
    case 2:
      return ~uint64_t{0} - small;
    default:
      return input.Take<uint64_t>();
  }
}

// Where the region would be mapped; only compared, never followed.
uint8_t* FakeHost(size_t index) {
  return reinterpret_cast<uint8_t*>(uint64_t{index + 1} << 32);
}

bool Holds(uint64_t start, uint64_t region_size, uint64_t at, uint64_t size) {
  return size != 0 && at >= start &&
         Wide{at} + size <= Wide{start} + region_size;
}

void CheckQuery(const GuestMemory& memory,
                const std::vector<GuestRegion>& regions, uint64_t at,
                uint64_t size) {
  uint8_t* guest = nullptr;
  uint8_t* user = nullptr;
  for (const GuestRegion& r : regions) {
    if (Holds(ToInt(r.guest_address), r.size, at, size)) {
      guest = r.host + (at - ToInt(r.guest_address));
    }
    if (Holds(ToInt(r.user_address), r.size, at, size)) {
      user = r.host + (at - ToInt(r.user_address));
    }
  }
  Require(memory.Translate(GuestAddress{at}, size) == guest);
  Require(memory.TranslateUser(UserAddress{at}, size).host == user);
  const auto prefix = memory.TranslatePrefix(GuestAddress{at}, size);
  Require(prefix.size() <= size);
  Require(guest == nullptr || prefix.size() == size);
  Require(prefix.empty() ||
          memory.Translate(GuestAddress{at}, prefix.size()) == prefix.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  std::vector<GuestRegion> regions(input.Take<uint8_t>() % 70);
  for (size_t i = 0; i < regions.size(); ++i) {
    regions[i] = {GuestAddress{TakeNumber(input)}, TakeNumber(input),
                  UserAddress{TakeNumber(input)}, FakeHost(i)};
  }
  auto memory = GuestMemory::Create(regions);
  if (!memory.ok()) return 0;
  Require(regions.size() <= GuestMemory::kMaxRegions);
  const size_t log_size = input.Take<uint8_t>() % 16;
  std::unique_ptr<uint8_t[]> log(new uint8_t[log_size]());
  memory->SetLog({log.get(), log_size});
  while (!input.empty()) {
    const uint64_t at = TakeNumber(input);
    const uint64_t length = TakeNumber(input);
    CheckQuery(*memory, regions, at, length);
    memory->MarkDirty(GuestAddress{at}, length);
  }
  return 0;
}

// Whatever lies in a guest's event ring: nothing outside its memory is touched
// (AddressSanitizer), and where no event is put nothing is written.
#include <cstdint>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/keeper/event_ring.h"

using ::holdfast::GuestAddress;
using ::holdfast::GuestMemory;
using ::holdfast::UserAddress;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kGuest = 0x1000;
  constexpr uint64_t kUser = 0x700000;
  constexpr size_t kBytes = 4096;
  FuzzInput input(data, size);
  holdfast::vhost_user::QueueState ring = {};
  ring.num = input.Take<uint16_t>();
  ring.descriptor = kUser + input.Take<uint16_t>();
  ring.available = kUser + input.Take<uint16_t>();
  ring.used = kUser + input.Take<uint16_t>();
  // On the heap and of its exact size, as what follows must not be touched.
  std::vector<uint64_t> memory(kBytes / sizeof(uint64_t));
  for (uint64_t& word : memory) word = input.Take<uint64_t>();
  auto* const bytes = reinterpret_cast<uint8_t*>(memory.data());
  const auto guest = GuestMemory::Create(
      {{GuestAddress{kGuest}, kBytes, UserAddress{kUser}, bytes}});
  Require(guest.ok());
  const uint8_t event[4] = {};
  const std::vector<uint64_t> before = memory;
  const auto put = holdfast::keeper::PutEvent(*guest, ring, event);
  if (!put.ok() || !*put) Require(memory == before);
  return 0;
}

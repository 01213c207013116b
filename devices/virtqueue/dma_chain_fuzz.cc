// A driver that builds any chain, in memory that is reached by transfers; the
// same chain in the same memory, mapped, is the model.
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/guest_memory.h"
#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/dma_chain.h"

namespace holdfast {
namespace {

using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

constexpr uint64_t kAddress = 0x1000;
constexpr size_t kMemory = 1024;
constexpr size_t kRoom = 2048;

// The ring's table lies at the beginning of the memory.
void Compare(FuzzInput& input) {
  const uint16_t size = static_cast<uint16_t>(1 << (input.Take<uint8_t>() % 6));
  const bool indirect = (input.Take<uint8_t>() & 1) != 0;
  const auto head = static_cast<uint16_t>(input.Take<uint8_t>() % size);
  const std::unique_ptr<uint8_t[]> memory(new uint8_t[kMemory]());
  for (size_t i = 0; i < kMemory && !input.empty(); ++i) {
    memory[i] = input.Take<uint8_t>();
  }
  const GuestMemory mapped = *GuestMemory::Create(
      {{GuestAddress{kAddress}, kMemory, UserAddress{kAddress}, memory.get()}});
  const auto wanted = std::make_unique<Chain>();
  const absl::Status is = ReadChain(
      DescriptorTable{memory.get(), size, indirect}, head, mapped, *wanted);

  DmaWindows dma;
  DmaWindow window;
  window.address = GuestAddress{kAddress};
  window.size = kMemory;
  window.host = memory.get();
  Require(dma.Add(window).ok());
  const std::unique_ptr<uint8_t[]> room(new uint8_t[kRoom]());
  const auto chain = std::make_unique<Chain>();
  const absl::Status got =
      ReadChain(DmaDescriptorTable{GuestAddress{kAddress}, size, indirect},
                head, dma, {room.get(), kRoom}, *chain);
  if (!got.ok()) {
    // What the model takes is too large for the room, if anything.
    Require(IsDriversMistake(got));
    Require(!is.ok() ||
            uint64_t{wanted->readable_size()} + wanted->writable_size() >
                kRoom);
    return;
  }
  const absl::Status in = CopyIn(*chain, dma);
  if (is.ok()) {
    Require(in.ok() && chain->readable_size() == wanted->readable_size() &&
            chain->writable_size() == wanted->writable_size() &&
            chain->readable().size() == wanted->readable().size());
    for (size_t i = 0; i < chain->readable().size(); ++i) {
      const ChainSegment& copy = chain->readable()[i];
      const ChainSegment& original = wanted->readable()[i];
      Require(copy.address == original.address && copy.size == original.size &&
              std::memcmp(copy.data, original.data, copy.size) == 0);
    }
    Require(CopyOut(*chain, dma).ok());
    return;
  }
  // Of an indirect table only what is needed is looked at.
  if (absl::StrContains(is.message(), "indirect table")) return;
  // Then a buffer lies outside, which is seen when it is moved.
  const absl::Status out = in.ok() ? CopyOut(*chain, dma) : in;
  Require(!out.ok() && IsDriversMistake(out));
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::testing::FuzzInput input(data, size);
  holdfast::Compare(input);
  return 0;
}

// Whatever a guest puts into PRP entries and lists: the walk ends, and what it
// gives has the size that was asked for, of pieces that are no larger than what
// a page and its neighbours can be.
#include <cstdint>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/bus/dma_windows.h"
#include "devices/pci_nvme/prp.h"

namespace {

using ::holdfast::DmaAccess;
using ::holdfast::DmaWindows;
using ::holdfast::GuestAddress;
using ::holdfast::nvme::kPageSize;
using ::holdfast::nvme::PrpRanges;
using ::holdfast::nvme::Status;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

constexpr uint64_t kRam = 4 * kPageSize;

// Addresses are mostly such as exist, and mostly pages.
uint64_t AddressFrom(FuzzInput& input) {
  const uint8_t kind = input.Take<uint8_t>();
  if (kind >= 0xf0) return input.Take<uint64_t>();
  const uint64_t page = uint64_t{kind} % 5 * kPageSize;
  return kind < 0xa0 ? page : page + input.Take<uint16_t>() % kPageSize / 4 * 4;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  std::vector<uint64_t> ram(kRam / sizeof(uint64_t));
  DmaWindows dma;
  Require(dma.Add({GuestAddress{0}, kRam, DmaAccess::kReadWrite,
                   reinterpret_cast<uint8_t*>(ram.data()), nullptr})
              .ok());
  const uint64_t prp1 = AddressFrom(input);
  const uint64_t prp2 = AddressFrom(input);
  const uint64_t bytes = input.Take<uint32_t>() % (PrpRanges::kMaxTransfer + 1);
  // Entries at the ends of pages, where lists go on, and at their beginnings.
  for (size_t i = 0; !input.empty() && i < 64; ++i) {
    const size_t page = i % 4 * 512;
    const size_t at = i < 32 ? 511 - i / 4 : i / 4 - 8;
    ram[page + at] = AddressFrom(input);
  }
  static PrpRanges prp;
  const Status status = prp.Walk(prp1, prp2, bytes, dma);
  if (status == Status::kSuccess) {
    Require(prp.size() == bytes);
    for (const auto& range : prp.ranges()) Require(range.size != 0);
  } else {
    Require(status == Status::kInvalidPrpOffset ||
            status == Status::kDataTransferError);
  }
  return 0;
}

// Configuration space, by the specification: who may write what, and what must
// be where.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/testing/pci_conformance.h"
#include "devices/bus/testing/pci_prober.h"

namespace holdfast::testing {
namespace {

constexpr size_t kHeaderSize = 64;

uint64_t Load(const std::vector<uint8_t>& image, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size && at + i < image.size(); ++i) {
    value |= uint64_t{image[at + i]} << (8 * i);
  }
  return value;
}

struct Capability {
  size_t at;
  uint8_t id;
  size_t size;  // Bytes, its header included; 0: not known.
};

// PCI Local Bus 3.0, 6.8.1 (MSI), 6.8.2 (MSI-X), appendix H; PCI Bus Power
// Management 1.2, 3.2; PCI Express Base, 7.5.3.
size_t CapabilitySize(const std::vector<uint8_t>& image, size_t at) {
  switch (image[at]) {
    case 0x01:
      return 8;
    case 0x05: {
      const uint64_t control = Load(image, at + 2, 2);
      const size_t wide = (control & 0x80) != 0 ? 4 : 0;
      return (control & 0x100) != 0 ? 20 + wide : 10 + wide;
    }
    case 0x09:
      return image[at + 2];
    case 0x10:
      return pci::kExpressSize;
    case 0x11:
      return 12;
    default:
      return 0;
  }
}

// The list, as far as it goes well.
std::vector<Capability> WalkCapabilities(PciProber& prober,
                                         const std::vector<uint8_t>& image) {
  std::vector<Capability> list;
  std::vector<bool> taken(pci::kConfigSize);
  for (size_t at = image[pci::kCapabilityPointer]; at != 0;
       at = image[at + 1]) {
    if (!prober.Expect(at % 4 == 0 && at >= kHeaderSize,
                       "capability list: pointer to ", at)) {
      break;
    }
    if (!prober.Expect(!taken[at], "capability list: comes to ", at,
                       " twice")) {
      break;
    }
    const Capability capability = {at, image[at], CapabilitySize(image, at)};
    const size_t end = at + std::max<size_t>(capability.size, 2);
    if (!prober.Expect(end <= pci::kConfigSize, "capability at ", at,
                       " ends at ", end)) {
      break;
    }
    for (size_t i = at; i < end; ++i) {
      prober.Expect(!taken[i], "capability at ", at, " takes byte ", i,
                    " of another");
      taken[i] = true;
    }
    list.push_back(capability);
  }
  return list;
}

const Capability* Find(const std::vector<Capability>& list, uint8_t id) {
  for (const Capability& capability : list) {
    if (capability.id == id) return &capability;
  }
  return nullptr;
}

// A table of `size` bytes lies in the BAR that its register names.
void CheckMsixTable(PciProber& prober, const char* what, uint64_t place,
                    uint64_t size) {
  const auto bar = static_cast<uint32_t>(place & 7);
  const uint64_t offset = place & ~uint64_t{7};
  if (!prober.Expect(bar < pci::kBars, "MSI-X: ", what, " in BAR ", bar)) {
    return;
  }
  prober.Expect(offset + size <= prober.RegionSize(bar), "MSI-X: ", what,
                " at ", offset, " of BAR ", bar, ", which has ",
                prober.RegionSize(bar));
}

void CheckMessages(PciProber& prober, const std::vector<uint8_t>& image,
                   const std::vector<Capability>& list) {
  const auto irqs = prober.guest().device().irqs();
  const Capability* const msi = Find(list, 0x05);
  const uint64_t msi_vectors =
      msi == nullptr ? 0 : 1u << (Load(image, msi->at + 2, 2) >> 1 & 7);
  prober.Expect(msi_vectors == irqs[kPciMsiIrq].count, "MSI: ", msi_vectors,
                " vectors, ", irqs[kPciMsiIrq].count, " interrupts");
  prober.Expect(msi_vectors <= pci::kMaxMsiVectors, "MSI: a reserved number");
  const Capability* const msix = Find(list, 0x11);
  const uint64_t vectors =
      msix == nullptr ? 0 : (Load(image, msix->at + 2, 2) & 0x7ff) + 1;
  prober.Expect(vectors == irqs[kPciMsixIrq].count, "MSI-X: ", vectors,
                " vectors, ", irqs[kPciMsixIrq].count, " interrupts");
  if (msix == nullptr) return;
  const uint64_t table = Load(image, msix->at + 4, 4);
  const uint64_t pending = Load(image, msix->at + 8, 4);
  CheckMsixTable(prober, "table", table, 16 * vectors);
  CheckMsixTable(prober, "pending bits", pending, (vectors + 63) / 64 * 8);
  prober.Expect((table & 7) != (pending & 7) ||
                    table + 16 * vectors <= pending ||
                    pending + (vectors + 63) / 64 * 8 <= table,
                "MSI-X: table and pending bits share bytes");
}

// PCI Express Base, 7.6: each header in the extended space points on.
void CheckExtended(PciProber& prober, const std::vector<uint8_t>& image) {
  size_t at = pci::kConfigSize;
  for (size_t steps = 0; at != 0 && at + 4 <= image.size(); ++steps) {
    const uint64_t header = Load(image, at, 4);
    if (header == 0 && at == pci::kConfigSize) return;  // None.
    at = header >> 20 & 0xffc;
    if (!prober.Expect(steps < image.size() / 4 && (at == 0 || at >= 256),
                       "extended capability list: pointer to ", at)) {
      return;
    }
  }
}

// Bits that a guest may change, of each byte; those that it may only clear, in
// `clears`. All others are constant or reserved (and then zero for ever).
struct Writable {
  explicit Writable(size_t size) : bits(size), clears(size) {}
  void Allow(size_t at, uint64_t mask) {
    for (size_t i = 0; i < 8 && at + i < bits.size(); ++i) {
      bits[at + i] |= static_cast<uint8_t>(mask >> (8 * i));
    }
  }
  void Clear(size_t at, uint64_t mask) {
    for (size_t i = 0; i < 8 && at + i < clears.size(); ++i) {
      clears[at + i] |= static_cast<uint8_t>(mask >> (8 * i));
    }
  }
  std::vector<uint8_t> bits;
  std::vector<uint8_t> clears;
};

void AllowHeader(PciProber& prober, Writable& writable) {
  writable.Allow(0x04, 0x0546);  // No I/O space, no VGA, no stepping.
  writable.Clear(0x06, 0xf900);
  writable.Allow(0x0c, 0xff);
  writable.Allow(0x3c, 0xff);
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    const uint64_t size = prober.RegionSize(bar);
    if (size == 0) continue;
    const bool wide = prober.spec().bar(bar).flags != kBar32;
    const uint64_t address = ~(size - 1);
    writable.Allow(pci::kFirstBar + 4 * bar,
                   wide ? address : address & 0xffffffff);
  }
}

void AllowCapability(const std::vector<uint8_t>& image,
                     const Capability& capability, Writable& writable) {
  const size_t at = capability.at;
  switch (capability.id) {
    case 0x01:
      writable.Allow(at + 4, 0x1f03);
      writable.Clear(at + 4, 0x8000);
      break;
    case 0x05: {
      const uint64_t control = Load(image, at + 2, 2);
      const size_t wide = (control & 0x80) != 0 ? 4 : 0;
      const uint64_t vectors = 1u << (control >> 1 & 7);
      writable.Allow(at + 2, 0x0071);
      writable.Allow(at + 4, 0xfffffffc);
      if (wide != 0) writable.Allow(at + 8, 0xffffffff);
      writable.Allow(at + 8 + wide, 0xffff);
      if ((control & 0x100) != 0) {
        writable.Allow(at + 12 + wide, (uint64_t{1} << vectors) - 1);
      }
      break;
    }
    case 0x09:
      for (size_t i = 3; i < capability.size; ++i) writable.Allow(at + i, 0xff);
      break;
    case 0x10:
      writable.Allow(at + 8, 0x7fff);
      writable.Clear(at + 10, 0x000f);
      writable.Allow(at + 16, 0x00fb);
      break;
    case 0x11:
      writable.Allow(at + 2, 0xc000);
      break;
    default:
      break;
  }
}

void ExpectConstants(PciProber& prober, const std::vector<uint8_t>& was,
                     const Writable& writable, size_t after) {
  const std::vector<uint8_t> now = prober.AllConfig();
  for (size_t i = 0; i < was.size(); ++i) {
    const uint8_t fixed = static_cast<uint8_t>(
        ~(writable.bits[i] | (writable.clears[i] & ~now[i])));
    prober.Expect((was[i] & fixed) == (now[i] & fixed), "configuration byte ",
                  i, ": ", now[i], " instead of ", was[i], " after a write to ",
                  after);
  }
}

}  // namespace

Violations CheckHeader(const PciClass& device) {
  PciProber prober(device);
  const std::vector<uint8_t> image = prober.AllConfig();
  if (!prober.Expect(image.size() == pci::kConfigSize ||
                         image.size() == pci::kExpressConfigSize,
                     "configuration space of ", image.size(), " bytes")) {
    return prober.found();
  }
  prober.Expect(Load(image, 0, 2) != 0xffff && Load(image, 0, 2) != 0,
                "no vendor");
  prober.Expect((image[0x0e] & 0x7f) == 0, "header type ", image[0x0e]);
  prober.Expect(image[pci::kInterruptPin] <= 4, "interrupt pin ",
                image[pci::kInterruptPin]);
  prober.Expect((image[pci::kInterruptPin] != 0) ==
                    (prober.guest().device().irqs()[kPciIntxIrq].count != 0),
                "the interrupt pin is not what interrupts say");
  const bool listed = (image[0x06] & pci::kStatusCapabilities) != 0;
  prober.Expect(listed == (image[pci::kCapabilityPointer] != 0),
                "status and pointer disagree on whether there is a list");
  const std::vector<Capability> list = WalkCapabilities(prober, image);
  CheckMessages(prober, image, list);
  if (image.size() == pci::kExpressConfigSize) CheckExtended(prober, image);
  return prober.found();
}

Violations CheckConstants(const PciClass& device) {
  PciProber prober(device);
  const std::vector<uint8_t> was = prober.AllConfig();
  Writable writable(was.size());
  AllowHeader(prober, writable);
  for (const Capability& capability : WalkCapabilities(prober, was)) {
    AllowCapability(was, capability, writable);
  }
  // Extended space beyond its first header has nothing that is writable.
  const size_t end = std::min(was.size(), pci::kConfigSize + 16);
  for (const size_t width : {size_t{1}, size_t{2}, size_t{4}}) {
    for (const uint64_t value : {~uint64_t{0}, uint64_t{0}}) {
      for (size_t at = 0; at < end; at += width) {
        prober.SetConfig(at, value, width);
        // Reading 256 bytes for each byte of them would take most of the time.
        if (at % 16 == 0) ExpectConstants(prober, was, writable, at);
      }
      ExpectConstants(prober, was, writable, end);
    }
  }
  return prober.found();
}

// PCI Local Bus 3.0, 6.2.5.1.
Violations CheckBarSizes(const PciClass& device) {
  PciProber prober(device);
  bool upper = false;
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    const uint64_t at = pci::kFirstBar + 4 * bar;
    if (std::exchange(upper, false)) continue;
    const uint64_t size = prober.RegionSize(bar);
    const uint64_t type = prober.Config(at, 4);
    upper = (type & 7) == 4;
    const size_t bytes = upper ? 8 : 4;
    const uint64_t all = upper ? ~uint64_t{0} : 0xffffffff;
    prober.Expect((type & ~uint64_t{0xf}) == 0, "BAR ", bar,
                  " has an address before it is given one: ", type);
    prober.Expect(size == 0 || (size >= 16 && (size & (size - 1)) == 0), "BAR ",
                  bar, ": ", size, " bytes");
    const uint64_t want = size == 0 ? 0 : ((~(size - 1) & all) | type);
    for (const size_t width : {size_t{1}, size_t{2}, size_t{4}}) {
      for (size_t i = 0; i < bytes; i += width) {
        prober.SetConfig(at + i, all, width);
      }
      prober.Expect(prober.Config(at, bytes) == want, "BAR ", bar, " says ",
                    absl::Hex(prober.Config(at, bytes)), " of ", size,
                    " bytes, probed by ", width, " at once; wanted ",
                    absl::Hex(want));
      prober.guest().Restart();
      prober.Expect(prober.Config(at, bytes) == want, "BAR ", bar,
                    " was lost in a restart");
      prober.SetConfig(at, 0, 4);
      if (upper) prober.SetConfig(at + 4, 0, 4);
      prober.Expect(prober.Config(at, bytes) == type, "BAR ", bar,
                    " keeps bits");
    }
  }
  return prober.found();
}

}  // namespace holdfast::testing

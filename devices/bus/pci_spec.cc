#include "devices/bus/pci_spec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

using Kind = BarSpec::Kind;

bool IsPowerOfTwo(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

absl::Status Wrong(uint32_t bar, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("PCI spec: BAR ", bar, ": ", what));
}

constexpr absl::string_view kBarNames[pci::kBars] = {"bar0", "bar1", "bar2",
                                                     "bar3", "bar4", "bar5"};

// Constant bytes of configuration space.
class Image {
 public:
  explicit Image(size_t size) : bytes_(size) {}

  void Put(size_t at, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      bytes_[at + i] = static_cast<uint8_t>(value >> (8 * i));
    }
  }
  // Puts a capability at the end of the list.
  void Link(uint8_t at, uint8_t id) {
    bytes_[link_] = at;
    bytes_[at] = id;
    link_ = at + 1;
  }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
  size_t link_ = pci::kCapabilityPointer;
};

}  // namespace

PciSpec& PciSpec::Add(uint32_t bar, BarSpec spec) {
  if (bar >= pci::kBars) {
    error_.Update(Wrong(bar, "there are 0 to 5"));
  } else if (bars_[bar].kind != Kind::kNone) {
    error_.Update(Wrong(bar, "declared twice"));
  } else {
    bars_[bar] = std::move(spec);
  }
  return *this;
}

absl::Status PciSpec::CheckBar(uint32_t bar) const {
  const BarSpec& spec = bars_[bar];
  if (spec.kind == Kind::kRegisters) {
    RETURN_IF_ERROR(spec.file.Check(kBarNames[bar], bar));
  }
  if (spec.kind == Kind::kMemory &&
      (!IsPowerOfTwo(spec.size) || spec.size < 4096 ||
       spec.size > kMaxMemoryBar)) {
    return Wrong(
        bar, absl::StrCat(spec.size, " bytes are no power of two from 4096 to ",
                          kMaxMemoryBar));
  }
  return absl::OkStatus();
}

// Marks every byte that a capability takes: none takes another's.
absl::Status PciSpec::CheckVendorAt() const {
  std::array<bool, pci::kConfigSize> taken{};
  const auto take = [&](size_t from, size_t to) {
    for (size_t at = from; at < to; ++at) taken[at] = true;
  };
  take(0, pci::kPower);
  if (power_) take(pci::kPower, pci::kPower + 8);
  if (msi_vectors_ != 0) take(pci::kMsi, pci::kMsi + 24);
  if (msix_vectors_ != 0) take(pci::kMsix, pci::kMsix + 12);
  if (express_) take(pci::kExpress, pci::kExpress + pci::kExpressSize);
  if (VendorSize() != 0) take(pci::kVendor, pci::kVendor + 3 + VendorSize());
  for (const VendorCapability& capability : vendor_at_) {
    if (capability.at % 4 != 0 || capability.end() > pci::kConfigSize ||
        std::any_of(taken.begin() + capability.at,
                    taken.begin() + static_cast<ptrdiff_t>(capability.end()),
                    [](bool byte) { return byte; })) {
      return absl::InvalidArgumentError(absl::StrCat(
          "PCI spec: no vendor-specific capability of ",
          capability.bytes.size(), " bytes can be at ", capability.at));
    }
    take(capability.at, capability.end());
    for (const Register& reg : capability.registers) {
      if (reg.bar() != pci::kConfig || reg.offset() < capability.at + 3u ||
          uint64_t{reg.offset()} + reg.width() > capability.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("PCI spec: register ", reg.name(),
                         " is not in its vendor-specific capability"));
      }
    }
  }
  return absl::OkStatus();
}

bool PciSpec::IsVendorRegister(const Register& reg) const {
  for (const VendorCapability& capability : vendor_at_) {
    if (reg.bar() == pci::kConfig && reg.offset() >= capability.at &&
        reg.offset() < capability.end()) {
      return true;
    }
  }
  return false;
}

absl::StatusOr<PciSpec> PciSpec::Resolve() const {
  RETURN_IF_ERROR(error_);
  RETURN_IF_ERROR(schema_.status());
  if (msi_vectors_ > pci::kMaxMsiVectors ||
      (msi_vectors_ != 0 && !IsPowerOfTwo(msi_vectors_))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "PCI spec: ", msi_vectors_, " MSI vectors are no power of two up to ",
        pci::kMaxMsiVectors));
  }
  if (msix_vectors_ > pci::kMaxMsixVectors) {
    return absl::InvalidArgumentError(absl::StrCat("PCI spec: ", msix_vectors_,
                                                   " MSI-X vectors, limit is ",
                                                   pci::kMaxMsixVectors));
  }
  if (vendor_writable_ > pci::kMaxVendorBytes ||
      VendorSize() > pci::kMaxVendorBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "PCI spec: ", vendor_.size(), " and ", vendor_writable_,
        " vendor-specific bytes, limit is ", pci::kMaxVendorBytes));
  }
  if (work_threads_ == 0 || work_threads_ > kMaxWorks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "PCI spec: work on ", work_threads_, " threads, limit is ", kMaxWorks));
  }
  RETURN_IF_ERROR(CheckVendorAt());
  PciSpec resolved = *this;
  RETURN_IF_ERROR(resolved.areas_.Check("PCI spec"));
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    RETURN_IF_ERROR(resolved.CheckBar(bar));
    const Kind kind = resolved.bars_[bar].kind;
    if (resolved.bars_[bar].flags == kBar32 || kind == Kind::kUpperHalf) {
      continue;
    }
    if (bar + 1 == pci::kBars || resolved.bars_[bar + 1].kind != Kind::kNone) {
      return Wrong(bar, "64 bits need the next number, too");
    }
    resolved.bars_[bar + 1].kind = Kind::kUpperHalf;
  }
  if (msix_vectors_ == 0) return resolved;
  for (uint32_t bar = pci::kBars;
       resolved.msix_bar_ == pci::kBars && bar-- > 0;) {
    if (resolved.bars_[bar].kind == Kind::kNone) resolved.msix_bar_ = bar;
  }
  if (resolved.msix_bar_ >= pci::kBars ||
      resolved.bars_[resolved.msix_bar_].kind != Kind::kNone) {
    return Wrong(resolved.msix_bar_, "the MSI-X table needs a free BAR");
  }
  resolved.bars_[resolved.msix_bar_].kind = Kind::kMsix;
  return resolved;
}

uint64_t PciSpec::BarSize(uint32_t bar) const {
  switch (bars_[bar].kind) {
    case Kind::kRegisters:
      return bars_[bar].file.size();
    case Kind::kMemory:
      return bars_[bar].size;
    case Kind::kMsix:
      return 2 * pci::kMsixPendingOffset;
    case Kind::kNone:
    case Kind::kUpperHalf:
      break;
  }
  return 0;
}

std::vector<uint8_t> PciSpec::ConfigConstants() const {
  Image image(pci::kConfigSize);
  image.Put(0x00, id_.vendor, 2);
  image.Put(0x02, id_.device, 2);
  image.Put(0x08, id_.revision, 1);
  image.Put(0x09, id_.class_code, 3);
  image.Put(0x2c, id_.subsystem_vendor == 0 ? id_.vendor : id_.subsystem_vendor,
            2);
  image.Put(0x2e, id_.subsystem == 0 ? id_.device : id_.subsystem, 2);
  image.Put(pci::kInterruptPin, intx_ ? 1 : 0, 1);
  if (power_) {
    image.Link(pci::kPower, 0x01);
    image.Put(pci::kPower + 2, 0x0003, 2);
  }
  if (msi_vectors_ != 0) image.Link(pci::kMsi, 0x05);
  if (msix_vectors_ != 0) {
    image.Link(pci::kMsix, 0x11);
    image.Put(pci::kMsix + 4, msix_bar_, 4);
    image.Put(pci::kMsix + 8, pci::kMsixPendingOffset | msix_bar_, 4);
  }
  if (express_) {
    image.Link(pci::kExpress, 0x10);
    image.Put(pci::kExpress + 2, 0x0002, 2);
    image.Put(pci::kExpress + 4, 1u << 28 | 1u << 15, 4);  // FLR, role-based.
    image.Put(pci::kExpress + 12, 0x0011, 4);              // 2.5 GT/s, x1.
    image.Put(pci::kExpress + 18, 0x0011, 2);
  }
  if (VendorSize() != 0) {
    image.Link(pci::kVendor, 0x09);
    image.Put(pci::kVendor + 2, VendorSize() + 3, 1);
    for (size_t i = 0; i < vendor_.size(); ++i) {
      image.Put(pci::kVendor + 3 + i, vendor_[i], 1);
    }
  }
  for (const VendorCapability& capability : vendor_at_) {
    image.Link(capability.at, 0x09);
    image.Put(capability.at + 2u, capability.end() - capability.at, 1);
    for (size_t i = 0; i < capability.bytes.size(); ++i) {
      image.Put(capability.at + 3 + i, capability.bytes[i], 1);
    }
  }
  return image.Take();
}

void PciSpec::AddBars(std::vector<Register>& registers) const {
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    // The bits of the address that the guest chooses; what it writes elsewhere
    // is dropped, which tells it the size.
    uint64_t address = ~(BarSize(bar) - 1);
    uint32_t reset = 0;
    if (bars_[bar].kind == Kind::kNone) continue;
    if (bars_[bar].kind == Kind::kUpperHalf) {
      address = ~(BarSize(bar - 1) - 1) >> 32;
    } else if (bars_[bar].flags != kBar32) {
      reset = bars_[bar].flags == kBar64 ? 0x4 : 0xc;
    }
    registers.push_back(
        Reg32{kBarNames[bar], pci::kFirstBar + 4 * bar, kReadOnly, reset}
            .Bits(kReadWrite, static_cast<uint32_t>(address))
            .InBar(pci::kConfig));
  }
}

void PciSpec::AddCapabilities(std::vector<Register>& registers) const {
  const auto add = [&registers](std::initializer_list<Register> more) {
    registers.insert(registers.end(), more);
  };
  if (power_) add({pci::kPowerControl});
  if (msi_vectors_ != 0) {
    uint16_t log2 = 0;
    while (1u << log2 < msi_vectors_) ++log2;
    const auto control =
        static_cast<uint16_t>(pci::kMsiControl.reset() | log2 << 1);
    // Of vectors that are not there it is reserved.
    const auto masks = static_cast<uint32_t>((uint64_t{1} << msi_vectors_) - 1);
    add({pci::kMsiControl.Reset(control), pci::kMsiAddress,
         pci::kMsiAddressHigh, pci::kMsiData,
         pci::kMsiMask.Bits(kReadWrite, masks), pci::kMsiPending});
  }
  if (msix_vectors_ != 0) {
    const auto last = static_cast<uint16_t>(msix_vectors_ - 1);
    add({pci::kMsixControl.Reset(last)});
  }
  if (express_) {
    add({pci::kExpressControl, pci::kExpressStatus, pci::kLinkControl});
  }
  if (vendor_writable_ != 0) {
    const auto at = static_cast<uint32_t>(pci::kVendor + 3 + vendor_.size());
    add({Reg8{"vendor", at, kReadWrite}
             .Array(static_cast<uint32_t>(vendor_writable_))
             .InBar(pci::kConfig)});
  }
  for (const VendorCapability& capability : vendor_at_) {
    registers.insert(registers.end(), capability.registers.begin(),
                     capability.registers.end());
  }
}

RegisterFile PciSpec::ConfigFile() const {
  const std::vector<uint8_t> constants = ConfigConstants();
  const bool list = constants[pci::kCapabilityPointer] != 0;
  std::vector<Register> registers = {
      pci::kCommand, pci::kStatus.Reset(list ? pci::kStatusCapabilities : 0),
      pci::kCacheLine, pci::kInterruptLine};
  AddBars(registers);
  AddCapabilities(registers);
  return RegisterFile(std::move(registers))
      .Size(express_ ? pci::kExpressConfigSize : pci::kConfigSize)
      .Background(constants);
}

MsixRegisters::MsixRegisters(uint32_t vectors, uint32_t bar)
    : address(Reg32{"address", 0, kReadOnly}
                  .Bits(kReadWrite, 0xfffffffc)
                  .Array(vectors, 16)
                  .InBar(bar)),
      address_high(
          Reg32{"address_high", 4, kReadWrite}.Array(vectors, 16).InBar(bar)),
      data(Reg32{"data", 8, kReadWrite}.Array(vectors, 16).InBar(bar)),
      control(Reg32{"control", 12, kReadOnly, 1}
                  .Bits(kReadWrite, 1)
                  .Array(vectors, 16)
                  .InBar(bar)),
      pending(Reg64{"pending", pci::kMsixPendingOffset, kReadOnly}
                  .Array((vectors + 63) / 64)
                  .InBar(bar)) {}

RegisterFile PciSpec::MsixFile() const {
  const MsixRegisters table(msix_vectors_, msix_bar_);
  return RegisterFile({table.address, table.address_high, table.data,
                       table.control, table.pending})
      .Size(BarSize(msix_bar_));
}

}  // namespace holdfast

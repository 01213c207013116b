#ifndef HOLDFAST_DEVICES_BUS_PCI_SPEC_H_
#define HOLDFAST_DEVICES_BUS_PCI_SPEC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/bus/areas.h"
#include "devices/bus/device_spec.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/registers.h"
#include "statestore/cell.h"
#include "statestore/schema.h"

namespace holdfast {

// Who a PCI function says it is.
struct PciId {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint8_t revision = 0;
  uint32_t class_code = 0xff0000;  // Class, subclass, interface: 24 bits.
  uint16_t subsystem_vendor = 0;   // 0: as vendor.
  uint16_t subsystem = 0;          // 0: as device.
};

// How the guest may place a BAR. A 64-bit BAR takes the next number, too.
enum class BarFlags : uint8_t {
  kBar32 = 0,
  kBar64 = 1,
  kBar64Prefetchable = 3
};
inline constexpr BarFlags kBar32 = BarFlags::kBar32;
inline constexpr BarFlags kBar64 = BarFlags::kBar64;
inline constexpr BarFlags kBar64Prefetchable = BarFlags::kBar64Prefetchable;

struct BarSpec {
  enum class Kind : uint8_t { kNone, kRegisters, kMemory, kMsix, kUpperHalf };
  Kind kind = Kind::kNone;
  BarFlags flags = kBar32;
  RegisterFile file{};  // kRegisters.
  uint64_t size = 0;    // Bytes; of kMemory.
};

// What a PCI function is, as data: the framework prints, versions, compares and
// serves it. Built once at start.
class PciSpec {
 public:
  // Reason: memory BARs are locked into memory, with the segment.
  static constexpr uint64_t kMaxMemoryBar = uint64_t{1} << 30;

  explicit PciSpec(PciId id) : id_(id) {}

  // Registers; their values are state, and each access is a transaction.
  PciSpec& Bar(uint32_t bar, RegisterFile file, BarFlags flags = kBar32) {
    return Add(bar, {BarSpec::Kind::kRegisters, flags, std::move(file), 0});
  }
  // Memory that device and guest share, a power of two from 4096 on. It
  // survives as state does; writing it is no transaction.
  PciSpec& MemoryBar(uint32_t bar, uint64_t size, BarFlags flags = kBar32) {
    return Add(bar, {BarSpec::Kind::kMemory, flags, {}, size});
  }
  // A legacy interrupt, pin A.
  PciSpec& Intx() {
    intx_ = true;
    return *this;
  }
  // Message interrupts: a power of two up to 32.
  PciSpec& Msi(uint32_t vectors) {
    msi_vectors_ = vectors;
    return *this;
  }
  // Up to kMaxMsixVectors. By default the table is in the highest free BAR.
  PciSpec& Msix(uint32_t vectors, uint32_t bar = pci::kBars) {
    msix_vectors_ = vectors;
    msix_bar_ = bar;
    return *this;
  }
  PciSpec& PowerManagement() {
    power_ = true;
    return *this;
  }
  // PCI Express endpoint, with function level reset.
  PciSpec& Express() {
    express_ = true;
    return *this;
  }
  // A vendor-specific capability: after its header these bytes, then `writable`
  // bytes that begin as zeros and are the guest's to write.
  PciSpec& Vendor(std::vector<uint8_t> bytes, size_t writable = 0) {
    vendor_ = std::move(bytes);
    vendor_writable_ = writable;
    return *this;
  }
  // A vendor-specific capability at a place of its own: a multiple of 4 from 64
  // on, where no other capability is. Its registers are of configuration space,
  // `at` and more from its beginning; the device sees their accesses.
  PciSpec& VendorAt(uint8_t at, std::vector<uint8_t> bytes,
                    std::vector<Register> registers = {}) {
    vendor_at_.push_back({at, std::move(bytes), std::move(registers)});
    return *this;
  }
  PciSpec& Resource(std::string name, std::string help) {
    resources_.push_back({std::move(name), std::move(help)});
    return *this;
  }
  // Pins what a guest can see. A device serves every version up to this one.
  PciSpec& CompatVersion(uint32_t version) {
    compat_version_ = version;
    return *this;
  }
  // The device's durable state beside its registers; see statestore/cell.h.
  template <typename S>
  PciSpec& State() {
    return StateSchema(DescribeState<S>());
  }
  PciSpec& StateSchema(absl::StatusOr<Schema> schema) {
    schema_ = std::move(schema);
    return *this;
  }

  // `size` bytes of the segment for what is too large or too hot for
  // transactions: queues, tables of what is in flight. Zeros in a new segment;
  // a reset does not touch them, so let state say what of them is valid.
  // RegionContext::Area gives them, and says what is promised.
  PciSpec& Area(std::string name, uint32_t size) {
    areas_.Add(std::move(name), size);
    return *this;
  }
  // On how many threads OnWork may run: different work beside one another, the
  // same work never. What it finds shared is then the device's to lock.
  PciSpec& WorkThreads(uint32_t threads) {
    work_threads_ = threads;
    return *this;
  }

  const PciId& id() const { return id_; }
  const BarSpec& bar(uint32_t bar) const { return bars_[bar]; }
  bool intx() const { return intx_; }
  uint32_t msi_vectors() const { return msi_vectors_; }
  uint32_t msix_vectors() const { return msix_vectors_; }
  bool express() const { return express_; }
  bool power() const { return power_; }
  const std::vector<ResourceSpec>& resources() const { return resources_; }
  uint32_t compat_version() const { return compat_version_; }
  const absl::StatusOr<Schema>& schema() const { return schema_; }
  const Areas& areas() const { return areas_; }
  uint32_t work_threads() const { return work_threads_; }

  // The spec with all that is left to the framework decided: where the MSI-X
  // table is, and which numbers upper halves take. INVALID_ARGUMENT names what
  // breaks a rule of this header.
  absl::StatusOr<PciSpec> Resolve() const;

  // Whether a register of configuration space is one of a VendorAt.
  bool IsVendorRegister(const Register& reg) const;

  // Of a resolved spec.
  // Bytes; 0: no such BAR.
  uint64_t BarSize(uint32_t bar) const;
  uint32_t msix_bar() const { return msix_bar_; }
  // Configuration space, as registers on a background of constants.
  RegisterFile ConfigFile() const;
  // The BAR of the MSI-X table and pending bits.
  RegisterFile MsixFile() const;

 private:
  struct VendorCapability {
    uint8_t at;
    std::vector<uint8_t> bytes;  // After the header.
    std::vector<Register> registers;
    size_t end() const { return at + 3 + bytes.size(); }
  };

  PciSpec& Add(uint32_t bar, BarSpec spec);
  absl::Status CheckBar(uint32_t bar) const;
  absl::Status CheckVendorAt() const;
  std::vector<uint8_t> ConfigConstants() const;
  void AddBars(std::vector<Register>& registers) const;
  void AddCapabilities(std::vector<Register>& registers) const;
  size_t VendorSize() const { return vendor_.size() + vendor_writable_; }

  PciId id_;
  std::array<BarSpec, pci::kBars> bars_;
  absl::Status error_;  // The first mistake of the builder's caller.
  bool intx_ = false;
  bool power_ = false;
  bool express_ = false;
  uint32_t msi_vectors_ = 0;
  uint32_t msix_vectors_ = 0;
  uint32_t msix_bar_ = pci::kBars;
  std::vector<uint8_t> vendor_;
  size_t vendor_writable_ = 0;
  std::vector<VendorCapability> vendor_at_;
  std::vector<ResourceSpec> resources_;
  Areas areas_;
  uint32_t work_threads_ = 1;
  uint32_t compat_version_ = 1;
  absl::StatusOr<Schema> schema_ = DescribeState<NoState>();
};

// The registers of an MSI-X table in BAR `bar`.
struct MsixRegisters {
  MsixRegisters(uint32_t vectors, uint32_t bar);
  Reg32 address;
  Reg32 address_high;
  Reg32 data;
  Reg32 control;  // Bit 0: masked.
  Reg64 pending;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PCI_SPEC_H_

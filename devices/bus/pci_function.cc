#include "devices/bus/pci_function.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {

PciFunction::PciFunction(PciState state, PciServices services)
    : state_(std::move(state)),
      services_(std::move(services)),
      dma_(*services_.dma, [this] { return MayTransfer(); }) {
  work_.SetBank(*state_.bank(pci::kInternal));
  Describe();
}

PciFunction::~PciFunction() = default;

void PciFunction::Describe() {
  const PciSpec& spec = state_.spec();
  regions_.resize(kPciRegionCount);
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    RegionInfo& region = regions_[bar];
    region.size = spec.BarSize(bar);
    region.readable = region.writable = region.size != 0;
    if (spec.bar(bar).kind == BarSpec::Kind::kMemory &&
        services_.memory[bar].fd.valid()) {
      region.windows = {{0, region.size}};
    }
  }
  regions_[kPciConfigRegion] = {
      state_.bank(pci::kConfig)->size(), true, true, {}};
  irqs_.resize(kPciIrqCount);
  irqs_[kPciIntxIrq] = {spec.intx() ? 1u : 0u, /*level=*/true};
  irqs_[kPciMsiIrq].count = spec.msi_vectors();
  irqs_[kPciMsixIrq].count = spec.msix_vectors();
  // Nothing signals it. A VMM warns of a function that could not.
  irqs_[kPciErrorIrq].count = 1;
}

absl::StatusOr<std::unique_ptr<PciFunction>> PciFunction::Create(
    PciState state, const Schema& stored, PciServices services,
    const MakeDevice& make) {
  if (services.irqs == nullptr || services.dma == nullptr) {
    return absl::InvalidArgumentError("PCI: no interrupts or no DMA given");
  }
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    const bool memory = state.spec().bar(bar).kind == BarSpec::Kind::kMemory;
    const uint64_t wanted = memory ? state.spec().BarSize(bar) : 0;
    if (services.memory[bar].bytes.size() != wanted) {
      return absl::InvalidArgumentError(absl::StrCat(
          "PCI: memory of BAR ", bar, ": ", services.memory[bar].bytes.size(),
          " bytes given, ", wanted, " wanted"));
    }
  }
  RETURN_IF_ERROR(state.Bind(stored));
  std::unique_ptr<PciFunction> function(
      new PciFunction(std::move(state), std::move(services)));
  function->schema_ = stored;
  ASSIGN_OR_RETURN(function->device_, make(*function));
  return function;
}

absl::Status PciFunction::Start(StateBank& bank, absl::Span<uint8_t> areas) {
  RETURN_IF_ERROR(state_.spec().areas().CheckMemory("PCI", areas));
  keeper_.TakeOver(*state_.bank(pci::kInternal), bank, [this, areas] {
    areas_ = areas;
    device_->OnTakeOver();
  });
  return Transact(
      [this](StateTxn& txn) {
        keeper_.MakeReady(txn, [&] { ResetIn(txn); });
        LookAgain(txn);
        return absl::OkStatus();
      },
      Routes::kChanged);
}

// One transaction, and what follows its commit.
absl::Status PciFunction::Transact(Change change, Routes routes) {
  const bool has_table = services_.irqs->has_vector_table();
  PciSignals fresh = {};
  PciSignals ready = {};
  WorkKeeper::View work;
  bool masters_bus = false;
  bool intx = false;
  bool same = false;  // As what the last transaction made known.
  return keeper_.Transact(
      [&](StateTxn& txn) -> absl::Status {
        RETURN_IF_ERROR(change(txn));
        same = !txn.dirty() && routes == Routes::kSame;
        if (same) return absl::OkStatus();
        if (txn.dirty()) {
          fresh = RouteInterrupts(state_, txn, /*sent=*/keeper_.resumed(),
                                  has_table);
        }
        work = work_.Look(txn);
        masters_bus = MastersBus(state_, txn);
        intx = state_.Get(txn, pci::kIntxLevel) != 0;
        if (routes == Routes::kChanged && keeper_.resumed()) {
          ready = ReadyMsix(state_, txn, has_table);
        }
        return absl::OkStatus();
      },
      [&] {
        if (same) return;
        if (routes == Routes::kChanged) PublishReady(ready);
        masters_bus_.store(masters_bus);
        intx_.store(intx);
        work_.Publish(work);
        Signal(fresh, *services_.irqs);
      });
}

void PciFunction::PublishReady(const PciSignals& ready) {
  std::unique_lock<std::shared_mutex> lock(ready_mutex_, std::defer_lock);
  if (!services_.irqs->has_vector_table()) lock.lock();
  for (size_t i = 0; i < ready.size(); ++i) ready_[i].store(ready[i]);
}

bool PciFunction::SignalMsix(uint32_t vector) {
  if (vector >= state_.spec().msix_vectors()) return false;
  std::shared_lock<std::shared_mutex> lock(ready_mutex_, std::defer_lock);
  if (!services_.irqs->has_vector_table()) lock.lock();
  const uint64_t ready = ready_[1 + vector / 64].load();
  if ((ready >> (vector % 64) & 1) == 0 || work_.CutOff()) return false;
  services_.irqs->Signal(kPciMsixIrq, vector);
  return true;
}

absl::Status PciFunction::CheckRange(uint32_t region, uint64_t offset,
                                     uint64_t size) const {
  RETURN_IF_ERROR(keeper_.CheckRange(regions_, region, offset, size));
  // Configuration space has no side effects on reads, so nothing of them needs
  // to be kept.
  const bool limited =
      region != kPciConfigRegion && state_.bank(region) != nullptr;
  return limited ? keeper_.CheckSize(size) : absl::OkStatus();
}

absl::Status PciFunction::Read(AccessId id, uint32_t region, uint64_t offset,
                               absl::Span<uint8_t> out) {
  RETURN_IF_ERROR(CheckRange(region, offset, out.size()));
  if (out.empty()) return absl::OkStatus();
  const RegisterBank* bank = state_.bank(region);
  if (bank == nullptr) {
    std::memcpy(out.data(), services_.memory[region].bytes.data() + offset,
                out.size());
    return absl::OkStatus();
  }
  return Transact([&](StateTxn& txn) {
    return keeper_.Read(txn, id, out, [&] {
      PciTxn pci_txn(state_, txn);
      return bank->Read(txn, offset, out, [&](const RegRead& read) {
        // Who reads all of configuration space wants no side effects.
        return IsDevices(read.reg()) && out.size() <= access::kMaxSize
                   ? keeper_.Blame(device_->OnRead(read, pci_txn))
                   : absl::OkStatus();
      });
    });
  });
}

absl::Status PciFunction::Write(AccessId id, uint32_t region, uint64_t offset,
                                absl::Span<const uint8_t> bytes) {
  RETURN_IF_ERROR(CheckRange(region, offset, bytes.size()));
  if (bytes.empty()) return absl::OkStatus();
  const RegisterBank* bank = state_.bank(region);
  if (bank == nullptr) {
    std::memcpy(services_.memory[region].bytes.data() + offset, bytes.data(),
                bytes.size());
    return absl::OkStatus();
  }
  const Routes routes =
      region == kPciConfigRegion || region == state_.spec().msix_bar()
          ? Routes::kChanged
          : Routes::kSame;
  return Transact(
      [&](StateTxn& txn) {
        return keeper_.Write(txn, id, [&] {
          PciTxn pci_txn(state_, txn);
          return bank->Write(txn, offset, bytes, [&](const RegWrite& write) {
            return IsDevices(write.reg())
                       ? keeper_.Blame(device_->OnWrite(write, pci_txn))
                       : OnConfigWrite(write, txn);
          });
        });
      },
      routes);
}

// Whether its accesses are the device's business.
bool PciFunction::IsDevices(const Register& reg) const {
  return reg.bar() == kPciConfigRegion ? state_.spec().IsVendorRegister(reg)
                                       : reg.bar() != state_.spec().msix_bar();
}

absl::Status PciFunction::OnConfigWrite(const RegWrite& write, StateTxn& txn) {
  if (write.Is(pci::kExpressControl) &&
      (write.written() & pci::kFunctionReset) != 0) {
    ResetIn(txn);
  }
  return absl::OkStatus();
}

void PciFunction::LookAgain(StateTxn& txn) {
  PciTxn pci_txn(state_, txn);
  device_->OnResourceChanged(pci_txn);
}

absl::Status PciFunction::ResourceChanged() {
  return Transact([this](StateTxn& txn) {
    LookAgain(txn);
    return absl::OkStatus();
  });
}

void PciFunction::ResetIn(StateTxn& txn) {
  state_.Reset(txn);
  work_.Reset(txn);
  PciTxn pci_txn(state_, txn);
  device_->OnReset(pci_txn);
}

absl::Status PciFunction::Reset() {
  RETURN_IF_ERROR(Transact(
      [this](StateTxn& txn) {
        ResetIn(txn);
        return absl::OkStatus();
      },
      Routes::kChanged));
  if (work_.active()) {
    return absl::UnavailableError("PCI: work is being cut off");
  }
  return absl::OkStatus();
}

void PciFunction::OnUnmask(uint32_t irq, uint32_t vector) {
  if (irq == kPciIntxIrq && vector == 0 && intx_.load()) {
    services_.irqs->Signal(kPciIntxIrq, 0);
  }
}

absl::Status PciFunction::Resume() {
  PciSignals unsent = {};
  bool intx = false;
  RETURN_IF_ERROR(Transact([&](StateTxn& txn) {
    unsent = UnsentInterrupts(state_, txn);
    intx = state_.Get(txn, pci::kIntxLevel) != 0;
    return absl::OkStatus();
  }));
  // A level that is asserted may have been masked and unmasked meanwhile.
  if (intx) unsent[0] |= 1;
  Signal(unsent, *services_.irqs);
  keeper_.SetResumed();
  return Transact([](StateTxn&) { return absl::OkStatus(); }, Routes::kChanged);
}

absl::Status PciFunction::MayTransfer() const {
  if (masters_bus_.load() && !work_.CutOff()) return absl::OkStatus();
  return absl::UnavailableError(
      "PCI: the driver has not enabled the function as a bus master, or has "
      "reset it");
}

absl::Status PciFunction::RunWork() {
  return work_.Run([this](Change change) { return Transact(change); },
                   [this](uint32_t work) {
                     return keeper_.Blame(device_->OnWork(work, *this));
                   });
}

void PciFunction::OnWorkCrash() {
  const uint32_t work = work_.Current();
  if (work != kMaxWorks) device_->OnCrash(work);
}

absl::Status PciFunction::Update(
    absl::FunctionRef<absl::Status(PciTxn&)> change) {
  return Transact([&](StateTxn& txn) -> absl::Status {
    RETURN_IF_ERROR(work_.CheckNotCutOff(txn));
    PciTxn pci_txn(state_, txn);
    return change(pci_txn);
  });
}

absl::Span<uint8_t> PciFunction::Area(absl::string_view name) const {
  return state_.spec().areas().Find(name, areas_);
}

absl::Span<uint8_t> PciFunction::BarMemory(uint32_t bar) const {
  return bar < services_.memory.size() ? services_.memory[bar].bytes
                                       : absl::Span<uint8_t>();
}

BorrowedFd PciFunction::RegionMemory(uint32_t region) const {
  return region < services_.memory.size() ? services_.memory[region].fd
                                          : BorrowedFd(-1);
}

}  // namespace holdfast

#include "devices/bus/pci_function.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

constexpr uint32_t kNoWork = 64;

}  // namespace

class PciFunction::MasterDma final : public Dma {
 public:
  explicit MasterDma(const PciFunction& function) : function_(function) {}

  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    RETURN_IF_ERROR(MayTransfer());
    return function_.services_.dma->Read(address, out);
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    RETURN_IF_ERROR(MayTransfer());
    return function_.services_.dma->Write(address, bytes);
  }
  absl::StatusOr<DmaMapping> Map(GuestAddress address, uint64_t size,
                                 DmaAccess access) override {
    RETURN_IF_ERROR(MayTransfer());
    return function_.services_.dma->Map(address, size, access);
  }
  void Written(GuestAddress address, uint64_t size) override {
    function_.services_.dma->Written(address, size);
  }

 private:
  absl::Status MayTransfer() const {
    if (function_.masters_bus_.load() && !function_.CutOff()) {
      return absl::OkStatus();
    }
    return absl::UnavailableError(
        "PCI: the driver has not enabled the "
        "function as a bus master, or has reset it");
  }

  const PciFunction& function_;
};

PciFunction::PciFunction(PciState state, PciServices services)
    : state_(std::move(state)), services_(std::move(services)) {
  Describe();
}

PciFunction::~PciFunction() = default;

thread_local const PciFunction::Working* PciFunction::working_ = nullptr;

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
  function->dma_ = std::make_unique<MasterDma>(*function);
  ASSIGN_OR_RETURN(function->device_, make(*function));
  return function;
}

absl::Status PciFunction::Start(StateBank& bank, absl::Span<uint8_t> areas) {
  const bool aligned = reinterpret_cast<uintptr_t>(areas.data()) % 64 == 0;
  if (areas.size() != state_.spec().areas_size() ||
      (!areas.empty() && !aligned)) {
    return absl::InvalidArgumentError(
        absl::StrCat("PCI: areas: ", areas.size(), " bytes given, ",
                     state_.spec().areas_size(), " wanted, or misaligned"));
  }
  keeper_.TakeOver(*state_.bank(pci::kInternal), bank, [this, areas] {
    areas_ = areas;
    device_->OnTakeOver();
  });
  return Transact(
      [this](StateTxn& txn) {
        keeper_.MakeReady(txn, [&] { ResetIn(txn); });
        return absl::OkStatus();
      },
      Routes::kChanged);
}

// One transaction, and what follows its commit.
absl::Status PciFunction::Transact(Change change, Routes routes) {
  const bool has_table = services_.irqs->has_vector_table();
  PciSignals fresh = {};
  PciSignals ready = {};
  uint64_t work = 0;
  uint64_t resets = 0;
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
        work = state_.Get(txn, pci::kWorkOrdered) |
               state_.Get(txn, pci::kWorkRunning);
        resets = state_.Get(txn, pci::kResets);
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
        resets_.store(resets);
        masters_bus_.store(masters_bus);
        intx_.store(intx);
        work_.store(work);
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
  if ((ready >> (vector % 64) & 1) == 0 || CutOff()) return false;
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

void PciFunction::ResetIn(StateTxn& txn) {
  state_.Reset(txn);
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
  if (active_.load() != 0) {
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

// Whether the guest has reset the function since the calling thread began the
// work that it does.
bool PciFunction::CutOff() const {
  return working_ != nullptr && working_->function == this &&
         working_->began_at != resets_.load();
}

// Leaves working->work at kNoWork if there is none.
absl::Status PciFunction::BeginWork(Working* working) {
  uint64_t bit = 0;
  const absl::Status begun = Transact([&](StateTxn& txn) {
    const uint64_t active = active_.load();
    const uint64_t ordered = state_.Get(txn, pci::kWorkOrdered);
    const uint64_t running = state_.Get(txn, pci::kWorkRunning);
    // What a predecessor had begun comes first.
    const uint64_t left = running & ~active;
    const uint64_t fresh = left != 0 ? left : ordered & ~active;
    const uint64_t from = fresh != 0 ? fresh : called_.load() & ~active;
    if (from == 0) return absl::OkStatus();
    working->work = static_cast<uint32_t>(__builtin_ctzll(from));
    working->began_at = state_.Get(txn, pci::kResets);
    bit = uint64_t{1} << working->work;
    called_.fetch_and(~bit);
    if (left == 0 && fresh != 0) {
      state_.Set(txn, pci::kWorkOrdered, ordered & ~bit);
      state_.Set(txn, pci::kWorkRunning, running | bit);
    }
    active_.fetch_or(bit);
    return absl::OkStatus();
  });
  if (!begun.ok()) {
    active_.fetch_and(~bit);
    called_.store(0);
  }
  return begun;
}

absl::Status PciFunction::RunWork() {
  Working working = {this, kNoWork, 0};
  RETURN_IF_ERROR(BeginWork(&working));
  if (working.work == kNoWork) return absl::OkStatus();
  if (caller_ != nullptr && work_pending()) caller_->CallThread();
  const Working* const outer = std::exchange(working_, &working);
  const absl::Status done = keeper_.Blame(device_->OnWork(working.work, *this));
  const absl::Status ended = Update([&working](PciTxn& txn) {
    txn.Done(working.work);
    return absl::OkStatus();
  });
  working_ = outer;
  active_.fetch_and(~(uint64_t{1} << working.work));
  if (!ended.ok() && !absl::IsCancelled(ended)) return ended;
  return absl::IsCancelled(ended) ? absl::OkStatus() : done;
}

void PciFunction::OnWorkCrash() {
  if (working_ == nullptr || working_->function != this) return;
  device_->OnCrash(working_->work);
}

absl::Status PciFunction::Update(
    absl::FunctionRef<absl::Status(PciTxn&)> change) {
  return Transact([&](StateTxn& txn) -> absl::Status {
    if (working_ != nullptr && working_->function == this &&
        working_->began_at != state_.Get(txn, pci::kResets)) {
      return absl::CancelledError("PCI: the function was reset");
    }
    PciTxn pci_txn(state_, txn);
    return change(pci_txn);
  });
}

void PciFunction::CallIn(uint64_t works) {
  uint64_t called = called_.load();
  for (;;) {
    const uint64_t idle = works & ~(called | active_.load());
    if (idle == 0) return;
    if (called_.compare_exchange_weak(called, called | (idle & -idle))) break;
  }
  if (caller_ != nullptr) caller_->CallThread();
}

void PciFunction::CallAll(uint64_t works) {
  called_.fetch_or(works);
  if (caller_ != nullptr) caller_->CallThread();
}

Dma& PciFunction::dma() { return *dma_; }

absl::Span<uint8_t> PciFunction::Area(absl::string_view name) const {
  for (const AreaSpec& area : state_.spec().areas()) {
    if (area.name == name && !areas_.empty()) {
      return areas_.subspan(area.offset, area.size);
    }
  }
  return {};
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

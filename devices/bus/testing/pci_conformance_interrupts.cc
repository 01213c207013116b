// Interrupts: held back while anything holds them back, pending meanwhile, and
// then signalled once. The device under test is made to raise them.
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "devices/bus/pci_device.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/testing/pci_conformance.h"
#include "devices/bus/testing/pci_prober.h"

namespace holdfast::testing {
namespace {

// A device whose context a test can get at.
class Raiser {
 public:
  explicit Raiser(const PciClass& device)
      : prober_(Exposed(device, &context_)) {}

  PciProber& prober() { return prober_; }
  PciGuest& guest() { return prober_.guest(); }
  template <typename Change>
  void Do(Change change) {
    const absl::Status status = context_->Update([&](PciTxn& txn) {
      change(txn);
      return absl::OkStatus();
    });
    prober_.Expect(status.ok(), "interrupting fails: ", status.ToString());
  }
  // The device signals nothing by itself meanwhile.
  void Expect(const char* when, uint32_t irq, uint32_t vector, uint64_t want) {
    const uint64_t got = guest().signals(irq, vector) - base_;
    prober_.Expect(got == want, "interrupt ", irq, "/", vector, " ", when,
                   ": signalled ", got, " times instead of ", want);
  }
  void CountFrom(uint32_t irq, uint32_t vector) {
    base_ = guest().signals(irq, vector);
  }

 private:
  static PciClass Exposed(const PciClass& device, PciContext** context) {
    PciClass exposed = device;
    exposed.make = [make = device.make, context](PciContext& given) {
      *context = &given;
      return make(given);
    };
    return exposed;
  }

  PciContext* context_ = nullptr;
  PciProber prober_;
  uint64_t base_ = 0;
};

void SetCommand(Raiser& raiser, uint64_t bits) {
  raiser.prober().SetConfig(pci::kCommand.offset(), bits, 2);
}

bool MsixPending(Raiser& raiser, uint32_t vector) {
  uint64_t word = 0;
  (void)raiser.prober().Read(raiser.prober().spec().msix_bar(),
                             pci::kMsixPendingOffset + vector / 64 * 8,
                             {reinterpret_cast<uint8_t*>(&word), 8});
  return (word >> vector % 64 & 1) != 0;
}

void MaskMsix(Raiser& raiser, uint32_t vector, bool masked) {
  const uint64_t value = masked ? 1 : 0;
  (void)raiser.prober().Write(raiser.prober().spec().msix_bar(),
                              16 * vector + 12,
                              {reinterpret_cast<const uint8_t*>(&value), 4});
}

// PCI Local Bus 3.0, 6.8.2.
void CheckMsixVector(Raiser& raiser, uint32_t vector) {
  PciProber& prober = raiser.prober();
  const auto control = [&](uint64_t bits) {
    prober.SetConfig(pci::kMsixControl.offset(), bits, 2);
  };
  const auto raise = [&] {
    raiser.Do([&](PciTxn& txn) { txn.RaiseMsix(vector); });
  };
  const auto expect = [&](const char* when, uint64_t want, bool pending) {
    raiser.Expect(when, kPciMsixIrq, vector, want);
    prober.Expect(MsixPending(raiser, vector) == pending, "MSI-X vector ",
                  vector, " ", when, ": pending is ", !pending);
  };
  SetCommand(raiser, 0);
  control(0);
  MaskMsix(raiser, vector, true);
  raiser.CountFrom(kPciMsixIrq, vector);
  raise();
  expect("while all is off", 0, true);
  SetCommand(raiser, pci::kCommandMaster);
  expect("while disabled", 0, true);
  control(pci::kMsixEnable | pci::kMsixMaskAll);
  MaskMsix(raiser, vector, false);
  expect("while the function is masked", 0, true);
  MaskMsix(raiser, vector, true);
  control(pci::kMsixEnable);
  expect("while masked", 0, true);
  raiser.guest().Restart();
  expect("while masked, of a successor", 0, true);
  MaskMsix(raiser, vector, false);
  expect("unmasked", 1, false);
  raise();
  expect("enabled", 2, false);
  MaskMsix(raiser, vector, true);
  raise();
  raise();
  expect("masked again", 2, true);
  MaskMsix(raiser, vector, false);
  expect("unmasked again", 3, false);
  SetCommand(raiser, 0);
  raise();
  expect("of a function that is no bus master", 3, true);
  SetCommand(raiser, pci::kCommandMaster);
  expect("of a bus master again", 4, false);
  control(0);
}

// PCI Local Bus 3.0, 6.8.1.
void CheckMsi(Raiser& raiser) {
  PciProber& prober = raiser.prober();
  const uint32_t vector = prober.spec().msi_vectors() - 1;
  const uint64_t all = prober.Config(pci::kMsiControl.offset(), 2) >> 1 & 7;
  const auto raise = [&] {
    raiser.Do([&](PciTxn& txn) { txn.RaiseMsi(vector); });
  };
  const auto expect = [&](const char* when, uint64_t want, bool pending) {
    raiser.Expect(when, kPciMsiIrq, vector, want);
    const uint64_t bits = prober.Config(pci::kMsiPending.offset(), 4);
    prober.Expect((bits >> vector & 1) == (pending ? 1 : 0), "MSI vector ",
                  vector, " ", when, ": pending is ", !pending);
  };
  SetCommand(raiser, pci::kCommandMaster);
  raiser.CountFrom(kPciMsiIrq, vector);
  raise();
  expect("while disabled", 0, true);
  prober.SetConfig(pci::kMsiMask.offset(), 1u << vector, 4);
  prober.SetConfig(pci::kMsiControl.offset(), pci::kMsiEnable | all << 4, 2);
  expect("while masked", 0, true);
  raiser.guest().Restart();
  expect("while masked, of a successor", 0, true);
  prober.SetConfig(pci::kMsiMask.offset(), 0, 4);
  expect("unmasked", 1, false);
  SetCommand(raiser, 0);
  raise();
  expect("of a function that is no bus master", 1, true);
  SetCommand(raiser, pci::kCommandMaster);
  expect("of a bus master again", 2, false);
  prober.SetConfig(pci::kMsiControl.offset(), 0, 2);
}

// PCI Local Bus 3.0, 6.2.2 and 6.2.3.
void CheckIntx(Raiser& raiser) {
  PciProber& prober = raiser.prober();
  const auto set = [&](bool level) {
    raiser.Do([&](PciTxn& txn) { txn.SetIntx(level); });
  };
  const auto expect = [&](const char* when, uint64_t want, bool status) {
    raiser.Expect(when, kPciIntxIrq, 0, want);
    prober.Expect(
        (prober.Config(pci::kStatus.offset(), 2) >> 3 & 1) == (status ? 1 : 0),
        "INTx ", when, ": its status is ", !status);
  };
  SetCommand(raiser, pci::kCommandIntxDisable);
  set(false);
  raiser.CountFrom(kPciIntxIrq, 0);
  set(true);
  expect("while disabled", 0, true);
  SetCommand(raiser, 0);
  expect("enabled", 1, true);
  set(true);
  expect("that stays", 1, true);
  raiser.guest().device().OnUnmask(kPciIntxIrq, 0);
  expect("that stays when the VMM unmasks it", 2, true);
  set(false);
  raiser.guest().device().OnUnmask(kPciIntxIrq, 0);
  expect("let go", 2, false);
}

}  // namespace

Violations CheckInterrupts(const PciClass& device) {
  Raiser raiser(device);
  const PciSpec& spec = raiser.prober().spec();
  if (spec.intx()) CheckIntx(raiser);
  if (spec.msi_vectors() != 0) CheckMsi(raiser);
  if (spec.msix_vectors() != 0) {
    // The guest counts no more.
    const uint32_t last = spec.msix_vectors() > PciGuest::kMaxVectors
                              ? PciGuest::kMaxVectors - 1
                              : spec.msix_vectors() - 1;
    CheckMsixVector(raiser, 0);
    if (last != 0) CheckMsixVector(raiser, last);
  }
  return raiser.prober().found();
}

}  // namespace holdfast::testing

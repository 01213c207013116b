#include "devices/pci_edu/pci_edu.h"

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

void Raise(PciTxn& txn, uint32_t cause) {
  txn.Set(edu::kInterruptStatus, txn.Get(edu::kInterruptStatus) | cause);
  txn.Interrupt(0);
}

// Modulo 2^32: from 34 on it is 0, so a guest cannot ask for much work.
uint32_t Factorial(uint32_t n) {
  uint32_t result = 1;
  for (; n > 1 && result != 0; --n) result *= n;
  return result;
}

// What a transfer shall do.
struct Order {
  uint64_t source;
  uint64_t destination;
  uint64_t count;
  uint64_t command;

  bool from_buffer() const { return (command & edu::kDmaFromBuffer) != 0; }
  GuestAddress memory() const {
    return GuestAddress{(from_buffer() ? destination : source) & edu::kDmaMask};
  }
  uint64_t in_buffer() const {
    return (from_buffer() ? source : destination) - edu::kBufferAddress;
  }
  bool fits() const {
    return in_buffer() <= edu::kBufferSize &&
           count <= edu::kBufferSize - in_buffer();
  }
};

Order OrderOf(PciTxn& txn) {
  return {txn.Get(edu::kDmaSource), txn.Get(edu::kDmaDestination),
          txn.Get(edu::kDmaCount), txn.Get(edu::kDmaCommand)};
}

}  // namespace

PciSpec PciEdu::Spec() {
  return PciSpec(PciId{0x1234, 0x11e8, /*revision=*/0x10,
                       /*class_code=*/0x00ff00})
      .Bar(0,
           RegisterFile{edu::kId, edu::kLiveness, edu::kFactorial, edu::kStatus,
                        edu::kInterruptStatus, edu::kInterruptRaise,
                        edu::kInterruptAcknowledge, edu::kDmaSource,
                        edu::kDmaDestination, edu::kDmaCount, edu::kDmaCommand}
               .Size(edu::kBarSize)
               .UndefinedReads(0xff))
      .Intx()
      .Msi(1)
      .State<State>();
}

PciEdu::PciEdu(PciContext& context) : state_(context.State<State>()) {}

absl::Status PciEdu::OnWrite(const RegWrite& write, PciTxn& txn) {
  const auto value = static_cast<uint32_t>(write.value());
  if (write.Is(edu::kLiveness)) {
    txn.Set(edu::kLiveness, ~value);
  } else if (write.Is(edu::kFactorial)) {
    const uint32_t status = txn.Get(edu::kStatus);
    if ((status & edu::kComputing) != 0) {
      txn.Restore(write);
      return absl::OkStatus();
    }
    txn.Set(edu::kStatus, status | edu::kComputing);
    txn.Order(kComputeFactorial);
  } else if (write.Is(edu::kInterruptRaise)) {
    Raise(txn, value);
  } else if (write.Is(edu::kInterruptAcknowledge)) {
    const uint32_t left = txn.Get(edu::kInterruptStatus) & ~value;
    txn.Set(edu::kInterruptStatus, left);
    if (left == 0) txn.SetIntx(false);
  } else if (write.reg().offset() >= edu::kDmaSource.offset()) {
    // The registers of a transfer that runs do not change.
    if (write.Is(edu::kDmaCommand)
            ? (write.old() & edu::kDmaRun) != 0
            : (txn.Get(edu::kDmaCommand) & edu::kDmaRun) != 0) {
      txn.Restore(write);
    } else if (write.Is(edu::kDmaCommand) &&
               (write.value() & edu::kDmaRun) != 0) {
      txn.Order(kTransfer);
    }
  }
  return absl::OkStatus();
}

absl::Status PciEdu::OnWork(uint32_t work, PciContext& context) {
  return work == kComputeFactorial ? Compute(context) : Transfer(context);
}

absl::Status PciEdu::Compute(PciContext& context) {
  return context.Update([](PciTxn& txn) {
    txn.Set(edu::kFactorial, Factorial(txn.Get(edu::kFactorial)));
    const uint32_t status = txn.Get(edu::kStatus);
    txn.Set(edu::kStatus, status & ~edu::kComputing);
    if ((status & edu::kInterruptWhenDone) != 0) {
      Raise(txn, edu::kFactorialDone);
    }
    txn.Done(kComputeFactorial);
    return absl::OkStatus();
  });
}

absl::Status PciEdu::Transfer(PciContext& context) {
  Order order;
  std::array<uint64_t, kWords> buffer;
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    order = OrderOf(txn);
    buffer = txn.Get(state_.buffer);
    return absl::OkStatus();
  }));
  absl::Status moved = absl::OutOfRangeError(absl::StrCat(
      order.count, " bytes at ", order.in_buffer(), " are not in the buffer"));
  if (order.fits()) {
    uint8_t* const bytes =
        reinterpret_cast<uint8_t*>(buffer.data()) + order.in_buffer();
    moved = order.from_buffer()
                ? context.dma().Write(order.memory(), {bytes, order.count})
                : context.dma().Read(order.memory(), {bytes, order.count});
  }
  // A transfer that fails ends all the same, as one on a bus does.
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    if (moved.ok() && !order.from_buffer()) txn.Set(state_.buffer, buffer);
    txn.Set(edu::kDmaCommand, order.command & ~edu::kDmaRun);
    if ((order.command & edu::kDmaInterrupt) != 0) Raise(txn, edu::kDmaDone);
    txn.Done(kTransfer);
    return absl::OkStatus();
  }));
  return moved;
}

void PciEdu::OnReset(PciTxn& txn) { txn.Set(state_.buffer, {}); }

}  // namespace holdfast

#include "devices/platform_uart/platform_uart.h"

#include <utility>

#include "devices/platform_uart/output_file_sys.h"

namespace holdfast {

PlatformSpec PlatformUart::Spec() {
  return PlatformSpec()
      .Region(RegisterFile{uart::kData, uart::kFlags, uart::kIntegerBaud,
                           uart::kFractionalBaud, uart::kLineControl,
                           uart::kControl, uart::kMask, uart::kRawInterrupts,
                           uart::kInterrupts, uart::kClear, uart::kPeripheral0,
                           uart::kPeripheral1, uart::kPeripheral2})
      .LevelLine()
      .Resource("output", "the file that gets what the guest sends")
      .State<State>();
}

PlatformUart::PlatformUart(PlatformContext& context)
    : PlatformUart(context, MakeOutputFile(context.Resource("output"))) {}

PlatformUart::PlatformUart(PlatformContext& context,
                           std::unique_ptr<UartOutput> output)
    : state_(context.State<State>()), output_(std::move(output)) {}

absl::Status PlatformUart::OnRead(const RegRead& read, PlatformTxn& txn) {
  if (read.Is(uart::kData)) Take(txn);
  return absl::OkStatus();
}

absl::Status PlatformUart::OnWrite(const RegWrite& write, PlatformTxn& txn) {
  if (write.Is(uart::kData)) {
    Send(static_cast<uint8_t>(write.written()), txn);
  } else if (write.Is(uart::kClear)) {
    txn.Set(uart::kRawInterrupts, txn.Get(uart::kRawInterrupts) &
                                      ~static_cast<uint32_t>(write.value()));
  }
  Show(txn);
  return absl::OkStatus();
}

void PlatformUart::OnReset(PlatformTxn& txn) {
  txn.Set(state_.first, 0);
  txn.Set(state_.count, 0);
}

void PlatformUart::Send(uint8_t byte, PlatformTxn& txn) {
  const uint32_t control = txn.Get(uart::kControl);
  constexpr uint32_t kOn = uart::kEnable | uart::kSendEnable;
  if ((control & kOn) != kOn) return;
  if ((control & uart::kLoopback) != 0) {
    if ((control & uart::kReceiveEnable) != 0) Receive(byte, txn);
  } else {
    const uint64_t sent = txn.Get(state_.sent);
    output_->Put(sent, byte);
    txn.Set(state_.sent, sent + 1);
  }
  Raise(uart::kSent, txn);
}

void PlatformUart::Receive(uint8_t byte, PlatformTxn& txn) {
  const uint8_t count = txn.Get(state_.count);
  if (count >= uart::kFifoSize) return Raise(uart::kOverrun, txn);
  auto fifo = txn.Get(state_.fifo);
  fifo[(txn.Get(state_.first) + count) % uart::kFifoSize] = byte;
  txn.Set(state_.fifo, fifo);
  txn.Set(state_.count, static_cast<uint8_t>(count + 1));
  Raise(uart::kReceived, txn);
}

// Moves the next byte to the data register, where the read finds it.
void PlatformUart::Take(PlatformTxn& txn) {
  const uint8_t count = txn.Get(state_.count);
  if (count == 0) return txn.Set(uart::kData, 0);
  const uint8_t first = txn.Get(state_.first);
  txn.Set(uart::kData, txn.Get(state_.fifo)[first % uart::kFifoSize]);
  txn.Set(state_.first, static_cast<uint8_t>((first + 1) % uart::kFifoSize));
  txn.Set(state_.count, static_cast<uint8_t>(count - 1));
  if (count == 1) {
    txn.Set(uart::kRawInterrupts,
            txn.Get(uart::kRawInterrupts) & ~uart::kReceived);
  }
  Show(txn);
}

void PlatformUart::Raise(uint32_t causes, PlatformTxn& txn) {
  txn.Set(uart::kRawInterrupts, txn.Get(uart::kRawInterrupts) | causes);
}

// Flags and line follow from the rest.
void PlatformUart::Show(PlatformTxn& txn) {
  const uint8_t count = txn.Get(state_.count);
  uint32_t flags = uart::kSendEmpty;
  if (count == 0) flags |= uart::kReceiveEmpty;
  if (count >= uart::kFifoSize) flags |= uart::kReceiveFull;
  txn.Set(uart::kFlags, flags);
  const uint32_t causes = txn.Get(uart::kRawInterrupts) & txn.Get(uart::kMask);
  txn.Set(uart::kInterrupts, causes);
  txn.SetLine(uart::kLine, causes != 0);
}

}  // namespace holdfast

#include "devices/platform_uart/platform_uart.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/platform_function.h"
#include "devices/bus/platform_state.h"
#include "devices/bus/testing/state_memory.h"
#include "devices/platform_uart/uart_output.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StateMemory;

// What came out, byte by byte at its place.
struct Paper {
  std::string text;
  int puts = 0;
};

class PaperOutput final : public UartOutput {
 public:
  explicit PaperOutput(Paper& paper) : paper_(paper) {}
  void Put(uint64_t place, uint8_t byte) override {
    if (paper_.text.size() <= place) paper_.text.resize(place + 1);
    paper_.text[place] = static_cast<char>(byte);
    ++paper_.puts;
  }

 private:
  Paper& paper_;
};

class PlatformUartTest : public ::testing::Test, private IrqSink {
 protected:
  PlatformUartTest()
      : memory_(PlatformState::Create(PlatformUart::Spec())->schema()) {
    Make();
    Write(uart::kControl,
          uart::kEnable | uart::kSendEnable | uart::kReceiveEnable);
  }
  void Restart() {
    memory_.Restart();
    Make();
  }
  uint32_t Read(const Reg32& reg, uint64_t id = 0) {
    uint32_t value = 0;
    EXPECT_OK(function_->Read(AccessId{id}, 0, reg.offset(),
                              {reinterpret_cast<uint8_t*>(&value), 4}));
    return value;
  }
  void Write(const Reg32& reg, uint32_t value, uint64_t id = 0) {
    EXPECT_OK(function_->Write(AccessId{id}, 0, reg.offset(),
                               {reinterpret_cast<const uint8_t*>(&value), 4}));
  }
  void LoopBack() {
    Write(uart::kControl, uart::kEnable | uart::kLoopback | uart::kSendEnable |
                              uart::kReceiveEnable);
  }
  void Type(const std::string& text) {
    for (char c : text) Write(uart::kData, static_cast<uint8_t>(c));
  }
  std::string TakeAll() {
    std::string all;
    while ((Read(uart::kFlags) & uart::kReceiveEmpty) == 0) {
      all.push_back(static_cast<char>(Read(uart::kData)));
    }
    return all;
  }

  Paper paper_;
  int signals_ = 0;
  StateMemory memory_;
  DmaWindows windows_;
  std::unique_ptr<PlatformFunction> function_;

 private:
  void Make() {
    PlatformServices services;
    services.irqs = this;
    services.dma = &windows_;
    auto made = PlatformFunction::Create(
        *PlatformState::Create(PlatformUart::Spec()), memory_.schema(),
        std::move(services), [this](PlatformContext& context) {
          return std::unique_ptr<PlatformDevice>(std::make_unique<PlatformUart>(
              context, std::make_unique<PaperOutput>(paper_)));
        });
    ASSERT_OK(made);
    function_ = *std::move(made);
    EXPECT_OK(function_->Start(memory_.bank()));
    EXPECT_OK(function_->Resume());
  }
  void Signal(uint32_t irq, uint32_t) override {
    EXPECT_EQ(irq, uart::kLine);
    ++signals_;
  }
};

TEST_F(PlatformUartTest, IsKnownByItsPeripheralNumbers) {
  EXPECT_EQ(Read(uart::kPeripheral0), 0x11u);
  EXPECT_EQ(Read(uart::kPeripheral1), 0x10u);
  EXPECT_EQ(Read(uart::kFlags), uart::kReceiveEmpty | uart::kSendEmpty);
}

TEST_F(PlatformUartTest, SendsToItsOutput) {
  Type("hello\n");
  EXPECT_EQ(paper_.text, "hello\n");
  Restart();
  Type("again\n");
  EXPECT_EQ(paper_.text, "hello\nagain\n");
}

TEST_F(PlatformUartTest, AByteThatIsSentAgainAfterACrashIsOne) {
  Write(uart::kData, 'a', 1);
  Restart();
  Write(uart::kData, 'a', 1);  // The carrier repeats what it does not know.
  Write(uart::kData, 'b', 2);
  EXPECT_EQ(paper_.text, "ab");
  EXPECT_EQ(paper_.puts, 2);
}

TEST_F(PlatformUartTest, SendsNothingWhileItIsOff) {
  Write(uart::kControl, uart::kSendEnable);
  Type("x");
  Write(uart::kControl, uart::kEnable);
  Type("x");
  EXPECT_EQ(paper_.text, "");
}

TEST_F(PlatformUartTest, LoopsBackInOrder) {
  LoopBack();
  Type("abc");
  EXPECT_EQ(TakeAll(), "abc");
  EXPECT_EQ(Read(uart::kData), 0u) << "nothing is left";
  EXPECT_EQ(paper_.text, "");
}

TEST_F(PlatformUartTest, ReadingTakesAByteOnceOverADeath) {
  LoopBack();
  Type("abc");
  EXPECT_EQ(Read(uart::kData, 7), 'a');
  Restart();
  EXPECT_EQ(Read(uart::kData, 7), 'a');
  EXPECT_EQ(TakeAll(), "bc");
}

TEST_F(PlatformUartTest, AFullFifoLosesWhatComes) {
  LoopBack();
  Type("0123456789abcdefX");
  EXPECT_EQ(Read(uart::kFlags) & uart::kReceiveFull, uart::kReceiveFull);
  EXPECT_EQ(Read(uart::kRawInterrupts) & uart::kOverrun, uart::kOverrun);
  EXPECT_EQ(TakeAll(), "0123456789abcdef");
}

TEST_F(PlatformUartTest, InterruptsForWhatIsNotMasked) {
  LoopBack();
  Type("a");
  EXPECT_EQ(signals_, 0);
  Write(uart::kMask, uart::kReceived);
  EXPECT_EQ(signals_, 1);
  EXPECT_EQ(Read(uart::kInterrupts), uart::kReceived);
  EXPECT_EQ(TakeAll(), "a");
  EXPECT_EQ(Read(uart::kInterrupts), 0u) << "the FIFO is empty";
  Write(uart::kMask, uart::kSent);
  EXPECT_EQ(signals_, 2);
  Write(uart::kClear, uart::kSent);
  EXPECT_EQ(Read(uart::kInterrupts), 0u);
  Type("b");
  EXPECT_EQ(signals_, 3);
}

TEST_F(PlatformUartTest, ResetForgetsWhatItHolds) {
  LoopBack();
  Write(uart::kMask, uart::kReceived);
  Type("abc");
  EXPECT_OK(function_->Reset());
  EXPECT_EQ(Read(uart::kFlags), uart::kReceiveEmpty | uart::kSendEmpty);
  EXPECT_EQ(Read(uart::kMask), 0u);
  EXPECT_EQ(TakeAll(), "");
}

}  // namespace
}  // namespace holdfast

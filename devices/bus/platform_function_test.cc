#include "devices/bus/platform_function.h"

#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "base/testing/matchers.h"
#include "devices/bus/dma_windows.h"
#include "devices/bus/platform_state.h"
#include "devices/bus/testing/state_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::StateMemory;
using ::holdfast::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Reg32 kCount{"count", 0x00, kReadOnly};  // Of reads of it.
constexpr Reg32 kLevel{"level", 0x04, kReadWrite, 0x10};
constexpr Reg32 kPulse{"pulse", 0x08, kWriteOnly};
constexpr Reg32 kFail{"fail", 0x0c, kReadWrite};
constexpr Reg8 kOther = Reg8{"other", 0x00, kReadWrite}.InBar(1);

struct ProbeState {
  static constexpr SchemaId kSchema{"probe", 1};
  Cell<uint32_t> resets{"resets"};
  Cell<uint32_t> looks{"looks"};
};

class Probe final : public PlatformDevice {
 public:
  static PlatformSpec Spec() {
    return PlatformSpec()
        .Region({kCount, kLevel, kPulse, kFail})
        .Region({kOther})
        .LevelLine()
        .EdgeLine()
        .State<ProbeState>();
  }
  explicit Probe(PlatformContext& context)
      : state_(context.State<ProbeState>()) {}

  absl::Status OnRead(const RegRead& read, PlatformTxn& txn) override {
    if (read.Is(kCount)) txn.Set(kCount, txn.Get(kCount) + 1);
    return absl::OkStatus();
  }
  absl::Status OnWrite(const RegWrite& write, PlatformTxn& txn) override {
    if (write.Is(kLevel)) txn.SetLine(0, write.value() != 0);
    if (write.Is(kPulse)) txn.Pulse(1);
    if (write.Is(kOther) && write.value() == 9) txn.Restore(write);
    if (write.Is(kFail)) return absl::NotFoundError("as asked");
    return absl::OkStatus();
  }
  void OnReset(PlatformTxn& txn) override {
    txn.Set(state_.resets, txn.Get(state_.resets) + 1);
    txn.Set(kFail, txn.Get(state_.resets));
  }
  void OnResourceChanged(PlatformTxn& txn) override {
    txn.Set(state_.looks, txn.Get(state_.looks) + 1);
  }

 private:
  const ProbeState state_;
};

class PlatformFunctionTest : public ::testing::Test, private IrqSink {
 protected:
  PlatformFunctionTest()
      : memory_(PlatformState::Create(Probe::Spec())->schema()) {
    Make();
    EXPECT_OK(function_->Resume());
  }
  // What a successor has.
  void Make() {
    PlatformServices services;
    services.irqs = this;
    services.dma = &windows_;
    auto made = PlatformFunction::Create(*PlatformState::Create(Probe::Spec()),
                                         memory_.schema(), std::move(services),
                                         PlatformDeviceMaker<Probe>());
    ASSERT_OK(made);
    function_ = *std::move(made);
    EXPECT_OK(function_->Start(memory_.bank()));
  }
  void Restart() {
    memory_.Restart();
    Make();
  }

  uint32_t Read(uint64_t offset, uint64_t id = 0, uint32_t region = 0) {
    uint32_t value = 0;
    status_ = function_->Read(
        AccessId{id}, region, offset,
        {reinterpret_cast<uint8_t*>(&value), region == 0 ? sizeof(value) : 1});
    return value;
  }
  void Write(uint64_t offset, uint32_t value, uint64_t id = 0,
             uint32_t region = 0) {
    status_ = function_->Write(AccessId{id}, region, offset,
                               {reinterpret_cast<const uint8_t*>(&value),
                                region == 0 ? sizeof(value) : 1});
  }

  IrqSink* sink() { return this; }

  StateMemory memory_;
  DmaWindows windows_;
  std::unique_ptr<PlatformFunction> function_;
  std::vector<uint32_t> signals_;
  absl::Status status_;

 private:
  void Signal(uint32_t irq, uint32_t vector) override {
    EXPECT_EQ(vector, 0u);
    signals_.push_back(irq);
  }
};

TEST_F(PlatformFunctionTest, SaysWhatItIs) {
  EXPECT_FALSE(function_->is_pci());
  ASSERT_EQ(function_->regions().size(), 2u);
  EXPECT_EQ(function_->regions()[0].size, 16u);
  ASSERT_EQ(function_->irqs().size(), 2u);
  EXPECT_TRUE(function_->irqs()[0].level);
  EXPECT_FALSE(function_->irqs()[1].level);
}

TEST_F(PlatformFunctionTest, NeedsInterruptsAndDma) {
  for (const bool irqs : {false, true}) {
    PlatformServices services;
    if (irqs) services.irqs = sink();
    if (!irqs) services.dma = &windows_;
    EXPECT_THAT(PlatformFunction::Create(*PlatformState::Create(Probe::Spec()),
                                         memory_.schema(), std::move(services),
                                         PlatformDeviceMaker<Probe>()),
                StatusIs(absl::StatusCode::kInvalidArgument, _));
  }
}

TEST_F(PlatformFunctionTest, AnswersARepeatedAccessAsBefore) {
  EXPECT_EQ(Read(0x00, 5), 1u);
  EXPECT_EQ(Read(0x00, 5), 1u);
  Restart();
  EXPECT_EQ(Read(0x00, 5), 1u);
  EXPECT_EQ(Read(0x00, 6), 2u);
  EXPECT_EQ(Read(0x00), 3u) << "without a name nothing protects it";
  EXPECT_EQ(Read(0x00), 4u);
}

TEST_F(PlatformFunctionTest, ALevelIsSignalledWhenItRises) {
  Write(0x04, 1);
  Write(0x04, 2);
  EXPECT_THAT(signals_, ElementsAre(0));
  function_->OnUnmask(0, 0);
  EXPECT_THAT(signals_, ElementsAre(0, 0)) << "it is still there";
  Write(0x04, 0);
  function_->OnUnmask(0, 0);
  function_->OnUnmask(1, 0);
  function_->OnUnmask(7, 0);
  EXPECT_THAT(signals_, ElementsAre(0, 0));
}

TEST_F(PlatformFunctionTest, ASuccessorSignalsWhatMayNotHaveBeen) {
  Write(0x08, 1);
  EXPECT_THAT(signals_, ElementsAre(1));
  Restart();
  EXPECT_OK(function_->Resume());
  EXPECT_THAT(signals_, ElementsAre(1, 1));
  Write(0x04, 1);
  Write(1, 0, 0, 1);
  signals_.clear();
  Restart();
  EXPECT_OK(function_->Resume());
  EXPECT_THAT(signals_, ElementsAre(0)) << "the level; the edge is over";
}

TEST_F(PlatformFunctionTest, AnAccessThatTheDeviceRefusesHasNotHappened) {
  Write(0x0c, 77);
  EXPECT_FALSE(status_.ok());
  EXPECT_EQ(Read(0x0c), 1u);
  EXPECT_EQ(function_->guest_errors(), 1u);
}

TEST_F(PlatformFunctionTest, RefusesWhatIsNotThere) {
  uint8_t bytes[80] = {};
  for (const auto& [region, offset, size] :
       std::vector<std::tuple<uint32_t, uint64_t, size_t>>{
           {0, 16, 1}, {0, 13, 4}, {2, 0, 1}, {99, 0, 1}, {0, ~0ull, 2}}) {
    EXPECT_THAT(function_->Read(AccessId{1}, region, offset,
                                absl::MakeSpan(bytes).first(size)),
                StatusIs(absl::StatusCode::kOutOfRange, _));
    EXPECT_THAT(function_->Write(AccessId{1}, region, offset,
                                 absl::MakeSpan(bytes).first(size)),
                StatusIs(absl::StatusCode::kOutOfRange, _));
  }
}

// As PCI answers it.
TEST_F(PlatformFunctionTest, AnAccessOfNoBytesIsMadeAnywhere) {
  EXPECT_OK(function_->Read(AccessId{1}, 2, 0, {}));
  EXPECT_OK(function_->Write(AccessId{1}, 99, 0, {}));
  EXPECT_THAT(function_->Write(AccessId{1}, 99, 1, {}),
              StatusIs(absl::StatusCode::kOutOfRange, _));
}

TEST_F(PlatformFunctionTest, TheSecondRegionIsOneOfItsOwn) {
  Write(0, 5, 0, 1);
  EXPECT_EQ(Read(0, 0, 1), 5u);
  Write(0, 9, 0, 1);
  EXPECT_EQ(Read(0, 0, 1), 5u) << "taken back";
}

TEST_F(PlatformFunctionTest, ResetMakesRegistersNewAndLinesLow) {
  Write(0x04, 1);
  Write(0, 5, 0, 1);
  EXPECT_OK(function_->Reset());
  EXPECT_EQ(Read(0x04), 0x10u);
  EXPECT_EQ(Read(0, 0, 1), 0u);
  EXPECT_EQ(Read(0x0c), 2u) << "state says how often";
  signals_.clear();
  function_->OnUnmask(0, 0);
  EXPECT_THAT(signals_, IsEmpty());
}

TEST_F(PlatformFunctionTest, LooksAtResourcesWhenToldAndAtFirst) {
  const auto looks = [this] {
    StateTxn txn = memory_.bank().Begin();
    return txn.Get(BindState<ProbeState>(memory_.schema())->looks);
  };
  EXPECT_EQ(looks(), 1u);
  ASSERT_OK(function_->ResourceChanged());
  EXPECT_EQ(looks(), 2u);
  Restart();
  EXPECT_EQ(looks(), 3u);
}

TEST_F(PlatformFunctionTest, AnOvertakenOneDoesNothing) {
  const auto later =
      StateBank::Attach(memory_.bytes(), 99, StateBank::Threads::kOne);
  ASSERT_OK(later);
  Write(0x04, 1);
  EXPECT_TRUE(absl::IsAborted(status_)) << status_;
  EXPECT_THAT(signals_, IsEmpty());
}

}  // namespace
}  // namespace holdfast

#ifndef HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_FUNCTION_GUEST_H_
#define HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_FUNCTION_GUEST_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/bus/testing/state_memory.h"
#include "devices/virtio_pci/testing/sample_device.h"
#include "devices/virtio_pci/virtio_function.h"

namespace holdfast::testing {

// Writes down what it is told to do, and does as it is told.
class ListingExecutor final : public virtio_pci::QueueExecutor {
 public:
  absl::Status Start(uint16_t queue,
                     const virtio_pci::RingLayout& ring) override {
    absl::StrAppend(&said, "start", queue, ":", ring.size, "@0x",
                    absl::Hex(ToInt(ring.descriptors)), " ");
    return refuses ? absl::InvalidArgumentError("as asked") : absl::OkStatus();
  }
  void End(uint16_t queue) override {
    absl::StrAppend(&said, "end", queue, " ");
  }
  void Kick(uint16_t queue) override {
    absl::StrAppend(&said, "kick", queue, " ");
  }
  void Route(uint16_t queue, virtio_pci::InterruptRoute route) override {
    constexpr const char* kKinds[] = {"none", "message", "register"};
    absl::StrAppend(&said, "route", queue, ":",
                    kKinds[static_cast<int>(route.kind)], route.vector, " ");
  }

  bool IsOwedAnswers() override { return owed; }

  std::string said;
  bool refuses = false;
  bool owed = false;
};

// A VirtioFunction of a SampleDevice with state of its own, and whoever carries
// a guest's accesses to it.
class FunctionGuest final : private IrqSink {
 public:
  FunctionGuest() : state_(*virtio_pci::VirtioFunction::StateSchema(spec_)) {
    Make();
  }

  // What a successor finds: registers, and nothing that the process had.
  void Restart() {
    state_.Restart();
    Make();
  }

  uint64_t Read(uint32_t region, uint64_t offset, size_t size) {
    uint64_t value = 0;
    status_ = function_->Read(AccessId{++accesses_}, region, offset,
                              {reinterpret_cast<uint8_t*>(&value), size});
    return status_.ok() ? value : ~uint64_t{0} >> (8 * (8 - size));
  }
  void Write(uint32_t region, uint64_t offset, uint64_t value, size_t size) {
    status_ =
        function_->Write(AccessId{++accesses_}, region, offset,
                         {reinterpret_cast<const uint8_t*>(&value), size});
  }

  // All that executor and device were told since the last call.
  std::string TakeSaid() {
    std::string said = executor_->said + device_->said;
    executor_->said.clear();
    device_->said.clear();
    return said;
  }

  virtio_pci::VirtioFunction& function() { return *function_; }
  ListingExecutor& executor() { return *executor_; }
  SampleDevice& device() { return *device_; }
  const absl::Status& status() const { return status_; }
  const std::vector<uint64_t>& signals() const { return signals_; }
  void set_has_vector_table(bool has) { has_vector_table_ = has; }

 private:
  void Make() {
    function_.reset();
    device_ = std::make_unique<SampleDevice>();
    executor_ = std::make_unique<ListingExecutor>();
    auto function = virtio_pci::VirtioFunction::Create(
        spec_, state_.schema(), *device_, *this, *executor_);
    if (!function.ok()) std::abort();
    function_ = *std::move(function);
    if (!function_->Start(state_.bank()).ok()) std::abort();
  }
  void Signal(uint32_t irq, uint32_t vector) override {
    signals_.push_back(uint64_t{irq} << 32 | vector);
  }
  bool has_vector_table() const override { return has_vector_table_; }

  const VirtioSpec spec_ = SampleDevice::Spec();
  StateMemory state_;
  std::unique_ptr<SampleDevice> device_;
  std::unique_ptr<ListingExecutor> executor_;
  std::unique_ptr<virtio_pci::VirtioFunction> function_;
  std::vector<uint64_t> signals_;
  uint64_t accesses_ = 0;
  bool has_vector_table_ = true;
  absl::Status status_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VIRTIO_PCI_TESTING_FUNCTION_GUEST_H_

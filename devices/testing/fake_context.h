#ifndef HOLDFAST_DEVICES_TESTING_FAKE_CONTEXT_H_
#define HOLDFAST_DEVICES_TESTING_FAKE_CONTEXT_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "devices/bus/virtio_device.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

// The memory of one request, as a driver would lay it out.
class FakeRequest {
 public:
  // `writable` are the sizes of the device-writable buffers.
  FakeRequest(std::vector<std::string> readable, std::vector<size_t> writable)
      : readable_(std::move(readable)) {
    for (size_t size : writable) writable_.emplace_back(size, '\0');
    for (std::string& s : readable_) read_buffers_.push_back(BufferOf(s));
    for (std::string& s : writable_) write_buffers_.push_back(BufferOf(s));
  }

  Request request(uint16_t queue = 0, uint16_t head = 0) {
    return Request(queue, head, read_buffers_, write_buffers_);
  }
  // What the device wrote, buffer after buffer.
  std::string written() const {
    std::string all;
    for (const std::string& s : writable_) all += s;
    return all;
  }

 private:
  static Buffer BufferOf(std::string& s) {
    return {reinterpret_cast<uint8_t*>(s.data()), s.size()};
  }
  std::vector<std::string> readable_;
  std::vector<std::string> writable_;
  std::vector<Buffer> read_buffers_;
  std::vector<Buffer> write_buffers_;
};

// A VirtioContext over a segment in ordinary memory, for tests of a device
// without any process around it. Not thread-safe.
class FakeContext final : public VirtioContext {
 public:
  explicit FakeContext(const VirtioSpec& spec, DeviceOptions options = {})
      : options_(std::move(options)) {
    SegmentSpec segment;
    segment.device = "fake";
    segment.state = *spec.schema();
    segment.queue_count = static_cast<uint16_t>(spec.queues().size());
    memory_.resize(*SegmentSize(segment) / sizeof(uint64_t));
    const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(memory_.data()),
                                    memory_.size() * sizeof(uint64_t));
    (void)FormatSegment(bytes, segment);
    segment_.emplace(*Segment::Attach(bytes));
    NewEpoch();
  }

  // What a crash does: whatever was not committed is gone.
  void NewEpoch() {
    state_.emplace(
        *StateBank::Attach(segment_->section(SectionType::kState), ++epoch_));
  }

  void SetResource(const std::string& name, BorrowedFd fd) {
    resources_.insert_or_assign(name, fd);
  }
  int config_changes() const { return config_changes_; }
  // Of the guest; 1 at first.
  void SetGuestVersion(uint32_t version) { guest_version_ = version; }

  // Runs one request to its end. The result is what the driver sees.
  struct Result {
    absl::Status status;
    size_t written = 0;
  };
  Result Run(VirtioDevice& device, Request request, bool poisoned = false) {
    StateTxn state = state_->Begin();
    Txn txn(state);
    Result result;
    if (poisoned) {
      device.OnPoisoned(request, txn);
    } else {
      result.status = device.OnRequest(request, txn);
    }
    if (result.status.ok()) result.status = state_->Commit(state);
    result.written = txn.written();
    return result;
  }

  const DeviceOptions& options() const override { return options_; }
  BorrowedFd Resource(absl::string_view name) const override {
    const auto it = resources_.find(std::string(name));
    return it == resources_.end() ? BorrowedFd(-1) : it->second;
  }
  uint32_t guest_version() const override { return guest_version_; }
  void NotifyConfigChange() override { ++config_changes_; }

 private:
  const Schema& schema() const override { return segment_->schema(); }

  DeviceOptions options_;
  uint32_t guest_version_ = 1;
  std::vector<uint64_t> memory_;  // Aligned as a mapping is.
  std::optional<Segment> segment_;
  std::optional<StateBank> state_;
  std::map<std::string, BorrowedFd> resources_;
  uint64_t epoch_ = 0;
  int config_changes_ = 0;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_FAKE_CONTEXT_H_

// Windows that come and go, transfers and mappings do what a model of single
// bytes does: nothing is moved that was not granted, and no window is taken
// from under a mapping.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "devices/bus/dma_windows.h"

namespace {

using ::holdfast::Allows;
using ::holdfast::DmaAccess;
using ::holdfast::DmaMapping;
using ::holdfast::DmaMessenger;
using ::holdfast::DmaWindow;
using ::holdfast::DmaWindows;
using ::holdfast::GuestAddress;
using ::holdfast::ToInt;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;

constexpr uint64_t kSpace = 256;
// Bytes 0 to 127 of it are the first ones of the address space, the rest are
// the last ones: windows must not reach from one end to the other.
uint64_t AddressOf(uint64_t at) { return at < kSpace / 2 ? at : at - kSpace; }

struct Byte {
  int window = -1;  // -1: granted to nobody.
  DmaAccess access = DmaAccess::kRead;
  uint8_t value = 0;
};
using Model = std::array<Byte, kSpace>;

// The VMM's memory, for windows that are not mapped.
class Vmm final : public DmaMessenger {
 public:
  explicit Vmm(Model& model) : model_(model) {}
  size_t max_transfer() const override { return 5; }
  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = At(address, &byte - out.data()).value;
    return absl::OkStatus();
  }
  absl::Status Write(GuestAddress, absl::Span<const uint8_t>) override {
    return absl::OkStatus();  // The model has it already.
  }

 private:
  Byte& At(GuestAddress address, uint64_t offset) {
    return model_[(ToInt(address) + offset) % kSpace];
  }
  Model& model_;
};

struct Scene {
  Model model;
  Vmm vmm{model};
  DmaWindows windows{&vmm};
  // Host memory of window n, if it is mapped; byte i is that of model byte i.
  std::vector<std::shared_ptr<std::array<uint8_t, kSpace>>> host;
  DmaMapping mapping;
  int mapped_window = -1;
};

// Whether a transfer is allowed: all bytes granted, none beyond the top.
bool Granted(const Model& model, uint64_t at, uint64_t size, DmaAccess access) {
  const uint64_t limit = at < kSpace / 2 ? kSpace / 2 : kSpace;
  if (at + size > limit) return size == 0;
  for (uint64_t i = at; i < at + size; ++i) {
    if (model[i].window < 0 || !Allows(model[i].access, access)) return false;
  }
  return true;
}

void Add(Scene& scene, FuzzInput& input, uint64_t at, uint64_t size) {
  const auto access = static_cast<DmaAccess>(1 + input.Take<uint8_t>() % 3);
  const bool mapped = input.Take<uint8_t>() % 4 != 0;
  const uint64_t limit = at < kSpace / 2 ? kSpace / 2 : kSpace;
  if (at < kSpace / 2 && at + size > limit) return;  // Beyond the model.
  bool free = size != 0 && at + size <= limit;
  for (uint64_t i = at; free && i < at + size; ++i) {
    free = scene.model[i].window < 0;
  }
  auto host = std::make_shared<std::array<uint8_t, kSpace>>();
  const bool added = scene.windows
                         .Add({GuestAddress{AddressOf(at)}, size, access,
                               mapped ? host->data() + at : nullptr, nullptr})
                         .ok();
  Require(added == free);
  if (!added) return;
  for (uint64_t i = at; i < at + size; ++i) {
    scene.model[i] = {static_cast<int>(scene.host.size()), access, 0};
  }
  scene.host.push_back(mapped ? host : nullptr);
}

void Remove(Scene& scene, uint64_t at, uint64_t size) {
  const int window = scene.model[at].window;
  uint64_t first = at;
  uint64_t last = at;
  const auto same = [&](uint64_t i) { return scene.model[i].window == window; };
  while (first > 0 && same(first - 1)) --first;
  while (last + 1 < kSpace && same(last + 1)) ++last;
  const bool exact = window >= 0 && first == at && last - first + 1 == size;
  const absl::Status status =
      scene.windows.Remove(GuestAddress{AddressOf(at)}, size);
  if (!exact) return Require(absl::IsNotFound(status));
  if (window == scene.mapped_window) {
    Require(absl::IsUnavailable(status));
    scene.mapping = DmaMapping();
    scene.mapped_window = -1;
    Require(scene.windows.Remove(GuestAddress{AddressOf(at)}, size).ok());
  } else {
    Require(status.ok());
  }
  for (uint64_t i = at; i < at + size; ++i) scene.model[i].window = -1;
}

// Nobody asks the VMM with a mapping in hand.
void LetGoToAsk(Scene& scene, uint64_t at, uint64_t size) {
  if (scene.mapped_window < 0) return;
  for (uint64_t i = at; i < std::min(at + size, kSpace); ++i) {
    const int window = scene.model[i].window;
    if (window < 0 || scene.host[window] != nullptr) continue;
    std::vector<uint8_t> out(size);
    Require(
        !scene.windows.Read(GuestAddress{AddressOf(at)}, absl::MakeSpan(out))
             .ok());
    scene.mapping = DmaMapping();
    scene.mapped_window = -1;
    return;
  }
}

void Read(Scene& scene, uint64_t at, uint64_t size) {
  LetGoToAsk(scene, at, size);
  std::vector<uint8_t> out(size);
  const bool ok =
      scene.windows.Read(GuestAddress{AddressOf(at)}, absl::MakeSpan(out)).ok();
  Require(ok == Granted(scene.model, at, size, DmaAccess::kRead));
  for (uint64_t i = 0; ok && i < size; ++i) {
    Require(out[i] == scene.model[at + i].value);
  }
}

void Write(Scene& scene, FuzzInput& input, uint64_t at, uint64_t size) {
  LetGoToAsk(scene, at, size);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = input.Take<uint8_t>();
  const bool granted = Granted(scene.model, at, size, DmaAccess::kWrite);
  for (uint64_t i = 0; granted && i < size; ++i) {
    scene.model[at + i].value = bytes[i];
  }
  Require(scene.windows.Write(GuestAddress{AddressOf(at)}, bytes).ok() ==
          granted);
  for (uint64_t i = 0; i < kSpace; ++i) {
    const Byte& byte = scene.model[i];
    if (byte.window < 0 || scene.host[byte.window] == nullptr) continue;
    Require((*scene.host[byte.window])[i] == byte.value);
  }
}

void Map(Scene& scene, uint64_t at, uint64_t size) {
  absl::StatusOr<DmaMapping> mapping = scene.windows.Map(
      GuestAddress{AddressOf(at)}, size, DmaAccess::kReadWrite);
  if (!Granted(scene.model, at, size, DmaAccess::kReadWrite)) {
    return Require(!mapping.ok());
  }
  if (size == 0) return;
  const int window = scene.model[at].window;
  const bool one_piece = scene.host[window] != nullptr &&
                         scene.model[at + size - 1].window == window;
  Require(mapping.ok() == one_piece);
  if (!one_piece) return;
  Require(mapping->bytes().data() == scene.host[window]->data() + at);
  scene.mapping = *std::move(mapping);
  scene.mapped_window = window;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  Scene scene;
  for (int i = 0; i < 60 && !input.empty(); ++i) {
    const uint8_t kind = input.Take<uint8_t>();
    const uint64_t at = input.Take<uint8_t>();
    const uint64_t length = input.Take<uint8_t>() % 64;
    if (kind % 5 == 0) Add(scene, input, at, length);
    if (kind % 5 == 1) Remove(scene, at, length);
    if (kind % 5 == 2) Read(scene, at, length);
    if (kind % 5 == 3) Write(scene, input, at, length);
    if (kind % 5 == 4) Map(scene, at, length);
  }
  return 0;
}

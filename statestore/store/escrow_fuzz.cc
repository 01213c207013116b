// Arbitrary messages in arbitrary order from the launcher, children and the
// kernel. The input is a list of steps: one byte what happens, one byte whom it
// concerns, and for messages a length byte and as many raw bytes of Message,
// over defaults that make valid messages likely. Aborts when the Scene has seen
// a rule broken.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "statestore/store/actions.h"
#include "statestore/store/backlog.h"
#include "statestore/store/protocol.h"
#include "statestore/store/tables.h"
#include "statestore/store/testing/escrow_scene.h"

namespace holdfast::store {
namespace {

using testing::Scene;

class Steps {
 public:
  Steps(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool more() const { return size_ != 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  size_t Copy(void* to, size_t n) {
    n = std::min(n, size_);
    std::memcpy(to, data_, n);
    data_ += n;
    size_ -= n;
    return n;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// The key of some child or instance, at times of one that is not there.
Key SomeKey(const Scene& scene, uint8_t whom, Watch watch) {
  const size_t index = whom % 4;  // Few instances, so that they meet.
  const Instance& instance = scene.escrow().tables().instances()[index];
  Key key = scene.escrow().tables().KeyOf(
      instance, whom / 4 % kMaxChildrenPerInstance, watch);
  if (watch == Watch::kVmmListener) {
    key = scene.escrow().tables().KeyOf(instance);
  }
  if (whom >= 240) ++key.generation;
  if (whom >= 252) key.instance = 255;
  return key;
}

Incoming SomeMessage(Scene& scene, Steps& steps, Type type, uint8_t whom) {
  Incoming incoming;
  incoming.message.type = type;
  incoming.message.instance = 1 + whom % 4;
  incoming.message.child = 1 + whom / 4;
  incoming.message.slot = steps.Byte();
  incoming.message.arg0 = whom / 64;
  const uint8_t shape = steps.Byte();
  size_t count = FdsOf(type).most;
  if (shape >= 224) count = shape % (kMaxFds + 1);
  if (shape % 8 == 1) count = FdsOf(type).least;
  incoming.fd_count = count;
  for (size_t i = 0; i < count; ++i) incoming.fds[i] = scene.NewHandle();
  incoming.size = shape == 255 ? steps.Byte() : sizeof(Message);
  incoming.truncated = shape == 254;
  if (shape >= 192) {
    steps.Copy(&incoming.message,
               std::min<size_t>(steps.Byte(), sizeof(Message)));
  }
  if (shape % 8 == 2) incoming.message.arg1 = shape / 8 % 4;
  if (shape % 8 == 3) steps.Copy(incoming.message.bitmap, 24);
  return incoming;
}

void Step(Scene& scene, Steps& steps) {
  const uint8_t what = steps.Byte();
  const uint8_t whom = steps.Byte();
  switch (what % 16) {
    case 0:
      scene.FenceKey(SomeKey(scene, whom, Watch::kListener));
      break;
    case 1:
      scene.FenceKey(SomeKey(scene, whom, Watch::kPidfd));
      break;
    case 2:
      if (what >= 128) {
        scene.Accept(SomeKey(scene, whom, Watch::kVmmListener));
      } else {
        scene.AcceptUnasked(SomeKey(scene, whom, Watch::kVmmListener));
      }
      break;
    case 3:
      scene.SendFailed(SomeKey(scene, whom, Watch::kChannel), what >= 128);
      break;
    case 15:
      if (what >= 128) {
        scene.AcceptFailed(SomeKey(scene, whom, Watch::kVmmListener), whom);
      } else {
        scene.Retry();
      }
      break;
    case 4:
      scene.ChildSays(SomeKey(scene, whom, Watch::kChannel), Incoming());
      break;
    case 14:
      if (what >= 192) {
        scene.Silence(kHeirPatienceNs + 1);
      } else if (what >= 128) {
        scene.StuffKey(SomeKey(scene, whom, Watch::kChannel));
      } else {
        scene.DrainKey(SomeKey(scene, whom, Watch::kChannel), what);
      }
      break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9: {
      const Type type = static_cast<Type>(128 + what / 16 % 5);
      scene.ChildSays(SomeKey(scene, whom, Watch::kChannel),
                      SomeMessage(scene, steps, type, whom));
      break;
    }
    default:
      scene.Launcher(
          SomeMessage(scene, steps, static_cast<Type>(what / 16 % 13), whom));
  }
}

void CheckInventory(const Scene& scene) {
  Cursor cursor;
  Action action;
  size_t count = 0;
  while (NextInventory(scene.escrow().tables(), cursor, action)) {
    for (Handle fd : action.fds) {
      if (fd != kNoHandle && !scene.IsOpen(fd)) std::abort();
    }
    ++count;
  }
  if (count > kMaxInstances * (1 + kMaxChildrenPerInstance + 16)) std::abort();
}

}  // namespace
}  // namespace holdfast::store

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace holdfast::store;  // NOLINT: the whole program.
  const auto scene = std::make_unique<testing::Scene>();
  Steps steps(data, std::min<size_t>(size, 240));
  while (steps.more() && scene->problems().empty()) Step(*scene, steps);
  CheckInventory(*scene);
  if (!scene->problems().empty()) {
    std::fprintf(stderr, "%s\n", scene->problems()[0].c_str());
    std::abort();
  }
  return 0;
}

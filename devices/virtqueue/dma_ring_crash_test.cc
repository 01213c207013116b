// The order of stores of a ring that is reached by transfers (dma_port.h) under
// a model of crashes and of refusals: the real ring and table, cut after every
// store of their own and at three places of every transfer, against a guest
// that acts between any two of them.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtqueue/dma_port.h"
#include "devices/virtqueue/split_ring.h"
#include "devices/virtqueue/split_ring_impl.h"
#include "devices/virtqueue/testing/crash_access.h"
#include "devices/virtqueue/testing/model_guest.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::holdfast::testing::CrashAccess;
using ::holdfast::testing::Machine;
using ::holdfast::testing::ModelGuest;
using ::holdfast::testing::ModelMemory;
using ::holdfast::testing::RingOf;
using ::holdfast::testing::TakeBatch;
using Violation = ModelGuest::Violation;

using RightAccess = BasicPortAccess<CrashAccess>;

// Wrong: what is kept here goes on when a transfer has failed.
struct OwnGoesOnAccess : RightAccess {
  using Own = CrashAccess;
};

// Wrong: the used index goes out with the next transfer, whatever is stored
// here meanwhile.
struct HeldBackAccess : RightAccess {
  using Own = CrashAccess;
  template <typename T>
  static void StoreRelease(T* to, T value) {
    Store(to, value);
  }
};

enum class Variant {
  kRight,
  // Wrong ones, beside those above:
  kNothingAwaited,  // The dead's transfers may happen after the successor's.
  kSameRing,        // A ring is used again after a transfer of it has failed.
  kDataAfterIndex,
};

// What happens at a place in a life of the queue.
struct Cut {
  enum class Kind { kNone, kDeath, kRefusal };
  Kind kind = Kind::kNone;
  uint64_t at = 0;  // Counts from 1.
};

struct Schedule {
  Variant variant;
  uint32_t seed;
  std::array<Cut, 2> cuts{};  // Of the first two lives.
};

// The VMM: does what it is sent, one after the other, whatever becomes of who
// sent it.
template <typename Access>
class Model final : private Dma {
 public:
  explicit Model(const Schedule& schedule)
      : schedule_(schedule),
        random_(schedule.seed * 7919 + 13),
        first_index_((schedule.seed & 2) != 0 ? 65533 : 0),
        event_idx_((schedule.seed & 1) != 0),
        guest_(memory_, schedule.seed, kRequests, first_index_, event_idx_) {
    port_.Use();
    machine_.Boot(0);
    machine_.allowed = [this](const void*) { return !dead_; };
    machine_.meanwhile = [this] { Pass(); };
  }

  Violation Run() {
    for (size_t life = 0; !Done(); ++life) {
      cut_ = life < 2 ? schedule_.cuts[life] : Cut();
      passed_ = 0;
      messages_ = 0;
      dead_ = refused_ = false;
      if (schedule_.variant != Variant::kNothingAwaited) DoLate();
      Live();
      if (life < 2) places_[life] = passed_;
    }
    return guest_.violation();
  }

  // Places that the first two lives had.
  uint64_t places(size_t life) const { return places_[life]; }

 private:
  using Ring = BasicSplitRing<Access>;
  struct Late {
    uint64_t address;
    std::vector<uint8_t> bytes;
  };
  static constexpr int kRequests = 6;
  static constexpr size_t kAtOnce = 3;
  static constexpr int kMaxTurns = 2000;

  bool Done() const {
    return guest_.violation() != Violation::kNone || guest_.finished();
  }

  // A place where a life can be cut. False: it was.
  bool Pass() {
    if (++passed_ == cut_.at) {
      dead_ = dead_ || cut_.kind == Cut::Kind::kDeath;
      refused_ = refused_ || cut_.kind == Cut::Kind::kRefusal;
    }
    if (!over()) guest_.Step();
    return !over();
  }
  bool over() const { return dead_ || refused_; }

  // ---- The VMM ----

  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    if (!Pass()) return Failed();  // Not sent.
    LateInBetween();
    std::memcpy(out.data(), At(ToInt(address)), out.size());
    return Pass() ? absl::OkStatus() : Failed();  // Or not answered.
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    if (!Pass()) return Failed();  // Not sent.
    LateInBetween();
    late_.push_back({ToInt(address), {bytes.begin(), bytes.end()}});
    if (!Pass()) return Failed();  // Sent, and not done yet.
    DoLate();
    return Pass() ? absl::OkStatus() : Failed();  // Done, and not answered.
  }
  absl::StatusOr<DmaMapping> Map(GuestAddress, uint64_t, DmaAccess) override {
    return absl::FailedPreconditionError("nothing is mapped");
  }
  void Written(GuestAddress, uint64_t) override {}

  static absl::Status Failed() { return absl::UnavailableError("cut"); }
  static uint8_t* At(uint64_t address) {
    return reinterpret_cast<uint8_t*>(address);
  }
  uint64_t AddressOf(const void* at) const {
    return reinterpret_cast<uint64_t>(at);
  }

  void DoLate() {
    for (; !late_.empty(); late_.pop_front()) {
      const Late& late = late_.front();
      const uint64_t answers = AddressOf(memory_.answer);
      if (late.address >= answers &&
          late.address < answers + sizeof(memory_.answer)) {
        guest_.CheckExecution(
            static_cast<uint16_t>((late.address - answers) / 8));
      }
      std::memcpy(At(late.address), late.bytes.data(), late.bytes.size());
      guest_.Step();
    }
  }
  // A client that does not answer in order does what the dead have sent at any
  // time.
  void LateInBetween() {
    if (++messages_ > 4) DoLate();
  }

  // ---- The device ----

  void Live() {
    port_.Boot();
    const bool same =
        schedule_.variant == Variant::kSameRing && ring_ != nullptr;
    if (!same && !Recover()) return;
    Signal();
    for (int turn = 0; turn < kMaxTurns && !Done(); ++turn) {
      Turn();
      if (over() || port_.dead()) return;
      guest_.Step();
    }
    if (!Done()) guest_.Report(Violation::kHang);
  }

  bool Recover() {
    ring_ = std::make_unique<Ring>(
        *Ring::Create(RingOf(memory_, event_idx_), nullptr,
                      *Ring::Table::Attach(absl::MakeSpan(memory_.region),
                                           ModelMemory::kSize)));
    running_.clear();
    waiting_for_kick_ = false;
    const auto recovered = ring_->Recover(first_index_);
    if (over() || port_.dead()) return false;
    if (!recovered.ok()) {
      guest_.Report(Violation::kRecoveryFailed);
      return false;
    }
    for (const InflightRequest& request : *recovered) {
      running_.push_back(request.head);
    }
    return true;
  }

  void Signal() {
    const bool wanted = ring_->NeedsInterrupt();
    if (wanted && !over()) guest_.interrupted = true;
  }

  void Turn() {
    if (!running_.empty() && random_() % 2 == 0) return Complete();
    if (running_.size() < kAtOnce && (!waiting_for_kick_ || TakeKick()))
      Fetch();
  }

  bool TakeKick() {
    waiting_for_kick_ = !std::exchange(guest_.kicked, false);
    return !waiting_for_kick_;
  }

  void Fetch() {
    const Popped popped = ring_->Pop();
    if (over() || port_.dead()) return;
    if (popped.result == PopResult::kRequest) {
      running_.push_back(popped.head);
    } else if (popped.result == PopResult::kEmpty) {
      waiting_for_kick_ = !ring_->EnableKicks();
    } else {
      guest_.Report(Violation::kBrokenRing);
    }
  }

  void Deliver(const std::vector<Completion>& batch) {
    for (const Completion& done : batch) {
      const uint64_t answer = ModelGuest::Answer(memory_.question[done.head]);
      uint8_t bytes[8];
      std::memcpy(bytes, &answer, sizeof(bytes));
      if (over() ||
          !Write(GuestAddress{AddressOf(&memory_.answer[done.head])}, bytes)
               .ok()) {
        return;
      }
    }
  }

  void Complete() {
    const std::vector<Completion> batch = TakeBatch(running_, random_);
    if (schedule_.variant != Variant::kDataAfterIndex) Deliver(batch);
    if (over()) return;
    const bool published = ring_->Publish(batch).ok();
    if (schedule_.variant == Variant::kDataAfterIndex) Deliver(batch);
    if (over() || port_.dead()) return;
    if (!published) guest_.Report(Violation::kBrokenRing);
    Signal();
  }

  Schedule schedule_;
  std::minstd_rand random_;
  uint16_t first_index_;
  bool event_idx_;
  ModelMemory memory_{};
  ModelGuest guest_;
  Machine machine_;
  DmaPort port_{*this};
  std::deque<Late> late_;  // Sent, and not done yet.
  Cut cut_;
  uint64_t passed_ = 0;
  uint64_t messages_ = 0;
  bool dead_ = false;
  bool refused_ = false;
  std::array<uint64_t, 2> places_{};
  std::unique_ptr<Ring> ring_;
  std::vector<uint16_t> running_;
  bool waiting_for_kick_ = false;
};

struct Tally {
  uint64_t schedules = 0;
  uint64_t violations = 0;
  const char* first = "";
};

template <typename Access>
std::array<uint64_t, 2> RunOne(const Schedule& schedule, Tally& tally) {
  Model<Access> model(schedule);
  const Violation violation = model.Run();
  ++tally.schedules;
  if (violation != Violation::kNone && tally.violations++ == 0) {
    tally.first = ToString(violation);
  }
  return {model.places(0), model.places(1)};
}

// A cut of each kind at every place of the first life, and for each of these
// one of each kind at the first places of the next, its recovery included.
template <typename Access = RightAccess>
Tally EveryPlaceAndPairs(const char* name, Variant variant, uint32_t seeds) {
  constexpr uint64_t kSecondCuts = 24;
  constexpr Cut::Kind kKinds[] = {Cut::Kind::kDeath, Cut::Kind::kRefusal};
  Tally tally;
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    const uint64_t places = RunOne<Access>({variant, seed}, tally)[0];
    for (uint64_t i = 1; i <= places; ++i) {
      for (const Cut::Kind first : kKinds) {
        const uint64_t seconds =
            RunOne<Access>({variant, seed, {{{first, i}}}}, tally)[1];
        for (uint64_t j = 1; j <= std::min(seconds, kSecondCuts); ++j) {
          const Cut::Kind second = kKinds[(i + j) % 2];
          RunOne<Access>({variant, seed, {{{first, i}, {second, j}}}}, tally);
        }
      }
    }
  }
  std::printf("%-20s %7lu schedules %6lu violations %s\n", name,
              static_cast<unsigned long>(tally.schedules),
              static_cast<unsigned long>(tally.violations), tally.first);
  return tally;
}

TEST(DmaRingCrash, NoScheduleOfOneOrTwoCutsIsVisible) {
  const Tally tally = EveryPlaceAndPairs("right", Variant::kRight, 8);
  EXPECT_EQ(tally.violations, 0u);
  EXPECT_GT(tally.schedules, 40000u);
}

TEST(DmaRingWrongOrder, TheTableGoesOnWithoutTheRing) {
  EXPECT_GT(
      EveryPlaceAndPairs<OwnGoesOnAccess>("own goes on", Variant::kRight, 1)
          .violations,
      0u);
}

TEST(DmaRingWrongOrder, TheIndexIsHeldBack) {
  EXPECT_GT(EveryPlaceAndPairs<HeldBackAccess>("held back", Variant::kRight, 1)
                .violations,
            0u);
}

TEST(DmaRingWrongOrder, TheDeadAreNotAwaited) {
  EXPECT_GT(EveryPlaceAndPairs("dead not awaited", Variant::kNothingAwaited, 1)
                .violations,
            0u);
}

TEST(DmaRingWrongOrder, TheRingIsUsedAgain) {
  EXPECT_GT(EveryPlaceAndPairs("same ring", Variant::kSameRing, 1).violations,
            0u);
}

TEST(DmaRingWrongOrder, DataFollowsTheIndex) {
  EXPECT_GT(EveryPlaceAndPairs("data after index", Variant::kDataAfterIndex, 1)
                .violations,
            0u);
}

}  // namespace
}  // namespace holdfast

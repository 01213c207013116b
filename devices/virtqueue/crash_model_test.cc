// The order of stores of SplitRing and InflightTable under a model of crashes:
// the real code, compiled with an Access that kills it after any store, against
// a guest that acts between any two of them. Wrong orders are made by letting
// the same stores happen in another order.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <vector>

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
using Ring = BasicSplitRing<CrashAccess>;
using Table = BasicInflightTable<CrashAccess>;
using Violation = ModelGuest::Violation;

enum class Variant {
  kRight,
  kRightButHeld,  // Through the reordering machinery, in the right order.
  // Wrong ones:
  kClearedBeforePublish,
  kBatchAfterPublish,
  kPublishedBeforeElement,
  kIndexRecordedBeforeClear,
  kPublishedBeforeData,
  kCommittedBeforeCounter,
  kLastBatchIgnored,
  kStoredLastAvailEarly,
  kStoredLastAvailLate,
  kTableIgnored,
  kNoSignalAtTakeover,
  kNoScanAtTakeover,
};

// What a store of Publish or Fetch is for, in the right order.
enum Purpose {
  kOther,
  kElement,
  kCounter,
  kBatch,
  kPublish,
  kInflightBit,
  kRecordedIndex,
};

Purpose PurposeOf(const ModelMemory& memory, const void* to) {
  const auto* at = static_cast<const uint8_t*>(to);
  if (at == reinterpret_cast<const uint8_t*>(&memory.used.header.idx)) {
    return kPublish;
  }
  const auto* ring = reinterpret_cast<const uint8_t*>(memory.used.ring);
  if (at >= ring && at < ring + sizeof(memory.used.ring)) return kElement;
  if (at < memory.region.data() ||
      at >= memory.region.data() + memory.region.size()) {
    return kOther;
  }
  const size_t offset = at - memory.region.data();
  if (offset < sizeof(InflightHeader)) {
    return offset == offsetof(InflightHeader, used_idx) ? kRecordedIndex
                                                        : kBatch;
  }
  switch (offset % sizeof(InflightEntry)) {
    case offsetof(InflightEntry, inflight):
      return kInflightBit;
    case offsetof(InflightEntry, next):
      return kBatch;
    case offsetof(InflightEntry, counter):
      return kCounter;
    default:
      return kOther;
  }
}

int Rank(Variant variant, Purpose purpose) {
  const int right = 10 * static_cast<int>(purpose);
  switch (variant) {
    case Variant::kClearedBeforePublish:
      return purpose == kInflightBit ? 10 * kPublish - 1 : right;
    case Variant::kBatchAfterPublish:
      return purpose == kBatch ? 10 * kPublish + 1 : right;
    case Variant::kPublishedBeforeElement:
      return purpose == kPublish ? -1 : right;
    case Variant::kIndexRecordedBeforeClear:
      return purpose == kRecordedIndex ? 10 * kInflightBit - 1 : right;
    case Variant::kCommittedBeforeCounter:
      return purpose == kInflightBit ? -1 : right;
    default:
      return right;
  }
}

struct Schedule {
  Variant variant;
  uint32_t seed;
  // The first process dies after this many stores, and the second; 0: it does
  // not. Further ones live.
  uint64_t first_death = 0;
  uint64_t second_death = 0;
  // Otherwise: one store in so many is a process's last; 0: off.
  uint32_t one_in = 0;
};

// One run of a schedule: device processes one after the other.
class Model {
 public:
  explicit Model(const Schedule& schedule)
      : schedule_(schedule),
        random_(schedule.seed * 7919 + 13),
        first_index_((schedule.seed & 2) != 0 ? 65533 : 0),
        event_idx_((schedule.seed & 1) != 0),
        guest_(memory_, schedule.seed, kRequests, first_index_, event_idx_),
        stored_last_avail_(first_index_) {
    machine_.meanwhile = [this] { guest_.Step(); };
    machine_.allowed = [this](const void* to) {
      return !(recovering_ && schedule_.variant == Variant::kLastBatchIgnored &&
               PurposeOf(memory_, to) == kInflightBit);
    };
  }

  Violation Run() {
    for (int life = 0; !Done(); ++life) {
      machine_.Boot(Death(life));
      Live(life == 0);
      if (life == 0) first_life_ = machine_.stores();
      if (life == 1) second_life_ = machine_.stores();
      if (machine_.dead()) ++deaths_;
      for (uint32_t i = random_() % 4; i > 0; --i) guest_.Step();
    }
    return guest_.violation();
  }

  // Stores that the processes made.
  uint64_t first_life() const { return first_life_; }
  uint64_t second_life() const { return second_life_; }
  int deaths() const { return deaths_; }

 private:
  static constexpr int kRequests = 7;
  static constexpr size_t kAtOnce = 3;
  // Far more than a run needs; who is not through by then hangs.
  static constexpr int kMaxTurns = 2000;

  bool Done() const {
    return guest_.violation() != Violation::kNone || guest_.finished();
  }

  uint64_t Death(int life) {
    if (schedule_.one_in != 0) return 1 + random_() % (2 * schedule_.one_in);
    if (life == 0) return schedule_.first_death;
    return life == 1 ? schedule_.second_death : 0;
  }

  // One process, from its start to its death or to the end of the run.
  void Live(bool first) {
    ring_ = std::make_unique<Ring>(*Ring::Create(
        RingOf(memory_, event_idx_), &no_memory_,
        *Table::Attach(absl::MakeSpan(memory_.region), ModelMemory::kSize)));
    running_.clear();
    waiting_for_kick_ = false;
    if (!Recover() || machine_.dead()) return;
    TakeOver(first);
    for (int turn = 0; turn < kMaxTurns && !Done(); ++turn) {
      Turn();
      if (machine_.dead()) return;
      guest_.Step();
    }
    if (!Done()) guest_.Report(Violation::kHang);
  }

  bool Recover() {
    recovering_ = true;
    uint16_t base = first_index_;
    if (schedule_.variant == Variant::kTableIgnored) {
      // What VMMs do by themselves: go on behind the last answer.
      ring_->table()->Forget();
      base = memory_.used.header.idx;
    }
    auto recovered = ring_->Recover(base);
    recovering_ = false;
    if (machine_.dead()) return false;
    if (!recovered.ok()) {
      guest_.Report(Violation::kRecoveryFailed);
      return false;
    }
    uint64_t last = 0;
    for (const InflightRequest& request : *recovered) {
      const uint64_t number = guest_.Number(request.head);
      if (number < last) guest_.Report(Violation::kWrongOrder);
      last = number;
      running_.push_back(request.head);
    }
    if (StoresLastAvail()) UseStoredLastAvail();
    return true;
  }

  bool StoresLastAvail() const {
    return schedule_.variant == Variant::kStoredLastAvailEarly ||
           schedule_.variant == Variant::kStoredLastAvailLate;
  }

  // Goes on from an index that was stored apart from the table.
  void UseStoredLastAvail() {
    const size_t tail =
        sizeof(InflightHeader) + ModelMemory::kSize * sizeof(InflightEntry);
    uint16_t offset = stored_last_avail_ - ring_->next_avail();
    std::memcpy(memory_.region.data() + tail, &offset, sizeof(offset));
    if (!ring_->Recover(first_index_).ok()) {
      guest_.Report(Violation::kRecoveryFailed);
    }
    offset = 0;
    std::memcpy(memory_.region.data() + tail, &offset, sizeof(offset));
  }

  void TakeOver(bool first) {
    if (schedule_.variant == Variant::kNoSignalAtTakeover && !first) {
      ring_->NeedsInterrupt();
    } else {
      Signal();
    }
    if (schedule_.variant == Variant::kNoScanAtTakeover && !first) {
      ring_->EnableKicks();
      waiting_for_kick_ = true;
    }
  }

  void Signal() {
    if (ring_->NeedsInterrupt() && !machine_.dead()) guest_.interrupted = true;
  }

  void Turn() {
    if (!running_.empty() && random_() % 2 == 0) return Complete();
    if (running_.size() >= kAtOnce) return;
    if (waiting_for_kick_) {
      if (!guest_.kicked) return;
      guest_.kicked = false;
      waiting_for_kick_ = false;
      if (random_() % 2 == 0) ring_->DisableKicks();
      return;
    }
    Fetch();
  }

  void Fetch() {
    const bool held = schedule_.variant == Variant::kRightButHeld ||
                      schedule_.variant == Variant::kCommittedBeforeCounter;
    if (schedule_.variant == Variant::kStoredLastAvailEarly &&
        memory_.available.header.idx != ring_->next_avail()) {
      CrashAccess::Store(&stored_last_avail_,
                         static_cast<uint16_t>(ring_->next_avail() + 1));
    }
    if (held) machine_.Hold();
    const Popped popped = ring_->Pop();
    if (held) machine_.Release([this](auto& stores) { Sort(stores); });
    if (machine_.dead()) return;
    switch (popped.result) {
      case PopResult::kBroken:
        return guest_.Report(Violation::kBrokenRing);
      case PopResult::kEmpty:
        waiting_for_kick_ = !ring_->EnableKicks();
        return;
      case PopResult::kRequest:
        running_.push_back(popped.head);
    }
    if (schedule_.variant == Variant::kStoredLastAvailLate) {
      CrashAccess::Store(&stored_last_avail_, ring_->next_avail());
    }
  }

  void Execute(const std::vector<Completion>& batch) {
    for (const Completion& done : batch) {
      if (machine_.dead()) return;
      guest_.CheckExecution(done.head);
      CrashAccess::Store(&memory_.answer[done.head],
                         ModelGuest::Answer(memory_.question[done.head]));
    }
  }

  void Complete() {
    const std::vector<Completion> batch = TakeBatch(running_, random_);
    const bool data_first = schedule_.variant != Variant::kPublishedBeforeData;
    if (data_first) Execute(batch);
    const bool held = data_first && schedule_.variant != Variant::kRight &&
                      schedule_.variant != Variant::kCommittedBeforeCounter;
    if (held) machine_.Hold();
    const bool published = ring_->Publish(batch).ok();
    if (held) machine_.Release([this](auto& stores) { Sort(stores); });
    if (!data_first) Execute(batch);
    if (machine_.dead()) return;
    if (!published) guest_.Report(Violation::kBrokenRing);
    Signal();
  }

  void Sort(std::vector<Machine::PendingStore>& stores) {
    std::stable_sort(stores.begin(), stores.end(),
                     [this](const auto& a, const auto& b) {
                       return RankOf(a.to) < RankOf(b.to);
                     });
  }
  int RankOf(const void* to) {
    return Rank(schedule_.variant, PurposeOf(memory_, to));
  }

  Schedule schedule_;
  std::minstd_rand random_;
  uint16_t first_index_;
  bool event_idx_;
  ModelMemory memory_;
  ModelGuest guest_;
  Machine machine_;
  GuestMemory no_memory_;
  std::unique_ptr<Ring> ring_;
  std::vector<uint16_t> running_;
  uint16_t stored_last_avail_;
  bool waiting_for_kick_ = false;
  bool recovering_ = false;
  uint64_t first_life_ = 0;
  uint64_t second_life_ = 0;
  int deaths_ = 0;
};

struct Tally {
  uint64_t schedules = 0;
  uint64_t deaths = 0;
  uint64_t violations = 0;
  uint64_t first_at = 0;  // Which schedule showed the first violation.
  std::map<Violation, uint64_t> kinds;

  void Print(const char* what) const {
    std::printf("%-28s %7lu schedules %7lu deaths %6lu violations", what,
                static_cast<unsigned long>(schedules),
                static_cast<unsigned long>(deaths),
                static_cast<unsigned long>(violations));
    for (const auto& [kind, count] : kinds) {
      std::printf(", %s %lu", ToString(kind),
                  static_cast<unsigned long>(count));
    }
    if (violations != 0) {
      std::printf(", first at %lu", static_cast<unsigned long>(first_at));
    }
    std::printf("\n");
  }
};

struct Lives {
  uint64_t first;
  uint64_t second;
};

Lives RunOne(const Schedule& schedule, Tally& tally) {
  Model model(schedule);
  const Violation violation = model.Run();
  ++tally.schedules;
  tally.deaths += model.deaths();
  if (violation != Violation::kNone) {
    if (tally.violations++ == 0) tally.first_at = tally.schedules;
    ++tally.kinds[violation];
  }
  return {model.first_life(), model.second_life()};
}

// Death after every store of the first process; and for each of these, death
// after each of the first stores of its successor, recovery included.
Tally EveryStoreAndPairs(Variant variant, uint32_t seeds) {
  constexpr uint64_t kSecondDeaths = 24;
  Tally tally;
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    const uint64_t stores = RunOne({variant, seed}, tally).first;
    for (uint64_t i = 1; i <= stores; ++i) {
      const uint64_t successors = RunOne({variant, seed, i}, tally).second;
      for (uint64_t j = 1; j <= std::min(successors, kSecondDeaths); ++j) {
        RunOne({variant, seed, i, j}, tally);
      }
    }
  }
  return tally;
}

// Process after process dies at a random store.
Tally ManyDeaths(Variant variant, uint32_t seeds) {
  Tally tally;
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    RunOne({variant, seed, 0, 0, /*one_in=*/12}, tally);
  }
  return tally;
}

TEST(SplitRingCrash, NoScheduleOfOneOrTwoDeathsIsVisible) {
  const Tally tally = EveryStoreAndPairs(Variant::kRight, 110);
  tally.Print("right order, every store");
  EXPECT_EQ(tally.violations, 0u);
  EXPECT_GT(tally.schedules, 200000u);
}

TEST(SplitRingCrash, NoRunOfManyDeathsIsVisible) {
  const Tally tally = ManyDeaths(Variant::kRight, 50000);
  tally.Print("right order, many deaths");
  EXPECT_EQ(tally.violations, 0u);
  EXPECT_GT(tally.deaths, 200000u);
}

// Else the wrong orders below might be caught for the way they are made.
TEST(SplitRingCrash, HoldingTheStoresBackIsNotWhatIsCaught) {
  const Tally tally = EveryStoreAndPairs(Variant::kRightButHeld, 10);
  tally.Print("right order, held back");
  EXPECT_EQ(tally.violations, 0u);
}

struct WrongOrder {
  Variant variant;
  const char* name;
};

class SplitRingWrongOrder : public ::testing::TestWithParam<WrongOrder> {};

TEST_P(SplitRingWrongOrder, IsCaught) {
  const Tally tally = EveryStoreAndPairs(GetParam().variant, 10);
  tally.Print(GetParam().name);
  EXPECT_GT(tally.violations, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    All, SplitRingWrongOrder,
    ::testing::Values(
        WrongOrder{Variant::kClearedBeforePublish, "ClearedBeforePublish"},
        WrongOrder{Variant::kBatchAfterPublish, "BatchAfterPublish"},
        WrongOrder{Variant::kPublishedBeforeElement, "PublishedBeforeElement"},
        WrongOrder{Variant::kIndexRecordedBeforeClear,
                   "IndexRecordedBeforeClear"},
        WrongOrder{Variant::kPublishedBeforeData, "PublishedBeforeData"},
        WrongOrder{Variant::kCommittedBeforeCounter, "CommittedBeforeCounter"},
        WrongOrder{Variant::kLastBatchIgnored, "LastBatchIgnored"},
        WrongOrder{Variant::kStoredLastAvailEarly, "StoredLastAvailEarly"},
        WrongOrder{Variant::kStoredLastAvailLate, "StoredLastAvailLate"},
        WrongOrder{Variant::kTableIgnored, "TableIgnored"},
        WrongOrder{Variant::kNoSignalAtTakeover, "NoSignalAtTakeover"},
        WrongOrder{Variant::kNoScanAtTakeover, "NoScanAtTakeover"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace holdfast

// The orders of stores of SubmissionQueue and CompletionQueue under a model of
// crashes: the real code, compiled with an Access that kills it after any
// store, against a guest that acts between any two of them. Wrong orders are
// made by letting the same stores happen in another order, and must be caught.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "devices/pci_nvme/completion_queue.h"
#include "devices/pci_nvme/submission_queue.h"
#include "devices/virtqueue/testing/crash_access.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::holdfast::testing::CrashAccess;
using ::holdfast::testing::Machine;

constexpr uint32_t kEntries = 4;  // Of both queues.
constexpr size_t kBlocks = 3;     // Of the disk; one command each at a time.
constexpr size_t kSlots = 3;      // Of the table of what is in flight.
constexpr uint16_t kCommands = 12;
constexpr uint32_t kLife = 7;

// All that outlives a process.
struct World {
  alignas(64) std::array<uint8_t, sizeof(SubmissionHeader) +
                                      kSlots * sizeof(SubmissionEntry)> sq = {};
  alignas(64) std::array<uint8_t, sizeof(CompletionArea)> cq = {};
  alignas(64) std::array<Command, kEntries> commands = {};
  alignas(64) std::array<Completion, kEntries> completions = {};
  std::array<uint64_t, kBlocks> disk = {};
};
World* world;

// Copies into the world are stores, too.
struct Access : CrashAccess {
  static void Copy(void* to, const void* from, size_t size) {
    const auto* at = static_cast<const uint8_t*>(to);
    const auto* begin = reinterpret_cast<const uint8_t*>(world);
    if (at < begin || at >= begin + sizeof(World)) {
      std::memcpy(to, from, size);
      return;
    }
    for (size_t i = 0; i < size; i += 8) {
      uint64_t word;
      std::memcpy(&word, static_cast<const uint8_t*>(from) + i, sizeof(word));
      Store(reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(to) + i), word);
    }
  }
};
using Sq = BasicSubmissionQueue<Access>;
using Cq = BasicCompletionQueue<Access>;

enum class Variant {
  kRight,
  kRightButHeld,  // Through the reordering machinery, in the right order.
  // Wrong ones:
  kJournaledBeforeRecord,
  kWrittenBeforeJournaled,
  kPhaseFirst,
  kPostedBeforeWritten,
  kClearedBeforeJournaled,
  kClearedAfterPosted,
  kCountedAfterPosted,
  kFetchedBeforeCommand,
  kJournalIgnored,
  kTableIgnored,  // What is left is read from the guest's slot again.
  kLeftIgnored,
};

// What a store is for, in the right order.
enum Purpose {
  kCommandCopy,
  kRecord,
  kJournaled,
  kEntry,
  kPhase,
  kClear,
  kTraffic,
  kPosted,
  kOther,
};

Purpose PurposeOf(const void* to) {
  const auto* at = static_cast<const uint8_t*>(to);
  const auto inside = [at](const auto& piece) {
    const auto* begin = reinterpret_cast<const uint8_t*>(&piece);
    return at >= begin && at < begin + sizeof(piece);
  };
  if (inside(world->completions)) {
    const size_t offset =
        at - reinterpret_cast<const uint8_t*>(&world->completions);
    return offset % sizeof(Completion) == 12 ? kPhase : kEntry;
  }
  if (inside(world->cq)) {
    const size_t offset = at - world->cq.data();
    if (offset == offsetof(CompletionArea, journaled)) return kJournaled;
    if (offset == offsetof(CompletionArea, posted)) return kPosted;
    if (offset >= offsetof(CompletionArea, traffic)) return kTraffic;
    return offset > offsetof(CompletionArea, posted) ? kRecord : kOther;
  }
  if (inside(world->sq)) {
    const size_t offset = at - world->sq.data();
    if (offset < sizeof(SubmissionHeader)) return kOther;
    return offset % sizeof(SubmissionEntry) == 0 ? kClear : kCommandCopy;
  }
  return kOther;
}

enum class Step { kFetch, kPost };

int Rank(Variant variant, Step step, Purpose purpose) {
  const int right = 10 * static_cast<int>(purpose);
  if ((step == Step::kFetch) != (variant == Variant::kFetchedBeforeCommand)) {
    return right;
  }
  switch (variant) {
    case Variant::kJournaledBeforeRecord:
      return purpose == kJournaled ? 10 * kRecord - 1 : right;
    case Variant::kWrittenBeforeJournaled:
      return purpose == kJournaled ? 10 * kPhase + 1 : right;
    case Variant::kPhaseFirst:
      return purpose == kPhase ? 10 * kEntry - 1 : right;
    case Variant::kPostedBeforeWritten:
      return purpose == kPosted ? 10 * kJournaled + 1 : right;
    case Variant::kClearedBeforeJournaled:
      return purpose == kClear ? -1 : right;
    case Variant::kClearedAfterPosted:
      return purpose == kClear ? 10 * kPosted + 1 : right;
    case Variant::kCountedAfterPosted:
      return purpose == kTraffic ? 10 * kPosted + 1 : right;
    case Variant::kFetchedBeforeCommand:
      return purpose == kClear ? -1 : right;
    default:
      return right;
  }
}

// One run: a guest, and device processes one after the other.
class Model {
 public:
  Model(Variant variant, uint32_t seed)
      : variant_(variant), random_(seed), one_in_(10 + seed % 60) {
    world_ = {};
    world = &world_;
    machine_.meanwhile = [this] { Guest(); };
  }

  // What was wrong; "" if nothing.
  std::string Run() {
    machine_.Boot(0);
    Sq(absl::MakeSpan(world_.sq)).Format(kLife, {0, kEntries, 0});
    Cq(absl::MakeSpan(world_.cq)).Format(kLife, {0, kEntries, 0, true});
    running_ = true;
    Guest();
    for (int life = 0; life < 200; ++life) {
      machine_.Boot(life < 30 ? 1 + random_() % one_in_ : 0);
      Device();
      if (!wrong_.empty()) return wrong_;
      Guest();
      if (completed_ == kCommands) return CheckTraffic();
    }
    return absl::StrCat(completed_, " completions instead of ", kCommands);
  }

 private:
  // Once the last completion has been ended, too.
  std::string CheckTraffic() {
    machine_.Boot(0);
    Device();
    const Traffic traffic = Cq::TrafficIn(absl::MakeSpan(world_.cq));
    if (wrong_.empty() && (traffic.writes != kCommands || traffic.reads != 0 ||
                           traffic.sectors_written != 2 * kCommands)) {
      return absl::StrCat(traffic.writes, " writes counted");
    }
    return wrong_;
  }

  // ---- The guest: polls, checks, submits ----

  void Guest() {
    if (!running_ || !wrong_.empty()) return;
    const bool idle = random_() % 3 == 0;
    while (!idle && Poll()) {
    }
    // A block that no command is changing holds what the last one wrote.
    for (size_t block = 0; block < kBlocks; ++block) {
      if (busy_[block] == 0 && world_.disk[block] != last_[block]) {
        Wrong(absl::StrCat("block ", block, " holds ", world_.disk[block],
                           " instead of ", last_[block]));
      }
    }
    while (!idle && Submit()) {
    }
  }

  bool Poll() {
    const Completion completion = world_.completions[head_];
    if (((completion.status & 1) != 0) != phase_) return false;
    const uint16_t cid = completion.cid;
    const size_t block =
        std::find(busy_.begin(), busy_.end(), cid) - busy_.begin();
    if (cid == 0 || block == kBlocks) {
      Wrong(absl::StrCat("a completion of ", cid, ", which is not submitted"));
      return false;
    }
    if (world_.disk[block] != cid) Wrong("completed before it was executed");
    busy_[block] = 0;
    last_[block] = cid;
    ++completed_;
    sq_head_ = completion.sq_head;
    head_ = (head_ + 1) % kEntries;
    if (head_ == 0) phase_ = !phase_;
    CqOfGuest::StoreHead(absl::MakeSpan(world_.cq), head_);
    return true;
  }

  bool Submit() {
    const uint16_t cid = next_cid_;
    const size_t block =
        std::find(busy_.begin(), busy_.end(), 0) - busy_.begin();
    if (cid > kCommands || block == kBlocks ||
        (tail_ + 1) % kEntries == sq_head_) {
      return false;
    }
    ++next_cid_;
    busy_[block] = cid;
    Command command = {};
    command.cid = cid;
    command.cdw10 = static_cast<uint32_t>(block);
    world_.commands[tail_] = command;
    tail_ = (tail_ + 1) % kEntries;
    SqOfGuest::StoreTail(absl::MakeSpan(world_.sq), tail_);
    return true;
  }

  void Wrong(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

  // ---- The device: one process, from its start to its death ----

  template <typename Do>
  void Reordered(Step step, Do what) {
    if (variant_ == Variant::kRight) return what();
    machine_.Hold();
    what();
    machine_.Release([&](std::vector<Machine::PendingStore>& stores) {
      std::stable_sort(stores.begin(), stores.end(),
                       [&](const auto& a, const auto& b) {
                         return Rank(variant_, step, PurposeOf(a.to)) <
                                Rank(variant_, step, PurposeOf(b.to));
                       });
    });
  }

  static absl::Status Write(uint64_t address, const Completion& completion) {
    uint32_t words[4];
    std::memcpy(words, &completion, sizeof(words));
    auto* at = reinterpret_cast<uint32_t*>(&world->completions) + address / 4;
    for (int i = 0; i < 4; ++i) Access::Store(at + i, words[i]);
    return absl::OkStatus();
  }

  void Device() {
    Sq sq(absl::MakeSpan(world_.sq));
    Cq cq(absl::MakeSpan(world_.cq));
    if (!sq.Attach(kLife) || !cq.Attach(kLife)) {
      return Wrong("the areas cannot be attached");
    }
    const auto clear = [&sq](const CompletionRecord& record) {
      sq.Clear(record.slot, record.counter);
    };
    if (variant_ == Variant::kJournalIgnored) {
      // As if there were none: the next one takes its place.
      cq = Cq(absl::MakeSpan(world_.cq));
      auto* area = reinterpret_cast<CompletionArea*>(world_.cq.data());
      Access::Store(&area->journaled, area->posted);
      if (machine_.dead()) return;
      if (!cq.Attach(kLife)) return Wrong("cannot be attached");
    }
    if (!cq.Resolve(&Model::Write, clear).ok()) return Wrong("resolve");
    std::vector<size_t> in_flight;
    while (const auto left = sq.TakeLeft()) {
      if (variant_ == Variant::kLeftIgnored) {
        sq.Clear(*left, sq.counter(*left));
      } else {
        in_flight.push_back(*left);
      }
    }
    const size_t left = in_flight.size();
    while (!machine_.dead() && wrong_.empty()) {
      while (sq.HasNew() && sq.HasRoom() && cq.Room() > in_flight.size()) {
        const Command command = world_.commands[sq.head()];
        Reordered(Step::kFetch,
                  [&] { in_flight.push_back(sq.Fetch(command)); });
        if (machine_.dead()) return;
      }
      if (in_flight.empty()) return;
      // Any of them may be ready first.
      const size_t pick = random_() % in_flight.size();
      const size_t slot = in_flight[pick];
      in_flight.erase(in_flight.begin() + pick);
      Command command = sq.command(slot);
      if (variant_ == Variant::kTableIgnored && pick < left) {
        command = world_.commands[(sq.counter(slot) - 1) % kEntries];
      }
      Access::Store(&world_.disk[command.cdw10 % kBlocks],
                    uint64_t{command.cid});
      Completion completion = {};
      completion.cid = command.cid;
      completion.sq_head = sq.head();
      Reordered(Step::kPost, [&] {
        static_cast<void>(cq.Post(completion, sq.counter(slot), slot,
                                  Traffic::OfWrite(1024), &Model::Write,
                                  clear));
      });
    }
  }

  using SqOfGuest = BasicSubmissionQueue<SharedAccess>;
  using CqOfGuest = BasicCompletionQueue<SharedAccess>;

  const Variant variant_;
  std::mt19937 random_;
  const uint32_t one_in_;
  World world_;
  Machine machine_;
  std::string wrong_;
  bool running_ = false;
  uint32_t tail_ = 0;
  uint32_t head_ = 0;
  uint32_t sq_head_ = 0;
  bool phase_ = true;
  uint16_t next_cid_ = 1;
  int completed_ = 0;
  std::array<uint16_t, kBlocks> busy_ = {};
  std::array<uint16_t, kBlocks> last_ = {};
};

// How many of so many schedules go wrong.
int Violations(Variant variant, uint32_t schedules) {
  int violations = 0;
  std::string first;
  for (uint32_t seed = 0; seed < schedules; ++seed) {
    const std::string wrong = Model(variant, seed).Run();
    if (wrong.empty()) continue;
    if (++violations == 1) first = wrong;
  }
  std::printf("%d violations in %u schedules%s%s\n", violations, schedules,
              first.empty() ? "" : ": ", first.c_str());
  return violations;
}

TEST(NvmeQueues, CompleteEachCommandOnceHoweverTheyDie) {
  EXPECT_EQ(Violations(Variant::kRight, 20000), 0);
}

TEST(NvmeQueues, AreRightThroughTheReorderingMachineryToo) {
  EXPECT_EQ(Violations(Variant::kRightButHeld, 5000), 0);
}

class WrongOrders : public ::testing::TestWithParam<Variant> {};

TEST_P(WrongOrders, AreCaught) { EXPECT_GT(Violations(GetParam(), 500), 0); }

INSTANTIATE_TEST_SUITE_P(
    NvmeQueuesControl, WrongOrders,
    ::testing::Values(Variant::kJournaledBeforeRecord,
                      Variant::kWrittenBeforeJournaled, Variant::kPhaseFirst,
                      Variant::kPostedBeforeWritten,
                      Variant::kClearedBeforeJournaled,
                      Variant::kClearedAfterPosted,
                      Variant::kCountedAfterPosted,
                      Variant::kFetchedBeforeCommand, Variant::kJournalIgnored,
                      Variant::kTableIgnored, Variant::kLeftIgnored));

}  // namespace
}  // namespace holdfast::nvme

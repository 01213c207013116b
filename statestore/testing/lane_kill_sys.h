#ifndef HOLDFAST_STATESTORE_TESTING_LANE_KILL_SYS_H_
#define HOLDFAST_STATESTORE_TESTING_LANE_KILL_SYS_H_

// Kills servers of a lane by the thousand while a strict client looks.

#include <array>
#include <cstdint>
#include <string>

#include "statestore/testing/lane_client_sys.h"
#include "statestore/testing/lane_victim_sys.h"

namespace holdfast::testing {

enum class KillMode {
  kRandom,  // At a random instant, by the parent.
  kPoints,  // At a random numbered point, by itself.
  kSteps,   // k instructions after a random point, k growing with every kill.
  kTraced,  // The same under a tracer: slow, for every processor.
};

// What a successor finds in the journal.
enum class LaneState {
  kIdle,    // Nothing of a message consumed or begun.
  kUnread,  // The same, and executed bytes are in the socket.
  kPartOfHeader,
  kPartOfPayload,
  kEscrowed,         // Descriptors in escrow, nothing consumed.
  kReceived,         // Complete, execution never begun.
  kExecuting,        // Execution begun, not committed.
  kExecutingUnread,  // The same, of a message that is in the socket.
  kCommitted,        // No byte of the reply sent.
  kPartlySent,
  kSent,  // All sent, the lane not yet free for the next message.
  kCount,
};

struct KillOptions {
  const char* name = "";
  KillMode mode = KillMode::kRandom;
  LaneClientOptions client;
  int send_buffer = 0;  // SO_SNDBUF of both ends; 0: the default.
  uint64_t kills = 1000;
  uint64_t max_points = 60;   // The last point to die or begin stepping at.
  uint64_t max_steps = 1000;  // kSteps, kTraced: the largest k.
  uint64_t step_stride = 1;   // By how much k grows; wraps at max_steps.
  // After how many kills the lane is served to the end and judged.
  uint64_t kills_per_judgement = 250;
  // kRandom: how often the victim is stopped, signalled and continued before.
  uint32_t pauses = 0;
  LaneFault fault = LaneFault::kNone;
  Lane::Waiting waiting = Lane::Waiting::kAny;
};

struct KillReport {
  uint64_t kills = 0;
  uint64_t requests = 0;  // Answered or, without reply, proven by later ones.
  uint64_t steps = 0;     // Instructions that were single-stepped.
  std::string violation;  // Empty: none. The run ends at the first.
  std::array<uint64_t, static_cast<size_t>(LaneState::kCount)> states{};
  double seconds = 0;

  uint64_t StatesSeen() const;
  // All but the violation.
  void Add(const KillReport& other);
};

// Forks one victim after the other, kills it, waits until it is gone, starts
// the next. Ends at the first violation. Leaves no process behind.
KillReport RunKills(const KillOptions& options);

// One line, and the states that successors found.
void PrintReport(const KillOptions& options, const KillReport& report);

void PrintStates(const KillReport& report);

// `kills` of a run of the whole suite, scaled to as many as the whole suite
// should make: HOLDFAST_KILLS, or with HOLDFAST_LONG=1 `kLongKills`, by default
// `kSuiteKills`.
inline constexpr uint64_t kSuiteKills = 110000;
inline constexpr uint64_t kLongKills = 1000000;
uint64_t ScaledKills(uint64_t kills);

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_LANE_KILL_SYS_H_

// Servers of a torture device are killed while a client reads registers with
// side effects, posts writes, maps windows and sets interrupts. It compares all
// that it sees with a session that nobody kills. Then the same with a mistake,
// which it must see. HOLDFAST_KILLS=<n> scales the suite to n kills.

#include <cstdio>
#include <cstdlib>

#include "devices/vfio_user/testing/kill_sys.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

constexpr uint64_t kSuiteKills = 1000;

uint64_t Scaled(uint64_t kills) {
  const char* wanted = std::getenv("HOLDFAST_KILLS");
  if (wanted == nullptr) return kills;
  const uint64_t scaled =
      kills * std::strtoull(wanted, nullptr, 10) / kSuiteKills;
  return scaled < 10 ? 10 : scaled;
}

KillReport Kill(const char* name, const KillOptions& options) {
  const KillReport report = RunKills(options);
  std::printf(
      "%s: %llu kills, %llu messages, %llu interrupts: %s\n", name,
      static_cast<unsigned long long>(report.kills),
      static_cast<unsigned long long>(report.messages),
      static_cast<unsigned long long>(report.signals),
      report.violation.empty() ? "0 violations" : report.violation.c_str());
  return report;
}

TEST(ServerKill, AtRandomInstants) {
  KillOptions options;
  options.kills = Scaled(500);
  EXPECT_EQ(Kill("random", options).violation, "");
}

TEST(ServerKill, AtNumberedPoints) {
  KillOptions options;
  options.kills = Scaled(500);
  options.at_points = true;
  options.seed = 2;
  EXPECT_EQ(Kill("points", options).violation, "");
}

TEST(ServerKillControl, ADeviceThatIgnoresNamesIsSeen) {
  KillOptions options;
  options.kills = 2000;
  options.at_points = true;
  options.fault = TortureDevice::Fault::kIgnoresNames;
  const KillReport report = Kill("control: names ignored", options);
  EXPECT_NE(report.violation, "");
}

}  // namespace
}  // namespace holdfast::vfio_user

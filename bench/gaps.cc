#include "bench/gaps.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace holdfast::bench {

std::vector<Hit> Hits(const std::vector<Trip>& trips,
                      const std::vector<double>& instants, double window) {
  std::vector<Hit> hits;
  for (const double instant : instants) {
    const Trip* longest = nullptr;
    for (auto trip = std::partition_point(
             trips.begin(), trips.end(),
             [&](const Trip& each) { return each.end <= instant; });
         trip != trips.end() && trip->start < instant + window; ++trip) {
      if (longest == nullptr || Took(*trip) > Took(*longest)) longest = &*trip;
    }
    if (longest == nullptr) continue;
    hits.push_back({longest->end - instant, Took(*longest)});
  }
  return hits;
}

std::vector<Hit> Takeovers(const std::vector<Trip>& firsts,
                           const std::vector<double>& instants) {
  std::vector<Hit> hits;
  auto first = firsts.begin();
  for (size_t i = 0; i < instants.size(); ++i) {
    while (first != firsts.end() && first->end <= instants[i]) ++first;
    if (first == firsts.end()) break;
    if (i + 1 < instants.size() && first->end > instants[i + 1]) continue;
    hits.push_back({first->end - instants[i], Took(*first)});
  }
  return hits;
}

std::vector<double> Untouched(const std::vector<Trip>& trips,
                              const std::vector<double>& instants,
                              double after) {
  std::vector<double> times;
  size_t next = 0;
  for (const Trip& trip : trips) {
    while (next < instants.size() && instants[next] < trip.end) ++next;
    if (next == 0 || trip.start > instants[next - 1] + after) {
      times.push_back(Took(trip));
    }
  }
  std::sort(times.begin(), times.end());
  return times;
}

std::string ToJson(const std::vector<Hit>& hits) {
  return absl::StrCat("[",
                      absl::StrJoin(hits, ",",
                                    [](std::string* out, const Hit& hit) {
                                      absl::StrAppend(
                                          out, "[", absl::SixDigits(hit.gap),
                                          ",", absl::SixDigits(hit.took), "]");
                                    }),
                      "]");
}

std::string MedianAndLongest(const std::vector<double>& ascending) {
  if (ascending.empty()) return "[0,0]";
  return absl::StrCat("[", absl::SixDigits(ascending[ascending.size() / 2]),
                      ",", absl::SixDigits(ascending.back()), "]");
}

}  // namespace holdfast::bench
